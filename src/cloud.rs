//! The cloud's API as functions: a request message goes in, success or an [`Error`] comes out. gRPC's status codes and
//! metadata are the business of [`status`](crate::status).

mod answer;
mod breaker;
mod catalogue;
mod certificate_lock;
mod error;
mod headers;
mod in_flight;
mod rate_limit;
mod read_back;
mod refusal;
mod rest;
mod retry;
mod vitals;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::header;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use self::{
    answer::read,
    breaker::Circuit,
    catalogue::{Kind, Plane, Processed, Row, rows},
    certificate_lock::LockQueueFull,
    error::{ClockSkew, Error},
    headers::headers,
    rate_limit::{RateLimited, Usage},
    read_back::{Goal, Observed, attached, detached},
    refusal::{Refusal, Throttle},
    rest::{Operation, rest_request},
    vitals::Vitals,
};
use self::{
    breaker::{Breaker, CircuitOpen},
    certificate_lock::{CertificateLocks, Waiter},
    headers::{X_REQUEST_ID, add_ids},
    in_flight::{InFlight, SendRecord},
    rate_limit::RateLimiter,
    read_back::{Found, ReadBack},
    retry::{Budget, RuntimeClock},
};
use crate::{
    call::Call,
    credentials::{Credential, Credentials, Project, SigningInput, Verdict},
    mask::Masker,
    resources::Resources,
    telemetry::Metrics,
    trace::{self, RequestSpan},
    upstream::{BodyError, Failure, Head, Upstream},
};

/// The time before the deadline at which the body of an answer is no longer waited for, so that its status still reaches
/// the caller.
const BODY_MARGIN: Duration = Duration::from_millis(100);

/// The limit on the body of a success: as much as clients take of a message by default.
const MOST_ANSWER: usize = 4 * 1024 * 1024;

/// How the client treats the cloud, and its own callers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// `apic` or `apigw`: the segment of paths that tells the API families apart.
    pub(crate) family: &'static str,
    /// Attempts in all, the first included.
    pub(crate) max_attempts: u32,
    /// Changes of one certificate go one after the other.
    pub(crate) serialize_certificates: bool,
    /// Failures in a row after which calls fail fast; 0: never.
    pub(crate) breaker_threshold: u32,
    /// `None`: as fast as callers come.
    pub(crate) max_requests_per_second: Option<usize>,
    /// Unknown outcomes that are looked up at the same time; `None`: none is.
    pub(crate) max_read_backs: Option<usize>,
}

/// A client of the cloud's API. Clones share all but their connections' pool.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    upstream: Upstream,
    credentials: Arc<Credentials>,
    family: &'static str,
    project: Arc<Project>,
    max_attempts: u32,
    budget: Arc<Budget>,
    locks: Option<Arc<CertificateLocks>>,
    breaker: Arc<Breaker>,
    rate_limiter: Option<Arc<RateLimiter>>,
    read_back: Option<Arc<ReadBack>>,
    metrics: Arc<Metrics>,
}

/// The result of a successful call.
#[derive(Debug)]
pub(crate) struct Success<T> {
    pub(crate) response: T,
    /// The cloud's id for the request.
    pub(crate) request_id: Option<String>,
    /// The outcome was unknown, and the cloud lists the change as made.
    pub(crate) is_confirmed: bool,
}

/// The end of a call without success.
#[derive(Debug)]
pub(crate) struct CallError {
    pub(crate) error: Error,
    /// The state that the cloud listed after an unknown outcome.
    pub(crate) observed: Option<Observed>,
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self { error, observed: None }
    }
}

impl Client {
    pub(crate) fn new(
        upstream: Upstream,
        credentials: Arc<Credentials>,
        project: Project,
        settings: Settings,
        draining: CancellationToken,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            upstream,
            credentials,
            family: settings.family,
            project: Arc::new(project),
            max_attempts: settings.max_attempts,
            budget: Arc::new(Budget::new(Instant::now())),
            locks: settings.serialize_certificates.then(Arc::default),
            breaker: Arc::new(Breaker::new(settings.breaker_threshold)),
            rate_limiter: settings.max_requests_per_second.map(|limit| Arc::new(RateLimiter::new(limit))),
            read_back: settings.max_read_backs.map(|limit| Arc::new(ReadBack::new(limit, draining))),
            metrics,
        }
    }

    /// The same client with a pool of its own: connections belong to the thread that opened them.
    pub(crate) fn with_pool(&self, upstream: Upstream) -> Self {
        Self { upstream, ..self.clone() }
    }

    /// Whether requests may leave their project out.
    pub(crate) fn has_default_project(&self) -> bool {
        self.project.is_some()
    }

    /// The project that requests without one act on, if it is known already.
    pub(crate) fn known_default_project(&self) -> Option<Arc<str>> {
        self.project.known()
    }

    /// The project that requests without one act on.
    ///
    /// # Errors
    ///
    /// Those of a missing credential: IAM may have to be asked.
    pub(crate) async fn default_project(&self) -> Result<Option<Arc<str>>, Error> {
        self.project.id().await.map_err(Error::Unauthorized)
    }

    /// Performs one operation. A `goal` has an unknown outcome looked up. Dropping the future gives the request up, and its
    /// connection with it.
    ///
    /// # Errors
    ///
    /// Every [`Error`]: the cloud refused, the request could not be sent, or its answer is missing or makes no sense.
    pub(crate) async fn call<O: Operation>(
        &self,
        request: &O,
        resources: &Resources<'_>,
        call: &Call,
        goal: Option<fn(&O) -> Goal<'_>>,
    ) -> Result<Success<O::Response>, CallError> {
        let project = Some(resources.project).filter(|project| !project.is_empty());
        let rest_request =
            rest_request(request, resources, self.family).map_err(|unsafe_| Error::UnsafeRequest(unsafe_.0))?;
        // A call that has no credential must not wait for others first.
        self.credentials.check_presence(call, project).map_err(Error::Unauthorized)?;
        // Held over pauses too: a waiting call would only meet the same answer.
        let _lock = match &self.locks {
            Some(locks) if resources.method.is_change && !resources.certificates.is_empty() => {
                let share = call.account.share_of(certificate_lock::LONGEST_QUEUE);
                let waiter = Waiter { caller: call.account.caller(), share };
                let _wait = call.trace.wait("certificate_lock");
                let locked = locks.take(resources.project, &resources.certificates, waiter).await;
                Some(locked.map_err(Error::LockQueueFull)?)
            }
            _ => None,
        };
        // A caller that repeats by itself must not multiply with us.
        let most = self.max_attempts.saturating_sub(call.previous_attempts).max(1);
        let attempt = || self.attempt::<O>(&rest_request, project, call);
        let repeated = |error: &Error, number, delay| {
            self.metrics.retries.inc();
            if let Some(span) = &call.trace.span {
                span.retry(number, delay);
            }
            debug!(attempt = number, ?delay, ?error, "trying again");
        };
        let result = retry::run(&RuntimeClock, &self.budget, most, call.deadline, attempt, repeated).await;
        let (Err(error), Some(goal), Some(read_back)) = (&result, goal, &self.read_back) else {
            return result.map_err(CallError::from);
        };
        if !call.progress.is_unknown() {
            return result.map_err(CallError::from);
        }
        // The goal takes the memory of the JSON.
        drop(rest_request);
        match read_back.look_up(self, goal(request), resources, call).await {
            Some(Found::Confirmed) => {
                let request_id = error.request_id().map(str::to_owned);
                Ok(Success { response: O::Response::default(), request_id, is_confirmed: true })
            }
            Some(Found::Observed(observed)) => result.map_err(|error| CallError { error, observed: Some(observed) }),
            None => result.map_err(CallError::from),
        }
    }

    /// One attempt, freshly authorized. A held token that the cloud refuses and that has been replaced by now (they die
    /// early when permissions change) earns one more exchange.
    async fn attempt<O: Operation>(
        &self,
        rest_request: &rest::RestRequest<'_>,
        project: Option<&str>,
        call: &Call,
    ) -> Result<Success<O::Response>, Error> {
        let mut is_repeat = false;
        loop {
            let grant = self.credentials.grant(call, project).await.map_err(Error::Unauthorized)?;
            let result = self.exchange::<O>(rest_request, grant.credential(), project, call).await;
            let verdict = verdict(&result);
            if verdict == Verdict::Refused {
                // Before calls that wait for the same key pair hear of it.
                self.credentials.retire(grant.credential(), project);
            }
            let code = match &result {
                Err(Error::Refused(refusal)) => refusal.code.as_deref(),
                Ok(_) | Err(_) => None,
            };
            let credential = grant.settle(verdict, code);
            let Err(Error::Refused(refusal)) = result else { return result };
            if refusal.processed() != Processed::Unknown {
                call.progress.settled();
            }
            if verdict != Verdict::Refused {
                return Err(Error::Refused(refusal));
            }
            if is_repeat || !self.credentials.is_replaced(&credential, project).await.map_err(Error::Unauthorized)? {
                return Err(self.blame(refusal, &credential));
            }
            is_repeat = true;
        }
    }

    /// One exchange, when circuit and rate limit allow it.
    async fn exchange<O: Operation>(
        &self,
        rest_request: &rest::RestRequest<'_>,
        credential: &Credential,
        project: Option<&str>,
        call: &Call,
    ) -> Result<Success<O::Response>, Error> {
        // Behind an open circuit no call waits for a slot. The right to probe is taken only once there is one, for it may
        // open or close meanwhile.
        let circuit_open = |CircuitOpen(wait)| Error::CircuitOpen(wait);
        self.breaker.check(Instant::now()).map_err(circuit_open)?;
        let slot = match &self.rate_limiter {
            Some(limiter) if call.is_read_back => {
                Some(limiter.try_acquire(Instant::now()).map_err(Error::RateLimited)?)
            }
            Some(limiter) => {
                let _wait = call.trace.wait("rate_limit");
                Some(limiter.acquire(&RuntimeClock, call.deadline).await.map_err(Error::RateLimited)?)
            }
            None => None,
        };
        // A look-up neither probes the upstream nor counts as one of its failures: calls alone decide on the circuit.
        let admission =
            if call.is_read_back { None } else { Some(self.breaker.admit(Instant::now()).map_err(circuit_open)?) };
        let record = SendRecord::new(&call.progress, slot);
        let in_flight = InFlight::new(admission, Arc::clone(&record), &self.metrics);
        let mut headers = headers(rest_request.body.is_some());
        let path = self.upstream.wire_path(&rest_request.path);
        let verb = O::VERB;
        let input = SigningInput {
            verb: verb.as_str(),
            authority: self.upstream.authority(),
            path: &path,
            query: &rest_request.query,
            body: rest_request.body.as_deref().unwrap_or_default(),
        };
        credential.authorize(&mut headers, input, project, SystemTime::now());
        let signed = headers.get(header::AUTHORIZATION).cloned();
        let secrets = rest_request.secrets.iter().map(|secret| secret.as_bytes());
        let masker = credential.masker(call.token.as_ref(), signed.as_ref()).with(secrets);
        // Added when it is signed: proxies may change them on the way, so they are no part of a signature.
        let span = self.request_span::<O>(call);
        add_ids(&mut headers, call, span.as_ref());
        let (query, body) = (&rest_request.query, rest_request.body.clone());
        let head = self.upstream.exchange(verb, &path, query, headers, body, &record, &masker).await;
        in_flight.end(match &head {
            Ok(head) => matches!(head.status().as_u16(), 502..=504),
            Err(_) => true,
        });
        let answered = head.as_ref().ok().map(Head::status);
        let result = answer::<O>(head, call, &masker).await;
        if let Some(span) = span {
            span.end(answered, result.as_ref().err().map(Error::name));
        }
        result
    }

    /// Starts the span of a request, if its call is traced.
    fn request_span<O: Operation>(&self, call: &Call) -> Option<RequestSpan> {
        let span = call.trace.span.as_ref().filter(|span| span.is_recording())?;
        let template = O::TEMPLATE.replacen("{family}", self.family, 1);
        let template = &self.upstream.wire_path(&template);
        let (host, port) = self.upstream.address();
        span.request(&trace::Request { verb: O::VERB.as_str(), template, host, port, is_attempt: !call.is_read_back })
    }

    /// Tells a refusal of the caller's own credential from one of the gateway's.
    fn blame(&self, refusal: Box<Refusal>, credential: &Credential) -> Error {
        if !self.credentials.are_ours() {
            return Error::Refused(refusal);
        }
        let date = refusal.date.filter(|_| credential.is_signature());
        let skew = date.and_then(|date| ClockSkew::between(SystemTime::now(), date));
        warn!(
            code = refusal.code,
            cloud_message = refusal.message,
            ?skew,
            "the cloud refuses the gateway's credentials"
        );
        Error::CredentialsRefused(refusal, skew)
    }
}

/// Reads the answer to a request.
async fn answer<O: Operation>(
    head: Result<Head, Failure>,
    call: &Call,
    masker: &Masker<'_>,
) -> Result<Success<O::Response>, Error> {
    let head = match head {
        Ok(head) => head,
        Err(Failure::NotSent(cause)) => {
            call.progress.settled();
            return Err(Error::Unreachable(cause));
        }
        Err(Failure::Interrupted(cause)) if O::METHOD.is_change => return Err(Error::ConnectionLost(cause)),
        Err(Failure::Interrupted(cause)) => return Err(Error::ReadInterrupted(cause)),
        Err(Failure::Decode(cause)) => return Err(Error::Decode(cause)),
    };
    if !O::HAS_ANSWER || head.status() != O::SUCCESS {
        return read::<O>(&head.read(call.deadline - BODY_MARGIN).await, masker);
    }
    let id = head.headers().get(&X_REQUEST_ID).cloned();
    let until = call.deadline - BODY_MARGIN;
    match head.read_success(until, MOST_ANSWER, |bytes| call.account.charge(bytes), masker).await {
        Ok(answer) => read::<O>(&answer, masker),
        Err(BodyError::NotCharged) => Err(Error::NoMemory),
        Err(error) => {
            let request_id = answer::request_id(id.as_ref(), masker);
            Err(Error::Malformed { status: O::SUCCESS, cause: error.to_string(), request_id })
        }
    }
}

/// The verdict of an answer on the credential of its request.
fn verdict<T>(result: &Result<T, Error>) -> Verdict {
    match result {
        Ok(_) => Verdict::Accepted,
        Err(Error::Refused(refusal)) => match (refusal.kind(), refusal.plane()) {
            (Kind::Unauthenticated, _) => Verdict::Refused,
            // The front gateway lets only authenticated requests through to the service.
            (_, Some(Plane::Service)) if refusal.status < 500 => Verdict::Accepted,
            _ => Verdict::Unproven,
        },
        Err(Error::ConnectionLost(_) | Error::ReadInterrupted(_) | Error::Decode(_)) => Verdict::Interrupted,
        Err(_) => Verdict::Unproven,
    }
}
