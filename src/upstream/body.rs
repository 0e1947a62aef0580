//! Bodies of requests and answers.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    BODY_TIMEOUT, MOST_BODY, Response, SendHook, chain,
    pool::{Connection, Connections},
};
use crate::{mask::Masker, secret};

/// The body of a request, or none, which tells when hyper takes the request up.
///
/// hyper asks a body for its end once it has a connection and is about to write the request's head. Before that nothing
/// has left, also of a request without a body.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    bytes: Option<Bytes>,
    hook: Arc<dyn SendHook>,
}

impl Outgoing {
    pub(super) fn new(bytes: Option<Bytes>, hook: Arc<dyn SendHook>) -> Self {
        Self { bytes: bytes.filter(|bytes| !bytes.is_empty()), hook }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.hook.sent();
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.hook.sent();
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// The head of an answer, its body unread.
#[derive(Debug)]
pub(crate) struct Head {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    /// The HTTP/1.1 connection and its pool, until the body has been read.
    lease: Option<(Arc<Connections>, Connection)>,
}

/// Why the body of a success is not there as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is longer than the limit.
    TooLarge,
    /// Its bytes were not granted.
    NotCharged,
    /// It did not end in time.
    TimedOut,
    /// It broke off, or is no HTTP; the secrets of the request are masked.
    Incomplete(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "its body is too large",
            Self::NotCharged => "request buffer memory is exhausted",
            Self::TimedOut => "its body did not end in time",
            Self::Incomplete(cause) => return write!(f, "its body is not complete: {cause}"),
        })
    }
}

impl Head {
    pub(super) fn new(answer: http::Response<Incoming>, pool: &Arc<Connections>, connection: Connection) -> Self {
        let (parts, body) = answer.into_parts();
        let mut lease = (!connection.is_http2()).then(|| (Arc::clone(pool), connection));
        if body.is_end_stream() {
            release(lease.take());
        }
        Self { status: parts.status, headers: parts.headers, body, lease }
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Reads the body of an error, until then and for at most [`BODY_TIMEOUT`], and of it [`MOST_BODY`]. A body that breaks
    /// off, stalls, or never ends does not take the status away.
    pub(crate) async fn read(mut self, until: Instant) -> Response {
        let until = until.min(Instant::now() + BODY_TIMEOUT);
        let mut body = Buffer::default();
        if self.status.is_client_error() || self.status.is_server_error() {
            body.reserve(self.length().min(MOST_BODY));
            loop {
                match tokio::time::timeout_at(until, self.chunk()).await {
                    Ok(Ok(Some(chunk))) => {
                        let room = MOST_BODY - body.0.len();
                        body.extend(chunk.get(..room).unwrap_or(&chunk));
                        if chunk.len() >= room {
                            break;
                        }
                    }
                    Ok(Ok(None)) => {
                        release(self.lease.take());
                        break;
                    }
                    Ok(Err(_)) | Err(_) => break,
                }
            }
        }
        Response { status: self.status, headers: self.headers, body: body.into_bytes() }
    }

    /// Reads the whole body of a success. `charge` is asked before each piece is kept.
    ///
    /// # Errors
    ///
    /// The body is longer than `limit`, breaks off, does not end in time, or is refused by `charge`. It is never cut.
    pub(crate) async fn read_success(
        mut self,
        until: Instant,
        limit: usize,
        mut charge: impl FnMut(usize) -> bool,
        masker: &Masker<'_>,
    ) -> Result<Response, BodyError> {
        let mut body = Buffer::default();
        // Room for as much as is announced is made only as it is charged.
        if self.length() > limit {
            return Err(BodyError::TooLarge);
        }
        loop {
            let chunk = tokio::time::timeout_at(until, self.chunk()).await.map_err(|_| BodyError::TimedOut)?;
            let chunk = chunk.map_err(|error| BodyError::Incomplete(masker.mask(&chain(&error)).into_owned()))?;
            let Some(chunk) = chunk else { break };
            if chunk.len() > limit - body.0.len() {
                return Err(BodyError::TooLarge);
            }
            if !charge(chunk.len()) {
                return Err(BodyError::NotCharged);
            }
            body.extend(&chunk);
        }
        release(self.lease.take());
        Ok(Response { status: self.status, headers: self.headers, body: body.into_bytes() })
    }

    /// The length that is announced, or 0.
    fn length(&self) -> usize {
        self.body.size_hint().exact().map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// The next piece; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        while let Some(frame) = self.body.frame().await {
            // Trailers say nothing here.
            if let Ok(chunk) = frame?.into_data() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

fn release(lease: Option<(Arc<Connections>, Connection)>) {
    if let Some((pool, connection)) = lease {
        pool.put(connection);
    }
}

/// The body of an answer, which may hold a credential: memory that is left for a larger one is wiped.
#[derive(Default)]
pub(super) struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    pub(super) fn reserve(&mut self, length: usize) {
        self.0.reserve_exact(length);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn into_bytes(self) -> Bytes {
        secret::bytes(self.0)
    }
}
