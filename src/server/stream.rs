//! Streaming calls of health and reflection: reads requests ahead up to a limit, and wraps the response body to hold the
//! permit and to end with the stream's error.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::{Instant, Sleep},
};
use tonic::{Status, body};

use super::request_body::{BodySource, PREFIX, PROGRESS_TIMEOUT};
use crate::{admission::Permit, status};

/// The message limit of health and reflection: their requests contain names of services and files.
pub(super) const MAX_MESSAGE: usize = 4 * 1024;

/// The maximum memory of a stream's requests that wait for the service.
pub(super) const MAX_AHEAD: usize = 16 * 1024;

/// The memory overhead of a waiting request.
const MESSAGE_COST: usize = 64;

/// The status that replaces the service's status at the end of a stream.
pub(super) type Failure = Arc<OnceLock<Status>>;

/// Reads the requests of a stream in a separate task. Otherwise unread requests would fill the connection's flow-control
/// window while the peer does not read responses.
pub(super) fn read_ahead<B: BodySource>(body: B, permit: &Arc<Permit>) -> (Requests, Failure) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let ahead = Arc::new(AtomicUsize::new(0));
    let failure = Failure::default();
    let requests = Requests { receiver, ahead: Arc::clone(&ahead) };
    let (permit, failed) = (Arc::clone(permit), Arc::clone(&failure));
    tokio::spawn(async move {
        let _permit = permit;
        let end = tokio::select! {
            end = forward(body, &sender, &ahead) => end,
            () = sender.closed() => Ok(()),
        };
        if let Err(status) = end {
            let _ = failed.set(status);
        }
    });
    (requests, failure)
}

/// Forwards complete messages up to the limit.
async fn forward<B: BodySource>(
    mut body: B,
    sender: &UnboundedSender<Bytes>,
    ahead: &AtomicUsize,
) -> Result<(), Status> {
    let mut message = BytesMut::new();
    let mut deadline = Instant::now();
    loop {
        let frame = if message.is_empty() {
            body.frame().await
        } else {
            let frame = tokio::time::timeout_at(deadline, body.frame()).await;
            frame.map_err(|_| status::request_stalled(PROGRESS_TIMEOUT).status(true))?
        };
        // The caller has sent its last request, or is gone.
        let Some(Ok(frame)) = frame else { break };
        let Ok(mut chunk) = frame.into_data() else { break };
        while chunk.has_remaining() {
            if message.is_empty() {
                deadline = Instant::now() + PROGRESS_TIMEOUT;
            }
            let end = match message.first_chunk::<PREFIX>() {
                None => PREFIX,
                Some(prefix) => PREFIX + length(*prefix)?,
            };
            let taken = chunk.len().min(end - message.len());
            message.extend_from_slice(&chunk.split_to(taken));
            let Some(prefix) = message.first_chunk::<PREFIX>() else { continue };
            if message.len() == PREFIX + length(*prefix)? {
                let message = message.split().freeze();
                if ahead.fetch_add(MESSAGE_COST + message.len(), Ordering::Relaxed) > MAX_AHEAD {
                    return Err(status::too_far_ahead(MAX_AHEAD).status(true));
                }
                if sender.send(message).is_err() {
                    return Ok(());
                }
            }
        }
    }
    if message.is_empty() { Ok(()) } else { Err(malformed("the body ends before the end of the message")) }
}

fn length([flag, length @ ..]: [u8; PREFIX]) -> Result<usize, Status> {
    if flag != 0 {
        return Err(malformed("compressed message without grpc-encoding"));
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE { Err(status::message_too_large(MAX_MESSAGE).status(true)) } else { Ok(length) }
}

fn malformed(cause: &str) -> Status {
    status::unreadable_message(cause).status(true)
}

/// The requests of a stream as a request body for tonic.
#[derive(Debug)]
pub(super) struct Requests {
    receiver: UnboundedReceiver<Bytes>,
    ahead: Arc<AtomicUsize>,
}

impl Body for Requests {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let message = ready!(self.receiver.poll_recv(cx));
        Poll::Ready(message.map(|message| {
            self.ahead.fetch_sub(MESSAGE_COST + message.len(), Ordering::Relaxed);
            Ok(Frame::data(message))
        }))
    }
}

/// The response body of a stream. It ends with the status of the failure, if any, and at the deadline.
#[derive(Debug)]
pub(super) struct ResponseBody {
    /// `None` after the deadline.
    inner: Option<body::Body>,
    failure: Failure,
    deadline: Pin<Box<Sleep>>,
    _permit: Arc<Permit>,
}

impl ResponseBody {
    pub(super) fn new(inner: body::Body, failure: Failure, permit: Arc<Permit>, deadline: Instant) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(deadline));
        Self { inner: Some(inner), failure, deadline, _permit: permit }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
            ready!(this.deadline.as_mut().poll(cx));
            this.inner = None;
            return Poll::Ready(Some(trailers(&status::deadline_exceeded(false).status(true))));
        };
        if let Some(Ok(frame)) = &frame
            && frame.is_trailers()
            && let Some(status) = this.failure.get()
        {
            return Poll::Ready(Some(trailers(status)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }
}

fn trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use http_body_util::StreamBody;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::{
        admission::{Admission, Class, Limits, tests::assert_idle},
        peer::{Identity, Peer},
    };

    type Sender = UnboundedSender<Result<Frame<Bytes>, Infallible>>;

    struct Open {
        admission: Arc<Admission>,
        sender: Sender,
        requests: Requests,
        answer: ResponseBody,
    }

    /// A stream of a service that answers nothing.
    fn open() -> Open {
        let limits = Limits { concurrency: 1, memory: 1 << 20, message: 1 << 20 };
        let admission = Arc::new(Admission::new(limits));
        let connection = admission.connect(&Peer { identity: Identity::Nobody, address: None });
        let permit = Arc::new(connection.admit(Class::Stream, 0, std::time::Instant::now()).unwrap());
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)));
        let (requests, failure) = read_ahead(body, &permit);
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        let end = futures_util::stream::iter([Ok::<_, Infallible>(Frame::<Bytes>::trailers(trailers))]);
        let answer = ResponseBody::new(
            body::Body::new(StreamBody::new(end)),
            failure,
            permit,
            Instant::now() + 24 * PROGRESS_TIMEOUT,
        );
        Open { admission, sender, requests, answer }
    }

    fn send(sender: &Sender, bytes: &[u8]) {
        sender.send(Ok(Frame::data(Bytes::copy_from_slice(bytes)))).unwrap();
    }

    fn frame(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], message].concat()
    }

    async fn status(mut answer: ResponseBody) -> (Code, Option<String>) {
        let trailers = answer.frame().await.unwrap().unwrap().into_trailers().unwrap();
        let status = Status::from_header_map(&trailers).unwrap();
        (status.code(), status.get_details_error_info().map(|info| info.reason))
    }

    #[tokio::test]
    async fn messages_pass_whole_however_they_are_cut() {
        let Open { admission, sender, mut requests, answer } = open();
        for byte in [frame(b"one"), frame(b""), frame(&[7; MAX_MESSAGE])].concat() {
            send(&sender, &[byte]);
        }
        for expected in [&b"one"[..], b"", &[7; MAX_MESSAGE]] {
            let message = requests.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(message, frame(expected));
        }
        assert!(poll!(requests.frame()).is_pending());
        drop(sender);
        assert!(requests.frame().await.is_none());
        assert_eq!(status(answer).await, (Code::Ok, None));
        while admission.memory_in_use() > 0 {
            tokio::task::yield_now().await;
        }
        assert_idle(&admission);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_the_error_of_its_requests() {
        let invalid = Some("INVALID_REQUEST".to_owned());
        let large = [&[0][..], &4097u32.to_be_bytes()].concat();
        // The service reads none of these, and each costs more than its bytes.
        let many = frame(b"").repeat(1 + MAX_AHEAD / MESSAGE_COST);
        for (bytes, code, reason) in [
            (large, Code::ResourceExhausted, invalid.clone()),
            (many, Code::ResourceExhausted, invalid.clone()),
            (vec![1, 0, 0, 0, 0], Code::InvalidArgument, invalid),
            (frame(b"half")[..7].to_vec(), Code::DeadlineExceeded, Some("DEADLINE_EXCEEDED".to_owned())),
        ] {
            let Open { admission, sender, requests, answer } = open();
            send(&sender, &bytes);
            while !sender.is_closed() {
                tokio::time::sleep(PROGRESS_TIMEOUT).await;
            }
            assert_eq!(status(answer).await, (code, reason));
            drop(requests);
            assert_idle(&admission);
        }
    }

    #[tokio::test]
    async fn a_service_that_ends_leaves_nothing_that_reads() {
        let Open { admission, sender, requests, answer } = open();
        drop(requests);
        sender.closed().await;
        assert!(admission.memory_in_use() > 0, "its answer is not complete");
        drop(answer);
        assert_idle(&admission);
    }
}
