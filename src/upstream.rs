//! One HTTP exchange with an upstream: pooled, bounded, without redirects, proxies of the environment or repeats of its own
//! (other than a request that a closed connection hands back unsent). The only module that imports reqwest and hyper's
//! clients; it is independent of the cloud's API.
//!
//! Calls go through [`Upstream::exchange`], on connections of its own; the gateway's own requests (tokens, temporary keys,
//! the project's id) through [`Upstream::fetch`], by reqwest. One TLS configuration serves both.

mod body;
mod connect;
mod control;
mod line;
mod pool;
mod proxy;
mod tls;

use std::{
    borrow::Cow,
    error::Error as _,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use reqwest::Url;
use tokio_rustls::rustls::ClientConfig;

use self::{
    body::Outgoing,
    connect::Connector,
    pool::{Connection, Connections},
    tls::{Fault, Material},
};
pub(crate) use self::{
    body::{BodyError, Head},
    proxy::Proxy,
    tls::TlsFiles,
};
use crate::{mask::Masker, telemetry::Metrics, tls::client_without_roots};

/// The greatest length of an error's body that is read.
pub(crate) const MOST_BODY: usize = 64 * 1024;

/// The longest wait for the body of an answer, after its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The age from which a connection takes no further call, so that a change of DNS is noticed while it is busy; some are
/// retired earlier, by up to a fifth.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(300);

/// Connections that may be found closed, one after the other, before a request gets one that has not been idle.
const MOST_CLOSED: usize = 3;

/// The time between pings on an HTTP/2 connection that requests wait on, and the longest wait for their answers.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) const USER_AGENT: &str = concat!("apig-grpc-gateway/", env!("CARGO_PKG_VERSION"));

/// Where the upstream is and how to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) base: Url,
    pub(crate) proxy: Option<Proxy>,
    /// Certificates from files, beside the platform's roots; `None`: those alone, read for this upstream.
    pub(crate) tls: Option<Arc<TlsFiles>>,
    /// Whether the client certificate of those files is for this upstream.
    pub(crate) shows_identity: bool,
    pub(crate) connect_timeout: Duration,
    /// Shorter than the usual timeout of servers, so that the gateway closes idle connections first.
    pub(crate) idle_timeout: Duration,
    /// The age from which a connection takes no further call.
    pub(crate) max_age: Duration,
}

/// The way to one upstream.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pool: Arc<Pool>,
    base: Url,
    /// Host and port as the `Host` header has them.
    authority: String,
    metrics: Arc<Metrics>,
    target: Arc<Target>,
}

/// The parts of a request that are the same for all.
#[derive(Debug)]
struct Target {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    /// For requests that a proxy reads.
    proxy_authorization: Option<HeaderValue>,
    /// Whether a proxy reads the requests: `http` through a proxy.
    is_absolute: bool,
}

/// The clients of an upstream, which are replaced when its certificates change.
#[derive(Debug)]
struct Pool {
    settings: Settings,
    clients: RwLock<Arc<Clients>>,
}

/// A client for calls, and one for the gateway's own requests.
#[derive(Debug)]
struct Clients {
    connections: Arc<Connections>,
    settings: Settings,
    tls: Arc<ClientConfig>,
    /// Made for the first request: most upstreams have calls, or requests of the gateway's own, not both.
    control: OnceLock<reqwest::Client>,
}

/// An answer, the body of an error read up to [`MOST_BODY`].
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// As much of it as could be read.
    pub(crate) body: Bytes,
}

/// Is called when a request leaves.
pub(crate) trait SendHook: std::fmt::Debug + Send + Sync + 'static {
    /// The request leaves: from here on the upstream may have acted on it.
    fn sent(&self);

    /// The request did not leave after all: no byte of it was written.
    fn unsent(&self);
}

/// Why there is no answer. The texts name no URL, and the secrets of the request are masked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request never left.
    NotSent(String),
    /// The request left, and the connection broke.
    Interrupted(String),
    /// The request left, and the answer is no HTTP.
    Decode(String),
}

impl Settings {
    /// Whether a client can be made with these settings.
    ///
    /// # Errors
    ///
    /// The certificates, the key or the proxy's address can't be used: the setting, and the reason.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        match &self.tls {
            None => self.clients(&self.platform()?).map(drop),
            Some(tls) => tls.check(self),
        }
    }

    /// Makes the clients; opens nothing yet.
    fn clients(&self, tls: &Arc<ClientConfig>) -> Result<Clients, Fault> {
        let connections = Connections::new(Connector::new(self, tls)?, self.idle_timeout, self.max_age);
        let (connections, tls) = (Arc::new(connections), Arc::clone(tls));
        Ok(Clients { connections, settings: self.clone(), tls, control: OnceLock::new() })
    }

    /// Whether the way to the upstream has TLS. The platform's roots take half a megabyte and milliseconds: without TLS they are
    /// not read.
    fn has_tls(&self) -> bool {
        let is_https = |url: &Url| url.scheme() == "https";
        is_https(&self.base) || self.proxy.as_ref().is_some_and(|proxy| is_https(proxy.url()))
    }

    /// TLS with the platform's roots alone.
    fn platform(&self) -> Result<Arc<ClientConfig>, Fault> {
        let config = if self.has_tls() { Material::default().config(false) } else { Ok(client_without_roots()) };
        config.map(Arc::new)
    }
}

impl Upstream {
    /// Makes the clients; opens nothing yet.
    ///
    /// # Errors
    ///
    /// Those of [`Settings::check`].
    pub(crate) fn new(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, String> {
        Self::make(settings, metrics).map_err(|(setting, error)| format!("{setting} {error}"))
    }

    fn make(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, Fault> {
        let pool = match &settings.tls {
            None => Arc::new(Pool::new(settings, &settings.platform()?)?),
            Some(tls) => tls.pool(settings)?,
        };
        let host = settings.base.host_str().unwrap_or_default();
        // A default port is in neither.
        let authority = settings.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let unusable = |error: &dyn std::error::Error| ("upstream", format!("can't be used: {error}"));
        let is_https = settings.base.scheme() == "https";
        let is_absolute = !is_https && settings.proxy.is_some();
        let target = Arc::new(Target {
            scheme: if is_https { Scheme::HTTPS } else { Scheme::HTTP },
            authority: authority.parse().map_err(|error| unusable(&error))?,
            host: HeaderValue::from_str(&authority).map_err(|error| unusable(&error))?,
            proxy_authorization: settings
                .proxy
                .as_ref()
                .filter(|_| is_absolute)
                .and_then(Proxy::authorization)
                .cloned(),
            is_absolute,
        });
        Ok(Self { pool, base: settings.base.clone(), authority, metrics, target })
    }

    /// The clients for one exchange, which ends on them even if they are replaced meanwhile.
    fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.pool.clients.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Host and port as the `Host` header has them.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Host and port, for traces.
    pub(crate) fn address(&self) -> (&str, u16) {
        (self.target.authority.host(), self.base.port_or_known_default().unwrap_or_default())
    }

    /// The path on the wire of a path of the API.
    pub(crate) fn wire_path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        match self.base.path().trim_end_matches('/') {
            "" => Cow::Borrowed(path),
            before => Cow::Owned(format!("{before}{path}")),
        }
    }

    /// Sends one request and waits for the head of its answer. `path` is one of [`wire_path`](Self::wire_path); it and
    /// `query` hold nothing that needs encoding.
    ///
    /// # Errors
    ///
    /// [`Failure::NotSent`] only if no byte of the request can have reached the upstream's handler.
    #[allow(clippy::too_many_arguments, reason = "the parts of a request, its hook and its secrets")]
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
        let path =
            path_and_query(path, query).ok_or_else(|| Failure::NotSent("the path would change on its way".into()))?;
        let hook: Arc<dyn SendHook> = Arc::<H>::clone(hook);
        let mut request = Request::new(Outgoing::new(body, Arc::clone(&hook)));
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        *request.method_mut() = verb.clone();
        let mut timer = Timer { metrics: &self.metrics, verb, started: Instant::now(), status: None };
        let result = self.send(request, &path, hook.as_ref(), masker).await;
        timer.status = result.as_ref().ok().map(Head::status);
        drop(timer);
        result
    }

    /// Sends a request, once more for each connection that turns out to have been closed before it.
    async fn send(
        &self,
        mut request: Request<Outgoing>,
        path: &PathAndQuery,
        hook: &dyn SendHook,
        masker: &Masker<'_>,
    ) -> Result<Head, Failure> {
        let text = |error: &dyn std::error::Error| masker.mask(&chain(error)).into_owned();
        let pool = Arc::clone(&self.clients().connections);
        let mut closed = 0;
        loop {
            let taken = if closed < MOST_CLOSED { pool.take().await } else { pool.open().await };
            let mut connection = taken.map_err(|error| Failure::NotSent(text(error.as_ref())))?;
            self.target.address(&mut request, path, &connection);
            // An HTTP/2 connection may take a request up before it sees that the peer has closed.
            let copy = (connection.is_http2() && connection.is_reused).then(|| request.clone());
            let before = connection.gate.writes();
            let mut failure = match connection.send(request).await {
                Ok(answer) => {
                    hook.sent();
                    return Ok(Head::new(answer, &pool, connection));
                }
                Err(failure) => failure,
            };
            let unsent = failure.take_message().or_else(|| copy.filter(|_| connection.gate.writes() == before));
            let is_written = unsent.is_none() && connection.gate.writes() != before;
            let error = failure.into_error();
            if is_written && !is_refused(&error) {
                let failure = if error.is_parse() { Failure::Decode } else { Failure::Interrupted };
                return Err(failure(text(&error)));
            }
            hook.unsent();
            match unsent {
                Some(again) if connection.is_reused => request = again,
                _ => return Err(Failure::NotSent(text(&error))),
            }
            pool.forget(&connection.gate);
            closed += 1;
        }
    }
}

impl Target {
    /// Addresses a request in the form of the connection's protocol.
    fn address(&self, request: &mut Request<Outgoing>, path: &PathAndQuery, connection: &Connection) {
        let is_http2 = connection.is_http2();
        *request.uri_mut() = if is_http2 || self.is_absolute {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(self.scheme.clone());
            parts.authority = Some(self.authority.clone());
            parts.path_and_query = Some(path.clone());
            Uri::from_parts(parts).expect("scheme, authority and path make a URI")
        } else {
            Uri::from(path.clone())
        };
        let headers = request.headers_mut();
        if is_http2 {
            headers.remove(header::HOST);
        } else {
            headers.insert(header::HOST, self.host.clone());
        }
        if let Some(authorization) = &self.proxy_authorization {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
    }
}

/// Path and query for the wire; `None` if a reader of URLs would take them for others.
fn path_and_query(path: &str, query: &str) -> Option<PathAndQuery> {
    let is_dots = |segment: &[u8]| {
        matches!(segment, [b'.' | b'%', ..])
            && segment.len() <= 6
            && matches!(segment.to_ascii_lowercase().as_slice(), b"." | b".." | b"%2e" | b".%2e" | b"%2e." | b"%2e%2e")
    };
    if !path.starts_with('/') || path.contains('\\') || path.as_bytes().split(|&byte| byte == b'/').any(is_dots) {
        return None;
    }
    let both = if query.is_empty() { PathAndQuery::try_from(path) } else { format!("{path}?{query}").try_into() };
    // Anything else would be a part of them that became a query or a fragment.
    both.ok().filter(|both| both.path() == path && both.query().unwrap_or_default() == query)
}

/// Whether the upstream says that it has not looked at the request.
fn is_refused(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_remote() && cause.reason() == Some(h2::Reason::REFUSED_STREAM))
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
    fn new(settings: &Settings, tls: &Arc<ClientConfig>) -> Result<Self, Fault> {
        Ok(Self { settings: settings.clone(), clients: RwLock::new(Arc::new(settings.clients(tls)?)) })
    }

    fn replace(&self, clients: Clients) {
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(clients);
    }
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

#[cfg(test)]
mod tests;
