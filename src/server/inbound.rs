//! One call as it comes in: request id, deadline, permit and complete message, and an answer for every failure below. The
//! service reads the message itself.

#[cfg(test)]
mod tests;

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, Request, Response, request::Parts};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service;
use tracing::{Instrument as _, error, field, info_span};

use super::{
    Shared,
    counted::Counted,
    metadata::{self, X_REQUEST_ID},
    record::{End, HEALTH_CHECK, Record},
    request_body::{self, BodySource, RequestBody},
    stream::{self, Failure, MAX_AHEAD, MAX_MESSAGE},
};
use crate::{
    admission::{self, Admission, CALL_COST, Class, Connection, Permit, Rejected},
    call::{Call, Progress, Trace},
    pb::entries,
    peer::{Identity, Peer},
    resources::{self, Method},
    service::{self, Context},
    status::{self, Ending, Local},
};

const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";

/// Streams, which last as long as their client likes: they have limits of their own and are no calls in progress.
const STREAMS: [&str; 3] = [
    HEALTH_WATCH,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The timeout of a stream without `grpc-timeout`.
const LONGEST_STREAM: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The limit on domains, instance ids and all other repeated values of a request together.
const MAX_ENTRIES: usize = 100_000;

/// The memory of an entry besides its bytes: its value in a list that doubles as it grows, its JSON, and its description.
const ENTRY_COST: usize = 160;

static APIG_REQUEST_ID: HeaderName = HeaderName::from_static("apig-request-id");
static APIG_OUTCOME: HeaderName = HeaderName::from_static("apig-outcome");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// The way into the services, shared by all connections. `S` is our service.
#[derive(Debug, Clone)]
pub(super) struct Inbound<S = service::Server> {
    service: S,
    /// Health and reflection.
    routes: Routes,
    shared: Arc<Shared>,
    closing: CancellationToken,
    peer: Arc<Peer>,
    accounts: Arc<Connection>,
}

impl<S> Inbound<S> {
    pub(super) fn new(service: S, routes: Routes, shared: Arc<Shared>) -> Self {
        let peer = Arc::new(Peer { identity: Identity::Nobody, address: None });
        let accounts = shared.admission.connect(&peer);
        Self { service, routes, shared, closing: CancellationToken::new(), peer, accounts }
    }

    /// The same way in, for the calls of one peer.
    pub(super) fn of(self, peer: Peer) -> Self {
        let accounts = self.shared.admission.connect(&peer);
        Self { peer: Arc::new(peer), accounts, ..self }
    }

    /// Counts a peer with which no TLS came about.
    pub(super) fn handshake_failed(&self) {
        self.shared.metrics.tls_handshake_failures.inc();
    }

    /// Cancelled when connections shall end.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Counts a connection for as long as the value lives.
    pub(super) fn count_connection(&self) -> impl Drop + use<S> {
        Counted::new(Arc::clone(&self.shared), |shared| &shared.metrics.connections)
    }

    /// Counts a connection that was sent GOAWAY, for as long as the value lives.
    pub(super) fn count_draining(&self) -> impl Drop + use<S> {
        Counted::new(Arc::clone(&self.shared), |shared| &shared.metrics.connections_draining)
    }

    /// Answers one call. Dropping the future gives the call up.
    pub(super) async fn answer<B: BodySource>(self: Arc<Self>, request: Request<B>) -> Response<Body>
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let (head, body) = request.into_parts();
        let request_id = metadata::request_id(&head.headers);
        if STREAMS.contains(&head.uri.path()) {
            let mut response = self.stream(head, body).await;
            response.headers_mut().insert(X_REQUEST_ID.clone(), request_id);
            return response;
        }
        let (name, method) = method(head.uri.path());
        let span = info_span!(
            "call",
            method = name,
            request_id = request_id.to_str().unwrap_or_default(),
            caller = %self.peer.identity,
            project_id = field::Empty,
            certificate_id = field::Empty,
            trace_id = field::Empty
        );
        let mut trace = metadata::trace(&head.headers);
        // Probes come every few seconds.
        let tracer = self.shared.tracer.as_ref().filter(|_| name != HEALTH_CHECK);
        trace.span = tracer.map(|tracer| tracer.call(name, trace.parent.as_ref(), trace.state.as_ref()));
        if let Some(trace) = &trace.span {
            span.record("trace_id", trace.trace_id());
        }
        let mut record = Record {
            shared: Arc::clone(&self.shared),
            name,
            method,
            span: span.clone(),
            trace: trace.span.clone(),
            started: Instant::now(),
            peer: Arc::clone(&self.peer),
            request_id: request_id.clone(),
            subject: self.shared.audit.is_some().then(Arc::default),
            progress: Arc::default(),
            sampled: trace.sampled(),
            end: None,
        };
        let mut response = match method {
            Some(method) => self.perform(method, head, body, trace, &record).instrument(span).await,
            None if name == HEALTH_CHECK => self.check(head, body, &record).await,
            None => self.unknown(&head, &record),
        };
        // A failure is its own status; beside a message it is always OK.
        let ending = response.extensions_mut().remove::<Status>().as_ref().and_then(Ending::of).cloned();
        let headers = response.headers();
        record.end = Some(End {
            code: headers.get(&GRPC_STATUS).map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes())),
            ending,
            is_confirmed: headers.contains_key(&APIG_OUTCOME),
            cloud_id: headers.get(&APIG_REQUEST_ID).cloned(),
        });
        response.headers_mut().insert(X_REQUEST_ID.clone(), request_id);
        response
    }

    /// A call of our service: admitted, bounded in time, answered.
    async fn perform<B: BodySource>(
        &self,
        method: &'static Method,
        mut head: Parts,
        body: B,
        trace: Trace,
        record: &Record,
    ) -> Response<Body>
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let shared = &self.shared;
        let is_change = method.is_change;
        let permit = match self.admit(Class::Call, &head, record.started) {
            Ok(permit) => permit,
            Err(rejected) => return status::rejected(rejected).status(is_change).into_http(),
        };
        let _open = Counted::new(Arc::clone(shared), |shared| &shared.metrics.calls_in_progress);
        let (deadline, is_gzip) = match terms(&mut head.headers, record.started, shared.timeout, is_change) {
            Ok(terms) => terms,
            Err(status) => return status.into_http(),
        };
        let progress = &record.progress;
        let work = async {
            let body = match request_body::read(body, is_gzip, shared.max_message_size, &permit).await {
                Ok(body) => body,
                Err(error) => return error.status(is_change).into_http(),
            };
            if let Err(local) = admit_message(method.name, &body, &permit) {
                return local.status(is_change).into_http();
            }
            let call = Call {
                deadline,
                token: metadata::token(&head.headers),
                previous_attempts: metadata::previous_attempts(&head.headers),
                request_id: record.request_id.clone(),
                trace,
                progress: Arc::clone(progress),
                // The charges last until the call is answered, also when the service drops the request earlier.
                account: Arc::<Permit>::clone(&permit),
                is_read_back: false,
            };
            let subject = record.subject.clone();
            head.extensions.insert(Arc::new(Context { call, peer: Arc::clone(&self.peer), subject }));
            match self.service.clone().call(Request::from_parts(head, body)).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        self.until_deadline(deadline, progress, is_change, work).await
    }

    /// A health check: small, bounded in time, and not shed when all permits are taken.
    async fn check<B: BodySource>(&self, mut head: Parts, body: B, record: &Record) -> Response<Body> {
        let permit = match self.admit(Class::Auxiliary, &head, record.started) {
            Ok(permit) => permit,
            Err(rejected) => return status::rejected(rejected).status(true).into_http(),
        };
        let (deadline, is_gzip) = match terms(&mut head.headers, record.started, self.shared.timeout, true) {
            Ok(terms) => terms,
            Err(status) => return status.into_http(),
        };
        let work = async {
            match request_body::read(body, is_gzip, MAX_MESSAGE, &permit).await {
                Ok(body) => self.standard(head, Body::new(body)).await,
                Err(error) => error.status(true).into_http(),
            }
        };
        self.until_deadline(deadline, &record.progress, true, work).await
    }

    /// A method that does not exist: its body is not read.
    fn unknown(&self, head: &Parts, record: &Record) -> Response<Body> {
        match self.admit(Class::Auxiliary, head, record.started) {
            Ok(_) => status::unimplemented("there is no such method").status(true).into_http(),
            Err(rejected) => status::rejected(rejected).status(true).into_http(),
        }
    }

    /// A stream of health or reflection.
    async fn stream<B: BodySource>(&self, mut head: Parts, body: B) -> Response<Body> {
        let permit = match self.admit(Class::Stream, &head, Instant::now()) {
            Ok(permit) => permit,
            Err(rejected) => return status::rejected(rejected).status(true).into_http(),
        };
        let (deadline, is_gzip) = match terms(&mut head.headers, Instant::now(), LONGEST_STREAM, true) {
            Ok(terms) => terms,
            Err(status) => return status.into_http(),
        };
        let (body, failure, ahead) = if head.uri.path() == HEALTH_WATCH {
            match request_body::read(body, is_gzip, MAX_MESSAGE, &permit).await {
                Ok(body) => (Body::new(body), Failure::default(), 0),
                Err(error) => return error.status(true).into_http(),
            }
        } else if is_gzip {
            return status::unsupported_encoding("identity", true).into_http();
        } else {
            let (requests, failure) = stream::read_ahead(body, &permit);
            (Body::new(requests), failure, MAX_AHEAD)
        };
        let work = AssertUnwindSafe(self.standard(head, body)).catch_unwind();
        let response = work.await.unwrap_or_else(|_| self.panicked(&Progress::default(), true));
        // Its head is gone by now.
        if let Err(rejected) = permit.hold(CALL_COST + ahead) {
            return status::rejected(rejected).status(true).into_http();
        }
        response.map(|body| Body::new(stream::ResponseBody::new(body, failure, permit, deadline)))
    }

    fn admit(&self, class: Class, head: &Parts, now: Instant) -> Result<Arc<Permit>, Rejected> {
        self.accounts.admit(class, metadata::size(head), now.into_std()).map(Arc::new)
    }

    /// The one deadline of a call: past it the work is dropped, and its connection to the cloud with it.
    async fn until_deadline(
        &self,
        deadline: Instant,
        progress: &Progress,
        is_change: bool,
        work: impl Future<Output = Response<Body>>,
    ) -> Response<Body> {
        let answer = |local: Local| local.status(is_change).into_http();
        tokio::select! {
            // An answer that is there is given, though it be late.
            biased;
            done = AssertUnwindSafe(work).catch_unwind() => done.unwrap_or_else(|_| self.panicked(progress, is_change)),
            () = tokio::time::sleep_until(deadline) => answer(status::deadline_exceeded(progress.is_unknown())),
            () = self.shared.expired.cancelled() => answer(status::shutting_down(progress.is_unknown())),
        }
    }

    /// Health and reflection.
    async fn standard(&self, head: Parts, body: Body) -> Response<Body> {
        match self.routes.clone().call(Request::from_parts(head, body)).await {
            Ok(response) => with_details(response),
            Err(never) => match never {},
        }
    }

    fn panicked(&self, progress: &Progress, is_change: bool) -> Response<Body> {
        error!("a handler panicked; the message is above");
        self.shared.metrics.panics.inc();
        status::panicked(progress.is_unknown()).status(is_change).into_http()
    }
}

/// The deadline of a call, after `most` at the latest, and whether its message may be packed with gzip.
fn terms(headers: &mut HeaderMap, now: Instant, most: Duration, is_change: bool) -> Result<(Instant, bool), Status> {
    let timeout = metadata::timeout(headers, most).map_err(|()| status::malformed_timeout().status(is_change))?;
    if timeout.is_zero() {
        return Err(status::deadline_exceeded(false).status(is_change));
    }
    Ok((now + timeout, request_body::take_encoding(headers, is_change)?))
}

/// Admits a message before it is built: counts its entries, charges its weight, and takes the concurrency permit.
///
/// The permit is taken last: calls without a complete message must not keep others out.
fn admit_message(method: &str, body: &RequestBody, permit: &Permit) -> Result<(), Local> {
    let entries = entries::count(method, body.message());
    if entries > MAX_ENTRIES {
        return Err(status::too_many_entries(entries, MAX_ENTRIES));
    }
    // The message and the frame that it is read from; later its JSON in place of the frame.
    let weight = 2 * body.message().remaining() + ENTRY_COST * entries;
    permit.settle(weight).and_then(|()| permit.run()).map_err(status::rejected)
}

/// The message in a body that is all there, read and counted as that of a call with the default limits. For fuzzing.
///
/// # Errors
///
/// The status that the call gets.
pub(crate) fn read_message(method: &'static str, body: Bytes, is_gzip: bool) -> Result<Vec<u8>, Status> {
    const MESSAGE: usize = 4 * 1024 * 1024;
    let limits = admission::Limits { concurrency: 1, memory: 8 * MESSAGE, message: MESSAGE };
    let connection = Arc::new(Admission::new(limits)).connect(&Peer { identity: Identity::Nobody, address: None });
    let rejected = |rejected| status::rejected(rejected).status(true);
    let permit = connection.admit(Class::Call, 0, std::time::Instant::now()).map_err(rejected)?;
    let read = request_body::read(http_body_util::Full::new(body), is_gzip, MESSAGE, &permit).now_or_never();
    let body = read.expect("a body that is there is read at once").map_err(|error| error.status(true))?;
    admit_message(method, &body, &permit).map_err(|local| local.status(true))?;
    let mut message = vec![0; body.message().remaining()];
    body.message().copy_to_slice(&mut message);
    Ok(message)
}

/// Gives an error that the standard services make of bytes that are no message the code and the details that ours have.
fn with_details(response: Response<Body>) -> Response<Body> {
    if response.headers().contains_key(&GRPC_STATUS_DETAILS) {
        return response;
    }
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::Internal => {
            status::unreadable_message(status.message()).status(true).into_http()
        }
        _ => response,
    }
}

/// The name of methods that do not exist.
const UNKNOWN: &str = "_OTHER";

/// The method's name for metrics and logs, and the method if it is the API's; a stranger's paths must not become labels.
fn method(path: &str) -> (&'static str, Option<&'static Method>) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match resources::method(path) {
        Some(method) => (method.name, Some(method)),
        None if path == HEALTH_CHECK => (HEALTH_CHECK, None),
        None => (UNKNOWN, None),
    }
}
