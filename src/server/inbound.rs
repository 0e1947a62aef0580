//! One call as it comes in: request id, deadline, a place under the limit, and an answer whatever breaks underneath. It
//! knows nothing of what the call asks for.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service;
use tracing::{Instrument as _, error, field, info_span};

use super::{
    Shared,
    metered::{Incoming, Metered},
    record::{GRPC_STATUS_DETAILS, HEALTH_CHECK, Record},
};
use crate::{
    call::{Call, Progress, Trace},
    cloud::METHODS,
    held::{Full, Held},
    pb::certificate_service_server::{CertificateServiceServer, SERVICE_NAME},
    peer::{Identity, Peer},
    service::Certificates,
    status,
};

/// Streams, which last as long as their client likes: counted as connections, not as calls.
const STREAMS: [&str; 3] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static APIG_REQUEST_ID: HeaderName = HeaderName::from_static("apig-request-id");
static X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static GRPC_PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
static GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The way into the services, shared by all connections. `S` is our service.
#[derive(Debug, Clone)]
pub(super) struct Inbound<S = CertificateServiceServer<Certificates>> {
    service: S,
    /// Every other service, those that do not exist included.
    routes: Routes,
    shared: Arc<Shared>,
    closing: CancellationToken,
    peer: Arc<Peer>,
}

impl<S> Inbound<S> {
    pub(super) fn new(service: S, routes: Routes, shared: Arc<Shared>) -> Self {
        let peer = Arc::new(Peer { identity: Identity::Nobody, address: None });
        Self { service, routes, shared, closing: CancellationToken::new(), peer }
    }

    /// The same way in, for the calls of one peer.
    pub(super) fn of(self, peer: Peer) -> Self {
        Self { peer: Arc::new(peer), ..self }
    }

    /// Counts a peer with which no TLS came about.
    pub(super) fn handshake_failed(&self) {
        self.shared.metrics.tls_handshakes_failed.inc();
    }

    /// Cancelled when connections shall end.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Counts a connection for as long as the value lives.
    pub(super) fn count_connection(&self) -> impl Drop + use<S> {
        Counted::new(Arc::clone(&self.shared), |shared| &shared.metrics.connections)
    }

    /// Answers one call. Dropping the future gives the call up.
    pub(super) async fn answer<B: Incoming>(self: Arc<Self>, request: Request<B>) -> Response<Body>
    where
        S: Service<Request<Metered<B>>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let request_id = request_id(request.headers());
        if STREAMS.contains(&request.uri().path()) {
            let mut response = self.standard(request).await;
            response.headers_mut().insert(X_REQUEST_ID.clone(), request_id);
            return response;
        }
        let method = method(request.uri().path());
        let span = info_span!(
            "call",
            method,
            request_id = request_id.to_str().unwrap_or_default(),
            caller = %self.peer.identity,
            project_id = field::Empty,
            certificate_id = field::Empty
        );
        let mut record = Record {
            shared: Arc::clone(&self.shared),
            method,
            span: span.clone(),
            started: Instant::now(),
            peer: Arc::clone(&self.peer),
            request_id: request_id.clone(),
            subject: self.shared.audit.is_some().then(Arc::default),
            progress: Arc::default(),
            end: None,
            details: None,
            cloud_id: None,
        };
        let ours = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME)).is_some();
        let mut response =
            if ours { self.perform(request, &record).instrument(span).await } else { self.standard(request).await };
        let headers = response.headers();
        // Without a message the status is in the head of the answer; beside a message it is always OK.
        record.end = Some(headers.get(&GRPC_STATUS).map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes())));
        record.details = headers.get(&GRPC_STATUS_DETAILS).cloned();
        record.cloud_id = headers.get(&APIG_REQUEST_ID).cloned();
        response.headers_mut().insert(X_REQUEST_ID.clone(), request_id);
        response
    }

    /// Health, reflection and unknown services: not ours to limit.
    async fn standard<B: Incoming>(&self, request: Request<B>) -> Response<Body> {
        let answer = AssertUnwindSafe(self.routes.clone().call(request)).catch_unwind();
        match answer.await {
            Ok(Ok(response)) => self.mend(response),
            Ok(Err(never)) => match never {},
            Err(_) => self.panicked(&Progress::default()),
        }
    }

    /// A call of our service: admitted, bounded in time, answered.
    async fn perform<B: Incoming>(&self, mut request: Request<B>, record: &Record) -> Response<Body>
    where
        S: Service<Request<Metered<B>>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let shared = &self.shared;
        // Calls whose message is on its way. Their place among the calls in progress they take when it is there.
        let Ok(_begun) = shared.begun.try_acquire() else {
            return status::overloaded(shared.max_concurrency).into_http();
        };
        let _open = Counted::new(Arc::clone(shared), |shared| &shared.metrics.calls_in_progress);
        let Ok(timeout) = timeout(request.headers(), shared.timeout) else {
            return status::malformed_timeout().into_http();
        };
        if timeout.is_zero() {
            return status::deadline_exceeded(false).into_http();
        }
        let progress = Arc::clone(&record.progress);
        let held = Arc::new(Held::new(Arc::clone(&shared.buffers), Arc::clone(&shared.places)));
        // What a compressed message unpacks to is known only afterwards; until then it counts as the largest.
        if request.headers().get(&GRPC_ENCODING).is_some_and(|encoding| encoding != "identity")
            && let Err(Full { most }) = held.add(shared.max_message_size)
        {
            return status::buffers_full(most).into_http();
        }
        let call = Call {
            deadline: Instant::now() + timeout,
            token: token(request.headers()),
            previous_attempts: previous_attempts(request.headers()),
            request_id: record.request_id.clone(),
            subject: record.subject.clone(),
            trace: trace(request.headers()),
            progress: Arc::clone(&progress),
            held: Arc::clone(&held),
            peer: Arc::clone(&self.peer),
        };
        let deadline = tokio::time::sleep_until(call.deadline);
        request.extensions_mut().insert(Arc::new(call));
        let request =
            request.map(|body| Metered { body, held: Arc::clone(&held), max_concurrency: shared.max_concurrency });
        // The one deadline of the call: whatever runs underneath is dropped, and its connection with it.
        tokio::select! {
            // An answer that is there is given, though it be late.
            biased;
            answer = AssertUnwindSafe(self.service.clone().call(request)).catch_unwind() => match answer {
                Ok(Ok(response)) => self.mend(response),
                Ok(Err(never)) => match never {},
                Err(_) => self.panicked(&progress),
            },
            () = deadline => status::deadline_exceeded(progress.is_unknown()).into_http(),
            () = shared.expired.cancelled() => status::shutting_down(progress.is_unknown()).into_http(),
        }
    }

    /// Gives the errors that tonic makes before a handler runs the codes and details that ours have.
    fn mend(&self, response: Response<Body>) -> Response<Body> {
        if response.headers().contains_key(&GRPC_STATUS_DETAILS) {
            return response;
        }
        let Some(status) = Status::from_header_map(response.headers()) else { return response };
        let better = match status.code() {
            Code::OutOfRange | Code::ResourceExhausted => status::message_too_large(self.shared.max_message_size),
            Code::Internal => status::unreadable_message(status.message()),
            Code::Unimplemented if status.message().is_empty() => status::unimplemented("there is no such method"),
            Code::Unimplemented => status::unimplemented(status.message()),
            // The bytes stopped coming: nobody is left to read this, but the log and the metrics are.
            Code::Unknown => return Status::cancelled("the caller left before its message was there").into_http(),
            // Health's own answers.
            _ => return response,
        };
        let mut mended = better.into_http();
        if let Some(encodings) = response.headers().get(&GRPC_ACCEPT_ENCODING) {
            mended.headers_mut().insert(GRPC_ACCEPT_ENCODING.clone(), encodings.clone());
        }
        mended
    }

    fn panicked(&self, progress: &Progress) -> Response<Body> {
        error!("a handler panicked; the message is above");
        self.shared.metrics.panics.inc();
        status::panicked(progress.is_unknown()).into_http()
    }
}

/// One more in a gauge for as long as it lives.
struct Counted<F: Fn(&Shared) -> &prometheus_client::metrics::gauge::Gauge> {
    shared: Arc<Shared>,
    gauge: F,
}

impl<F: Fn(&Shared) -> &prometheus_client::metrics::gauge::Gauge> Counted<F> {
    fn new(shared: Arc<Shared>, gauge: F) -> Self {
        gauge(&shared).inc();
        Self { shared, gauge }
    }
}

impl<F: Fn(&Shared) -> &prometheus_client::metrics::gauge::Gauge> Drop for Counted<F> {
    fn drop(&mut self) {
        (self.gauge)(&self.shared).dec();
    }
}

impl Shared {
    /// Whether new calls are wanted.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_cancelled() && !self.draining.is_cancelled()
    }
}

/// The method's name for metrics and logs; a stranger's paths must not become labels.
fn method(path: &str) -> &'static str {
    let path = path.strip_prefix('/').unwrap_or(path);
    METHODS.iter().chain(&[HEALTH_CHECK]).find(|known| **known == path).copied().unwrap_or("_OTHER")
}

/// The caller's id if it is one, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |id: &&HeaderValue| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    headers.get(&X_REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // An id must be unique and need not be a secret: no random bytes of the system's, which cost a system call.
        let random = fastrand::u128(..).to_ne_bytes();
        let random = random.first_chunk().expect("ten of sixteen");
        let milliseconds = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        let id = uuid::Builder::from_unix_timestamp_millis(milliseconds, random).into_uuid();
        let mut text = uuid::Uuid::encode_buffer();
        HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut text)).expect("hexadecimal digits and hyphens")
    })
}

/// How often the caller's own library has tried this call before (gRFC A6).
fn previous_attempts(headers: &HeaderMap) -> u32 {
    headers.get(&GRPC_PREVIOUS_ATTEMPTS).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// The caller's token, marked so that it never shows in a log.
fn token(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut token = headers.get(&X_AUTH_TOKEN).filter(|token| !token.is_empty())?.clone();
    token.set_sensitive(true);
    Some(token)
}

/// W3C trace context, as far as it can be one: the cloud's front gateway need not see what else a caller puts there.
fn trace(headers: &HeaderMap) -> Trace {
    let sane = |value: &&HeaderValue| (1..=512).contains(&value.len()) && value.to_str().is_ok();
    let parent = headers.get(&TRACEPARENT).filter(sane).cloned();
    let state = parent.as_ref().and_then(|_| headers.get(&TRACESTATE)).filter(sane).cloned();
    Trace { parent, state }
}

/// The time that the call has: the caller's `grpc-timeout`, at most `most`.
///
/// A caller's own is shortened a little, so that our answer, which says what is known of the change, arrives before the
/// caller's own timer goes off.
fn timeout(headers: &HeaderMap, most: Duration) -> Result<Duration, ()> {
    let Some(value) = headers.get(&GRPC_TIMEOUT) else { return Ok(most) };
    let asked = value.to_str().ok().and_then(parse_timeout).ok_or(())?;
    let margin = (asked / 20).min(Duration::from_millis(20));
    Ok(asked.saturating_sub(margin).min(most))
}

/// `grpc-timeout`: 1 to 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("0n"), Some(Duration::ZERO));
        for wrong in ["", "S", "5", "-1S", "+1S", "123456789S", "1s", "5 S", "1é"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_caller_gets_its_answer_before_its_own_timer() {
        let with = |text: &str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("grpc-timeout"), text.parse().unwrap())]);
            timeout(&headers, Duration::from_secs(30))
        };
        assert_eq!(with("1S"), Ok(Duration::from_millis(980)));
        assert_eq!(with("100m"), Ok(Duration::from_millis(95)));
        assert_eq!(with("1H"), Ok(Duration::from_secs(30)));
        assert_eq!(with("soon"), Err(()));
        assert_eq!(timeout(&HeaderMap::new(), Duration::from_secs(30)), Ok(Duration::from_secs(30)));
    }

    fn shared() -> Shared {
        let flags = [("upstream", "http://127.0.0.1:9"), ("max-concurrency", "1")];
        let flags = flags.into_iter().map(|(key, value)| (key, value.to_owned())).collect();
        let sources = crate::config::Sources { flags, ..Default::default() };
        Shared::new(Arc::default(), None, &crate::config::Config::load(sources).unwrap().gateway)
    }

    #[tokio::test]
    async fn a_panic_is_one_failed_call_and_no_more() {
        use axum::{Router, routing::post};
        use bytes::Bytes;
        use http_body_util::Full as FullBody;
        use tonic_types::StatusExt as _;

        let router = Router::new()
            .route("/huaweicloud.apic.v2.CertificateService/Panic", post(async || -> () { panic!("on purpose") }))
            .route("/grpc.health.v1.Health/Panic", post(async || -> () { panic!("on purpose") }))
            .route("/huaweicloud.apic.v2.CertificateService/Fine", post(async || "fine"));
        let services = Routes::from(router);
        let inbound = Arc::new(Inbound::new(services.clone(), services, Arc::new(shared())));
        let call = |path: &str| {
            let request = Request::post(format!("http://gateway{path}")).body(FullBody::new(Bytes::new())).unwrap();
            Arc::clone(&inbound).answer(request)
        };
        for path in ["/huaweicloud.apic.v2.CertificateService/Panic", "/grpc.health.v1.Health/Panic"] {
            let status = Status::from_header_map(call(path).await.headers()).unwrap();
            assert_eq!(status.code(), Code::Internal);
            assert_eq!(status.get_details_error_info().unwrap().reason, "INTERNAL_ERROR");
        }
        assert_eq!(call("/huaweicloud.apic.v2.CertificateService/Fine").await.status(), 200);
        assert_eq!(inbound.shared.metrics.panics.get(), 2);
        assert_eq!(inbound.shared.metrics.calls_in_progress.get(), 0);
        assert_eq!(inbound.shared.places.available_permits(), 1);
    }

    #[test]
    fn only_known_methods_become_labels() {
        assert_eq!(method("/huaweicloud.apic.v2.CertificateService/AttachDomains"), METHODS[0]);
        assert_eq!(method("/huaweicloud.apic.v2.CertificateService/Nope"), "_OTHER");
        assert_eq!(method(""), "_OTHER");
    }

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        let with = |id: &[u8]| {
            let id = HeaderValue::from_bytes(id).unwrap();
            request_id(&HeaderMap::from_iter([(X_REQUEST_ID.clone(), id)]))
        };
        assert_eq!(with(b"abc-1"), "abc-1");
        for odd in [&b""[..], b"two words", &[b'x'; 129], b"\xff"] {
            assert_eq!(with(odd).len(), 36);
        }
    }
}
