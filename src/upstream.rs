//! One HTTP exchange with the upstream: pooled, bounded, without redirects, proxies or repeats of its own. The only
//! room that knows reqwest; it knows nothing of the cloud's API.

mod tls;

use std::{
    borrow::Cow,
    convert::Infallible,
    error::Error as _,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use reqwest::{Proxy, Url};
use zeroize::Zeroizing;

pub(crate) use self::tls::TlsFiles;
use self::tls::{Fault, Material};
use crate::{mask::Masker, secret, telemetry::Metrics};

/// As much of an answer's body as is ever read.
pub(crate) const MOST_BODY: usize = 64 * 1024;

/// The longest wait for the body of an answer, after its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the upstream is and how to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) base: Url,
    pub(crate) proxy: Option<Url>,
    /// Certificates from files; `None`: the platform's roots alone.
    pub(crate) tls: Option<Arc<TlsFiles>>,
    /// Whether the client certificate of those files is for this upstream.
    pub(crate) shows_identity: bool,
    pub(crate) connect_timeout: Duration,
    /// Shorter than common servers keep idle connections, so that it is we who close them.
    pub(crate) idle_timeout: Duration,
}

/// A connection pool to one upstream.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pool: Arc<Pool>,
    base: Url,
    /// Host and port as the `Host` header has them.
    authority: String,
    metrics: Arc<Metrics>,
}

/// The client of an upstream, which is replaced when its certificates change.
#[derive(Debug)]
struct Pool {
    settings: Settings,
    client: RwLock<reqwest::Client>,
}

/// What came back, its body read no further than is of use.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// What could be read of it, where it was.
    pub(crate) body: Bytes,
}

/// The head of an answer, its body unread.
#[derive(Debug)]
pub(crate) struct Head(reqwest::Response);

/// Is called when a request leaves.
pub(crate) trait SendHook: std::fmt::Debug + Send + Sync + 'static {
    /// The request leaves: from here on the upstream may have acted on it.
    fn sent(&self);

    /// Whether the request has left.
    fn is_sent(&self) -> bool;
}

/// Why there is no answer. The texts name no URL, and the secrets of the request are masked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request never left.
    NotSent(String),
    /// The request left, and the connection broke.
    Interrupted(String),
    /// The request left, and what came back is no HTTP.
    Decode(String),
}

/// Why the body of a success could not be read whole.
#[derive(Debug)]
pub(crate) enum BodyFailure {
    /// It is larger than the limit.
    TooLarge,
    /// No memory was granted for it.
    NoMemory,
    /// It broke off or stalled.
    Incomplete(String),
}

impl Settings {
    /// Whether a client can be made with these settings.
    ///
    /// # Errors
    ///
    /// The certificates, the key or the proxy's address can't be used: the setting, and the reason.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        match &self.tls {
            None => self.client(&Material::default()).map(drop),
            Some(tls) => tls.check(self),
        }
    }

    /// Makes a client; opens nothing yet.
    fn client(&self, material: &Material) -> Result<reqwest::Client, Fault> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("apig-grpc-gateway/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry X-Auth-Token to another host; reqwest strips only the headers it knows.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Repeats are decided where the cloud's error codes are known.
            .retry(reqwest::retry::never())
            // Also switches off the proxies that the environment names.
            .no_proxy()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(self.idle_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            // Idle connections are dropped by the pool; pings are for those that calls wait on.
            .http2_keep_alive_while_idle(false);
        if let Some(proxy) = &self.proxy {
            let proxy = Proxy::all(proxy.clone()).map_err(|fault| ("upstream-proxy", chain(&fault)))?;
            builder = builder.proxy(proxy);
        }
        let client = material.add_to(builder, self.shows_identity)?.build();
        client.map_err(|fault| (material.setting(), format!("can't be used: {}", chain(&fault))))
    }
}

impl Upstream {
    /// Makes the pool; opens nothing yet.
    ///
    /// # Errors
    ///
    /// Those of [`Settings::check`].
    pub(crate) fn new(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let pool = match &settings.tls {
            None => Pool::new(settings, &Material::default()).map(Arc::new),
            Some(tls) => tls.pool(settings),
        };
        let pool = pool.map_err(|(setting, fault)| format!("{setting} {fault}"))?;
        let host = settings.base.host_str().unwrap_or_default();
        // A default port is in neither.
        let authority = settings.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { pool, base: settings.base.clone(), authority, metrics })
    }

    /// The client for one exchange, which ends on it even if the client is replaced meanwhile.
    fn client(&self) -> reqwest::Client {
        self.pool.client.read().unwrap_or_else(PoisonError::into_inner).clone()
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
    ) -> Result<Response, String> {
        let mut url = self.base.clone();
        url.set_path(&self.wire_path(path));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let mut request = reqwest::Request::new(verb, url);
        *request.headers_mut() = headers;
        *request.body_mut() = body.map(Into::into);
        match self.client().execute(request).await {
            Ok(response) => Ok(read(response, true, tokio::time::Instant::now() + BODY_TIMEOUT).await),
            Err(fault) => Err(error_text(fault, masker)),
        }
    }

    /// Sends one request and waits for the head of its answer. `path` is one of [`wire_path`](Self::wire_path); neither it nor `query`
    /// holds anything that needs encoding.
    ///
    /// # Errors
    ///
    /// [`Failure::NotSent`] only if no byte of the request can have reached the upstream's handler.
    #[allow(clippy::too_many_arguments, reason = "the parts of a request, each of another type")]
    pub(crate) async fn exchange<H: SendHook>(
        &self,
        verb: Method,
        path: &str,
        query: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
        hook: &Arc<H>,
        masker: &Masker<'_>,
    ) -> Result<Head, Failure> {
        // Lets the runtime look at its sockets first: a connection that the upstream closed while it was idle is then known
        // to be closed, and is not taken. What crosses our request on the wire stays a lost connection.
        tokio::task::yield_now().await;
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        if url.path() != path || url.query().unwrap_or_default() != query {
            return Err(Failure::NotSent("the path or the query would change on its way".into()));
        }
        let mut request = reqwest::Request::new(verb.clone(), url);
        *request.headers_mut() = headers;
        match body {
            Some(bytes) => *request.body_mut() = Some(Outgoing::body(bytes, hook)),
            // Without a body there is no telling when the request leaves.
            None => hook.sent(),
        }
        let mut timer = Timer { metrics: &self.metrics, verb, started: Instant::now(), status: None };
        let result = self.client().execute(request).await;
        timer.status = result.as_ref().ok().map(reqwest::Response::status);
        drop(timer);
        match result {
            Ok(response) => Ok(Head(response)),
            Err(fault) if !hook.is_sent() || fault.is_connect() => Err(Failure::NotSent(error_text(fault, masker))),
            Err(fault) if is_parse_error(&fault) => Err(Failure::Decode(error_text(fault, masker))),
            Err(fault) => Err(Failure::Interrupted(error_text(fault, masker))),
        }
    }
}

impl Head {
    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Reads the body of an error, until then and for at most [`BODY_TIMEOUT`].
    pub(crate) async fn read(self, until: tokio::time::Instant) -> Response {
        read(self.0, false, until.min(tokio::time::Instant::now() + BODY_TIMEOUT)).await
    }

    /// Reads the body of a success to its end, of at most `limit` bytes; `charge` grants the memory of each part.
    ///
    /// # Errors
    ///
    /// [`BodyFailure`]: a body that is not whole is no answer.
    pub(crate) async fn read_success(
        mut self,
        limit: usize,
        mut charge: impl FnMut(usize) -> bool,
        masker: &Masker<'_>,
    ) -> Result<Response, BodyFailure> {
        let announced = self.0.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        if announced > limit {
            return Err(BodyFailure::TooLarge);
        }
        let headers = std::mem::take(self.0.headers_mut());
        let mut body = Zeroizing::new(Vec::new());
        loop {
            let chunk = match tokio::time::timeout(BODY_TIMEOUT, self.0.chunk()).await {
                Err(_) => return Err(BodyFailure::Incomplete("it stalled".into())),
                Ok(Err(fault)) => return Err(BodyFailure::Incomplete(error_text(fault, masker))),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(chunk))) => chunk,
            };
            if chunk.len() > limit - body.len() {
                return Err(BodyFailure::TooLarge);
            }
            if !charge(chunk.len()) {
                return Err(BodyFailure::NoMemory);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status: self.0.status(), headers, body: secret::bytes(body) })
    }
}

/// Measures a request until the head of its answer, or until its call gives it up.
struct Timer<'a> {
    metrics: &'a Metrics,
    verb: Method,
    started: Instant,
    status: Option<StatusCode>,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.metrics.upstream(&self.verb, self.status, self.started.elapsed());
    }
}

impl Pool {
    fn new(settings: &Settings, material: &Material) -> Result<Self, Fault> {
        let client = settings.client(material)?;
        Ok(Self { settings: settings.clone(), client: RwLock::new(client) })
    }

    fn replace(&self, client: reqwest::Client) {
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

/// Reads an answer: its body if it is an error's, or if it is wanted anyhow. A body that breaks off, stalls, or never ends
/// does not take the status away.
async fn read(mut response: reqwest::Response, wants_body: bool, until: tokio::time::Instant) -> Response {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    // It may hold a credential. A buffer that grows leaves its old memory as it was.
    let length = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let mut body = Zeroizing::new(Vec::new());
    if wants_body {
        body.reserve_exact(length.min(MOST_BODY));
    }
    if wants_body || status.is_client_error() || status.is_server_error() {
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(until, response.chunk()).await {
            let room = MOST_BODY - body.len();
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() >= room {
                break;
            }
        }
    }
    Response { status, headers, body: secret::bytes(body) }
}

/// A request body that tells when it leaves.
///
/// The HTTP client asks for the body only once it has a connection and is writing the request's head. Before that
/// nothing has left, whatever went wrong; and a head without its body is not acted on.
#[derive(Debug)]
struct Outgoing<H> {
    bytes: Option<Bytes>,
    hook: Arc<H>,
}

impl<H: SendHook> Outgoing<H> {
    fn body(bytes: Bytes, hook: &Arc<H>) -> reqwest::Body {
        debug_assert!(!bytes.is_empty(), "an empty body is never asked for");
        reqwest::Body::wrap(Self { bytes: Some(bytes), hook: Arc::clone(hook) })
    }
}

impl<H: SendHook> Body for Outgoing<H> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.hook.sent();
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
fn error_text(fault: reqwest::Error, masker: &Masker<'_>) -> String {
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
