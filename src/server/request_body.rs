//! Reads the message of a unary or server-streaming request before tonic does: rejects oversized messages by their length
//! prefix, decompresses gzip as it arrives, and charges each received byte. tonic then reads one uncompressed frame, and
//! each chunk of it is freed as soon as it has been copied.

mod inflater;
mod segments;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame};
use tokio::time::Instant;
use tonic::Status;

use self::{inflater::Inflater, segments::Segments};
use crate::{
    admission::{Ledger, Permit, Rejected},
    status,
};

/// Timeout for [`PROGRESS`] more bytes of an unfinished body, or its end.
pub(super) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// The bytes that count as progress of an unfinished body.
const PROGRESS: usize = 4 * 1024;

/// The length of a gRPC message's prefix: compressed flag and message length.
pub(super) const PREFIX: usize = 5;

static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// A request body as received: hyper's, or a test's.
pub(super) trait BodySource:
    Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B> BodySource for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

/// A complete message as a request body for tonic.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// The frame, if it arrived in one chunk.
    whole: Option<Bytes>,
    /// Otherwise the parts of the frame, in order.
    parts: VecDeque<Bytes>,
}

/// An error reading a message.
#[derive(Debug)]
pub(super) enum ReadError {
    Rejected(Rejected),
    /// The message exceeds this limit in bytes.
    TooLarge(usize),
    Malformed(String),
    /// The stream was reset or its connection broke.
    Cut,
    /// The body made no progress.
    Stalled,
}

impl From<Rejected> for ReadError {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl ReadError {
    fn malformed(text: &str) -> Self {
        Self::Malformed(text.to_owned())
    }

    pub(super) fn status(&self, is_change: bool) -> Status {
        let local = match self {
            Self::Rejected(rejected) => status::rejected(*rejected),
            Self::TooLarge(limit) => status::message_too_large(*limit),
            Self::Malformed(cause) => status::unreadable_message(cause),
            // For log and metrics: the caller is gone.
            Self::Cut => return Status::cancelled("the request was cancelled before its message was complete"),
            Self::Stalled => status::request_stalled(PROGRESS_TIMEOUT),
        };
        local.status(is_change)
    }
}

/// Removes `grpc-encoding` from the headers; returns whether it is gzip.
///
/// # Errors
///
/// The encoding is not supported.
pub(super) fn take_encoding(headers: &mut HeaderMap, is_change: bool) -> Result<bool, Status> {
    match headers.remove(&GRPC_ENCODING).as_ref().map(http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(_) => Err(status::unsupported_encoding("gzip,identity", is_change)),
    }
}

/// Reads the message of a request.
///
/// # Errors
///
/// [`ReadError`], as early as possible.
pub(super) async fn read<B: BodySource>(
    mut body: B,
    is_gzip: bool,
    limit: usize,
    permit: &Permit,
) -> Result<RequestBody, ReadError> {
    let mut reader = Reader::new(is_gzip, limit);
    // The body nearly always arrives with the head, and then needs no entry in the registry of unfinished requests.
    let mut ledger = permit;
    match poll_fn(|cx| Poll::Ready(reader.poll(&mut body, &mut ledger, cx))).await {
        Poll::Ready(end) => end?,
        // Boxed, to keep the future small for calls that do not wait.
        Poll::Pending => Box::pin(reader.wait(&mut body, permit)).await?,
    }
    Ok(reader.finish())
}

/// The state of reading between two chunks.
#[derive(Debug)]
struct Reader {
    is_gzip: bool,
    limit: usize,
    prefix: [u8; PREFIX],
    /// Received bytes of the prefix.
    filled: usize,
    /// The length of the message by its prefix, and the bytes received of it.
    length: usize,
    received: usize,
    /// All received bytes.
    total: usize,
    whole: Option<Bytes>,
    segments: Segments,
    inflater: Option<Box<Inflater>>,
}

impl Reader {
    fn new(is_gzip: bool, limit: usize) -> Self {
        Self {
            is_gzip,
            limit,
            prefix: [0; PREFIX],
            filled: 0,
            length: 0,
            received: 0,
            total: 0,
            whole: None,
            segments: Segments::default(),
            inflater: None,
        }
    }

    /// Reads until the body ends, fails, or is pending.
    fn poll<B: BodySource>(
        &mut self,
        body: &mut B,
        ledger: &mut impl Ledger,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ReadError>> {
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => self.take(chunk, ledger)?,
                    // Trailers end a body.
                    Err(_) => return Poll::Ready(self.end()),
                },
                Some(Err(_)) => return Poll::Ready(Err(ReadError::Cut)),
                None => return Poll::Ready(self.end()),
            }
        }
    }

    /// Waits for the rest of the body, registered as an unfinished request.
    async fn wait<B: BodySource>(&mut self, body: &mut B, permit: &Permit) -> Result<(), ReadError> {
        self.detach(permit)?;
        let mut ledger = permit.unfinished()?;
        let mut timer = std::pin::pin!(tokio::time::sleep(PROGRESS_TIMEOUT));
        let mut mark = self.total;
        poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll(body, &mut ledger, cx) {
                return Poll::Ready(end);
            }
            ledger.watch(cx.waker())?;
            if self.total - mark >= PROGRESS {
                mark = self.total;
                ledger.progress();
                timer.as_mut().reset(Instant::now() + PROGRESS_TIMEOUT);
            }
            ready!(timer.as_mut().poll(cx));
            Poll::Ready(Err(ReadError::Stalled))
        })
        .await?;
        Ok(ledger.complete()?)
    }

    /// Copies a chunk that has to be kept: it is a slice of the connection's read buffer and would keep all of it alive.
    fn detach(&mut self, permit: &Permit) -> Result<(), ReadError> {
        let Some(whole) = self.whole.take() else { return Ok(()) };
        permit.release(whole.len());
        self.segments.write(whole.get(PREFIX..).unwrap_or_default());
        Ok(permit.charge(self.segments.take_uncharged())?)
    }

    fn take(&mut self, mut chunk: Bytes, ledger: &mut impl Ledger) -> Result<(), ReadError> {
        self.total += chunk.len();
        if self.filled == 0 && chunk.first() == Some(&0) && self.is_whole(&chunk)? {
            ledger.charge(chunk.len())?;
            self.filled = PREFIX;
            self.length = chunk.len() - PREFIX;
            self.received = self.length;
            self.whole = Some(chunk);
            return Ok(());
        }
        if self.filled < PREFIX {
            let unfilled = self.prefix.get_mut(self.filled..).unwrap_or_default();
            let taken = unfilled.len().min(chunk.len());
            chunk.copy_to_slice(unfilled.split_at_mut(taken).0);
            self.filled += taken;
            if self.filled < PREFIX {
                return Ok(());
            }
            self.length = self.announced(self.prefix)?;
        }
        if chunk.len() > self.length - self.received {
            return Err(ReadError::malformed("the body continues after the message"));
        }
        self.received += chunk.len();
        if self.prefix[0] == 0 {
            self.segments.write(&chunk);
            return Ok(ledger.charge(self.segments.take_uncharged())?);
        }
        if chunk.is_empty() {
            return Ok(());
        }
        if self.inflater.is_none() {
            ledger.charge(inflater::COST)?;
        }
        let inflater = self.inflater.get_or_insert_with(|| Box::new(Inflater::new(self.limit)));
        inflater.write(&chunk, ledger)?;
        if self.received == self.length
            && let Some(inflater) = self.inflater.take()
        {
            self.segments = inflater.finish(ledger)?;
            ledger.release(inflater::COST);
        }
        Ok(())
    }

    /// Whether the chunk is exactly one uncompressed frame.
    fn is_whole(&self, chunk: &Bytes) -> Result<bool, ReadError> {
        let Some(prefix) = chunk.first_chunk::<PREFIX>() else { return Ok(false) };
        Ok(self.announced(*prefix)? == chunk.len() - PREFIX)
    }

    /// The message length in a prefix.
    fn announced(&self, [flag, length @ ..]: [u8; PREFIX]) -> Result<usize, ReadError> {
        match flag {
            0 => {}
            1 if self.is_gzip => {}
            1 => return Err(ReadError::malformed("compressed message without grpc-encoding")),
            _ => return Err(ReadError::malformed("the compressed flag is neither 0 nor 1")),
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.limit { Err(ReadError::TooLarge(self.limit)) } else { Ok(length) }
    }

    /// Checks that the message is complete at the end of the body.
    fn end(&self) -> Result<(), ReadError> {
        if self.filled == 0 {
            return Err(ReadError::malformed("the body is empty"));
        }
        if self.filled < PREFIX || self.received < self.length {
            return Err(ReadError::malformed("the body ends before the end of the message"));
        }
        if self.prefix[0] == 1 && self.length == 0 {
            return Err(ReadError::malformed("gzip: no data"));
        }
        Ok(())
    }

    fn finish(self) -> RequestBody {
        match self.whole {
            Some(whole) => RequestBody { whole: Some(whole), parts: VecDeque::new() },
            None => RequestBody { whole: None, parts: self.segments.into_frame() },
        }
    }
}

impl RequestBody {
    /// The message without its prefix.
    pub(super) fn message(&self) -> impl Buf {
        let all = self.whole.iter().chain(&self.parts).map(Bytes::len).sum();
        let mut message = Slices { current: self.whole.as_deref().unwrap_or_default(), parts: self.parts.iter(), all };
        message.skip_empty();
        message.advance(PREFIX);
        message
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.whole.take().or_else(|| self.parts.pop_front());
        Poll::Ready(next.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_none() && self.parts.is_empty()
    }
}

/// The parts of a message as one buffer.
#[derive(Debug)]
struct Slices<'a> {
    current: &'a [u8],
    parts: std::collections::vec_deque::Iter<'a, Bytes>,
    /// The remaining bytes of all parts.
    all: usize,
}

impl Slices<'_> {
    /// Advances to the next part that is not empty.
    fn skip_empty(&mut self) {
        while self.current.is_empty() {
            let Some(part) = self.parts.next() else { return };
            self.current = part;
        }
    }
}

impl Buf for Slices<'_> {
    fn remaining(&self) -> usize {
        self.all
    }

    fn chunk(&self) -> &[u8] {
        self.current
    }

    fn advance(&mut self, mut count: usize) {
        self.all -= count;
        while count > 0 {
            let taken = count.min(self.current.len());
            self.current = self.current.get(taken..).unwrap_or_default();
            count -= taken;
            self.skip_empty();
        }
    }
}
