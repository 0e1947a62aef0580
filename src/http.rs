//! One HTTP exchange with the upstream: pooled, bounded, without redirects, proxies or repeats of its own. The only
//! room that knows reqwest; it knows nothing of the cloud's API.

use std::{
    borrow::Cow,
    convert::Infallible,
    error::Error as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use reqwest::{Certificate, Identity, Proxy, Url};
use zeroize::Zeroizing;

use crate::{
    call::Progress,
    mask::Masker,
    secret::{self, Secret},
    telemetry::Metrics,
};

/// As much of an answer's body as is ever read.
pub(crate) const MOST_BODY: usize = 64 * 1024;

/// Where the upstream is and how to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) base: Url,
    pub(crate) proxy: Option<Url>,
    /// Further roots to trust, PEM.
    pub(crate) extra_roots: Option<Vec<u8>>,
    /// A certificate to show the upstream and its key, PEM.
    pub(crate) identity: Option<Secret<Vec<u8>>>,
    pub(crate) connect_timeout: Duration,
    /// Shorter than common servers keep idle connections, so that it is we who close them.
    pub(crate) idle_timeout: Duration,
}

/// A connection pool to one upstream.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    client: reqwest::Client,
    base: Url,
    /// Host and port as the `Host` header has them.
    authority: String,
    metrics: Arc<Metrics>,
}

/// What came back, its body read no further than is of use.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// What could be read of it, where it was.
    pub(crate) body: Bytes,
}

/// Why there is no answer. The texts name no URL, and the secrets of the request are masked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request never left.
    NotSent(String),
    /// The request left, and the connection broke.
    Lost(String),
    /// The request left, and what came back is no HTTP.
    Garbled(String),
}

impl Upstream {
    /// Makes the pool; opens nothing yet.
    ///
    /// # Errors
    ///
    /// The certificates can't be read, or the proxy's address can't be used.
    pub(crate) fn new(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("apig-grpc-gateway/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry X-Auth-Token to another host; reqwest strips only the headers it knows.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Repeats are decided where the cloud's error codes are known.
            .retry(reqwest::retry::never())
            // Also switches off the proxies that the environment names.
            .no_proxy()
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(settings.idle_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            // Idle connections are dropped by the pool; pings are for those that calls wait on.
            .http2_keep_alive_while_idle(false);
        if let Some(proxy) = &settings.proxy {
            builder = builder.proxy(Proxy::all(proxy.clone()).map_err(|fault| chain(&fault))?);
        }
        if let Some(pem) = &settings.extra_roots {
            let roots = Certificate::from_pem_bundle(pem).map_err(|fault| chain(&fault))?;
            builder = builder.tls_certs_merge(roots);
        }
        if let Some(pem) = &settings.identity {
            let identity = Identity::from_pem(pem.expose())
                .map_err(|_| "upstream-client-certificate and upstream-client-key can't be used".to_owned())?;
            builder = builder.identity(identity);
        }
        let client = builder.build().map_err(|fault| chain(&fault))?;
        let host = settings.base.host_str().unwrap_or_default();
        // A default port is in neither.
        let authority = settings.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { client, base: settings.base.clone(), authority, metrics })
    }

    /// Host and port as the `Host` header has them.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path on the wire of a path of the API.
    pub(crate) fn wire_path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        match self.base.path().trim_end_matches('/') {
            "" => Cow::Borrowed(path),
            before => Cow::Owned(format!("{before}{path}")),
        }
    }

    /// One exchange of the gateway's own, such as a token's: its answer is read up to [`MOST_BODY`], whatever its status.
    ///
    /// # Errors
    ///
    /// There is no answer; the text names no URL, and secrets are masked.
    pub(crate) async fn fetch(
        &self,
        verb: Method,
        path: &str,
        query: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
        masker: &Masker<'_>,
    ) -> Result<Answer, String> {
        let mut url = self.base.clone();
        url.set_path(&self.wire_path(path));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let mut request = reqwest::Request::new(verb, url);
        *request.headers_mut() = headers;
        *request.body_mut() = body.map(Into::into);
        match self.client.execute(request).await {
            Ok(response) => Ok(read(response, true).await),
            Err(fault) => Err(told(fault, masker)),
        }
    }

    /// Sends one request and waits for its answer. `path` is one of [`wire_path`](Self::wire_path) and holds nothing that
    /// needs encoding.
    ///
    /// # Errors
    ///
    /// [`Failure::NotSent`] only if no byte of the request can have reached the upstream's handler.
    pub(crate) async fn exchange(
        &self,
        verb: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
        progress: &Arc<Progress>,
        masker: &Masker<'_>,
    ) -> Result<Answer, Failure> {
        // Lets the runtime look at its sockets first: a connection that the upstream closed while it was idle is then known
        // to be closed, and is not taken. What crosses our request on the wire stays a lost connection.
        tokio::task::yield_now().await;
        let started = Instant::now();
        let mut url = self.base.clone();
        url.set_path(path);
        if url.path() != path {
            return Err(Failure::NotSent("the path would change on its way".into()));
        }
        let mut request = reqwest::Request::new(verb.clone(), url);
        *request.headers_mut() = headers;
        match body {
            Some(bytes) => *request.body_mut() = Some(Outgoing::body(bytes, progress)),
            // Without a body there is no telling when the request leaves.
            None => progress.sent(),
        }
        let result = self.client.execute(request).await;
        let label = result.as_ref().ok().map(reqwest::Response::status);
        self.metrics.upstream(&verb, label, started.elapsed());
        match result {
            Ok(response) => Ok(read(response, false).await),
            Err(fault) if !progress.is_unknown() => Err(Failure::NotSent(told(fault, masker))),
            Err(fault) if is_parse_error(&fault) => Err(Failure::Garbled(told(fault, masker))),
            Err(fault) => Err(Failure::Lost(told(fault, masker))),
        }
    }
}

/// Reads an answer: its body if it is an error's, or if it is wanted anyhow. A body that breaks off, or never ends, does
/// not take the status away.
async fn read(mut response: reqwest::Response, wants_body: bool) -> Answer {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    // It may hold a credential. A buffer that grows leaves its old memory as it was.
    let length = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let mut body = Zeroizing::new(Vec::new());
    if wants_body {
        body.reserve_exact(length.min(MOST_BODY));
    }
    if wants_body || status.is_client_error() || status.is_server_error() {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = MOST_BODY - body.len();
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() >= room {
                break;
            }
        }
    }
    Answer { status, headers, body: secret::bytes(body) }
}

/// A request body that tells when it leaves.
///
/// The HTTP client asks for the body only once it has a connection and is writing the request's head. Before that
/// nothing has left, whatever went wrong; and a head without its body is not acted on.
#[derive(Debug)]
struct Outgoing {
    bytes: Option<Bytes>,
    progress: Arc<Progress>,
}

impl Outgoing {
    fn body(bytes: Bytes, progress: &Arc<Progress>) -> reqwest::Body {
        debug_assert!(!bytes.is_empty(), "an empty body is never asked for");
        reqwest::Body::wrap(Self { bytes: Some(bytes), progress: Arc::clone(progress) })
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.progress.sent();
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

fn is_parse_error(fault: &reqwest::Error) -> bool {
    let mut cause = fault.source();
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error of an exchange: parts of it, such as names in a certificate, come from the other side.
fn told(fault: reqwest::Error, masker: &Masker<'_>) -> String {
    masker.mask(&chain(&fault.without_url())).into_owned()
}

/// An error with its causes, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
