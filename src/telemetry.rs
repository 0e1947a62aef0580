//! Metrics: counters, gauges and histograms of the whole process, and their text for the admin port.

mod labels;
mod live;
mod process;
mod table;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, exemplar::HistogramWithExemplars, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;

pub(crate) use self::{
    labels::{Abort, CredentialState},
    live::Snapshot,
    process::started,
    table::markdown,
};
use self::{
    labels::{
        AbortLabels, Answered, CallLabels, CredentialStateLabels, FileLabels, FileReloadLabels, IdentityLabels,
        ReadBackLabels, RenewalLabels, TraceLabels, UpstreamLabels, Verb,
    },
    live::Live,
    table::register,
};
use crate::{call::TraceId, log};

/// From a call on warm connections to one that waits for its deadline, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The number of gRPC codes, from 0 on.
pub(crate) const CODES: usize = 17;

/// The metrics of one credential that is renewed before it expires.
#[derive(Debug, Clone)]
pub(crate) struct Renewals {
    pub(crate) fetched: Counter,
    pub(crate) failed: Counter,
    /// The time of the last successful fetch, in seconds since 1970.
    pub(crate) fetched_at: Gauge,
    /// The expiry of the credential that was fetched last, in seconds since 1970.
    pub(crate) expiry: Gauge,
    /// Panics of the task that fetches.
    pub(crate) panics: Counter,
    states: Vec<(CredentialState, Gauge)>,
}

impl Renewals {
    /// The state of the task that fetches, once it has one.
    pub(crate) fn current(&self) -> Option<CredentialState> {
        self.states.iter().find(|(_, gauge)| gauge.get() == 1).map(|(state, _)| *state)
    }

    /// Shows the state of the task that fetches.
    pub(crate) fn state(&self, state: CredentialState) {
        for (other, gauge) in &self.states {
            gauge.set(i64::from(*other == state));
        }
    }
}

/// Counters of the files of one setting that are loaded again when they change.
#[derive(Debug, Clone)]
pub(crate) struct FileReloads {
    pub(crate) setting: &'static str,
    /// Loads that brought something new.
    pub(crate) loaded: Counter,
    pub(crate) failed: Counter,
    /// Watchers of this setting that failed to load their files the last time.
    pub(crate) failing: Gauge,
}

/// The credentials and files that have metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Those that are renewed, by identity.
    pub(crate) credentials: BTreeMap<String, Renewals>,
    /// The fuses of key pairs, by identity.
    pub(crate) fuses: BTreeMap<String, Gauge>,
    /// The numbers of files that can't be loaded, by setting.
    pub(crate) files: BTreeMap<&'static str, Gauge>,
}

/// The metrics of the gateway. Names follow OpenTelemetry's semantic conventions where those have one.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, HistogramWithExemplars<TraceLabels>>,
    /// Calls that are over, by the number of their code.
    ended: [AtomicU64; CODES],
    live: Live,
    upstream: Family<UpstreamLabels, Histogram>,
    /// Calls that have no complete response yet.
    pub(crate) calls_in_progress: Gauge,
    /// Open connections on the gRPC port.
    pub(crate) connections: Gauge,
    /// Connections on the gRPC port that were sent GOAWAY.
    pub(crate) connections_draining: Gauge,
    /// Connections on the gRPC port that completed their handshake and were served.
    pub(crate) connections_accepted: Counter,
    /// Connections closed because of `max-connections`.
    pub(crate) connections_refused: Counter,
    handshakes_aborted: Family<AbortLabels, Counter>,
    /// Connections on the admin port that were closed for newer ones.
    pub(crate) admin_connections_evicted: Counter,
    /// Calls on which a handler panicked.
    pub(crate) panics: Counter,
    /// Requests to the cloud that were repeated.
    pub(crate) retries: Counter,
    read_backs: Family<ReadBackLabels, Counter>,
    /// The circuit to the upstream: 0 closed, 1 half open, 2 open.
    pub(crate) circuit: Gauge,
    /// Panics of background tasks, which are started again.
    pub(crate) task_panics: Counter,
    renewals: Family<RenewalLabels, Counter>,
    credential_states: Family<CredentialStateLabels, Gauge>,
    credential_fuses: Family<IdentityLabels, Gauge>,
    fetches: Family<IdentityLabels, Gauge>,
    expiries: Family<IdentityLabels, Gauge>,
    known: Mutex<Known>,
    /// TLS handshakes on the gRPC port that failed.
    pub(crate) tls_handshake_failures: Counter,
    /// The end of validity of the gateway's certificate, in seconds since 1970; 0 without TLS.
    pub(crate) tls_not_after: Gauge,
    /// The earliest next update among the loaded revocation lists, in seconds since 1970; 0 without lists.
    pub(crate) tls_crl_next_update: Gauge,
    file_reloads: Family<FileReloadLabels, Counter>,
    files_failing: Family<FileLabels, Gauge>,
    /// Audit lines that could not be written to their destination.
    pub(crate) audit_lines_not_written: Counter,
    /// Audit lines of calls without a valid message that were left out because of their number.
    pub(crate) audit_lines_suppressed: Counter,
    /// Calls that the policy denied.
    pub(crate) calls_denied: Counter,
    /// Spans that the collector does not have.
    pub(crate) spans_lost: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(BUCKETS);
        let metrics = Self {
            registry: Registry::default(),
            calls: Family::new_with_constructor(|| HistogramWithExemplars::new(BUCKETS.into_iter())),
            ended: Default::default(),
            live: Live::default(),
            upstream: Family::new_with_constructor(histogram),
            calls_in_progress: Gauge::default(),
            connections: Gauge::default(),
            connections_draining: Gauge::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            handshakes_aborted: Family::default(),
            admin_connections_evicted: Counter::default(),
            panics: Counter::default(),
            retries: Counter::default(),
            read_backs: Family::default(),
            circuit: Gauge::default(),
            task_panics: Counter::default(),
            renewals: Family::default(),
            credential_states: Family::default(),
            credential_fuses: Family::default(),
            fetches: Family::default(),
            expiries: Family::default(),
            known: Mutex::default(),
            tls_handshake_failures: Counter::default(),
            tls_not_after: Gauge::default(),
            tls_crl_next_update: Gauge::default(),
            file_reloads: Family::default(),
            files_failing: Family::default(),
            audit_lines_not_written: Counter::default(),
            audit_lines_suppressed: Counter::default(),
            calls_denied: Counter::default(),
            spans_lost: Counter::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        register(registry, "rpc_server_call_duration", self.calls.clone());
        register(registry, "http_client_request_duration", self.upstream.clone());
        register(registry, "apig_gateway_calls_in_progress", self.calls_in_progress.clone());
        register(registry, "apig_gateway_connections", self.connections.clone());
        register(registry, "apig_gateway_connections_draining", self.connections_draining.clone());
        register(registry, "apig_gateway_connections_accepted", self.connections_accepted.clone());
        register(registry, "apig_gateway_connections_refused", self.connections_refused.clone());
        register(registry, "apig_gateway_handshakes_aborted", self.handshakes_aborted.clone());
        register(registry, "apig_gateway_admin_connections_evicted", self.admin_connections_evicted.clone());
        register(registry, "apig_gateway_panics", self.panics.clone());
        register(registry, "apig_gateway_retries", self.retries.clone());
        register(registry, "apig_gateway_read_backs", self.read_backs.clone());
        register(registry, "apig_gateway_circuit_state", self.circuit.clone());
        register(registry, "apig_gateway_task_panics", self.task_panics.clone());
        register(registry, "apig_gateway_credential_state", self.credential_states.clone());
        register(registry, "apig_gateway_credential_fuse", self.credential_fuses.clone());
        register(registry, "apig_gateway_credential_renewals", self.renewals.clone());
        register(registry, "apig_gateway_credential_fetched_timestamp", self.fetches.clone());
        register(registry, "apig_gateway_credential_expiry_timestamp", self.expiries.clone());
        register(registry, "apig_gateway_tls_handshake_failures", self.tls_handshake_failures.clone());
        register(registry, "apig_gateway_tls_certificate_not_after", self.tls_not_after.clone());
        register(registry, "apig_gateway_tls_client_crl_next_update", self.tls_crl_next_update.clone());
        register(registry, "apig_gateway_file_reloads", self.file_reloads.clone());
        register(registry, "apig_gateway_file_reload_failing", self.files_failing.clone());
        register(registry, "apig_gateway_audit_lines_not_written", self.audit_lines_not_written.clone());
        register(registry, "apig_gateway_audit_lines_suppressed", self.audit_lines_suppressed.clone());
        register(registry, "apig_gateway_log_lines_lost", log::lines_lost());
        register(registry, "apig_gateway_calls_denied", self.calls_denied.clone());
        register(registry, "apig_gateway_spans_lost", self.spans_lost.clone());
        self.live.register(registry);
        self
    }

    /// The metrics of one identity's credential, by the identity's name in the configuration.
    pub(crate) fn credential(&self, identity: &str) -> Renewals {
        let renewals = |result| {
            let labels = RenewalLabels { identity: identity.to_owned(), result };
            self.renewals.get_or_create(&labels).clone()
        };
        let labels = IdentityLabels { identity: identity.to_owned() };
        let states = CredentialState::ALL.map(|(state, name)| {
            let labels = CredentialStateLabels { identity: identity.to_owned(), state: name };
            (state, self.credential_states.get_or_create(&labels).clone())
        });
        let renewals = Renewals {
            fetched: renewals("fetched"),
            failed: renewals("failed"),
            fetched_at: self.fetches.get_or_create(&labels).clone(),
            expiry: self.expiries.get_or_create(&labels).clone(),
            panics: self.task_panics.clone(),
            states: states.into(),
        };
        self.lock().credentials.insert(labels.identity, renewals.clone());
        renewals
    }

    /// The credentials and files that have metrics, for the admin port.
    pub(crate) fn known(&self) -> Known {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position of the fuse of an identity's key pair.
    pub(crate) fn credential_fuse(&self, identity: &str) -> Gauge {
        let labels = IdentityLabels { identity: identity.to_owned() };
        let fuse = self.credential_fuses.get_or_create(&labels).clone();
        self.lock().fuses.insert(labels.identity, fuse.clone());
        fuse
    }

    /// The counters of the files of one setting.
    pub(crate) fn file_reloads(&self, setting: &'static str) -> FileReloads {
        let reloads = |result| self.file_reloads.get_or_create(&FileReloadLabels { setting, result }).clone();
        let failing = self.files_failing.get_or_create(&FileLabels { setting }).clone();
        self.lock().files.insert(setting, failing.clone());
        FileReloads { setting, loaded: reloads("loaded"), failed: reloads("failed"), failing }
    }

    /// Connections that were closed before their handshake was complete.
    pub(crate) fn handshakes_aborted(&self, reason: Abort) -> Counter {
        let reason = match reason {
            Abort::Evicted => "evicted",
            Abort::Timeout => "timeout",
            Abort::Drain => "drain",
        };
        self.handshakes_aborted.get_or_create(&AbortLabels { reason }).clone()
    }

    /// Counts a call that is over. A trace that is recorded becomes an exemplar.
    pub(crate) fn call(&self, method: &'static str, code: Code, took: Duration, trace: Option<TraceId>) {
        let labels = CallLabels { rpc_method: method, rpc_response_status_code: code_name(code) };
        let exemplar = trace.map(|trace_id| TraceLabels { trace_id });
        let time = exemplar.is_some().then(SystemTime::now);
        self.calls.get_or_create(&labels).observe(took.as_secs_f64(), exemplar, time);
        if let Some(ended) = self.ended.get(code as usize) {
            ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The numbers of calls that are over, by code.
    pub(crate) fn ended(&self) -> [(Code, u64); CODES] {
        let mut code = -1;
        self.ended.each_ref().map(|count| {
            code += 1;
            (Code::from_i32(code), count.load(Ordering::Relaxed))
        })
    }

    /// Sets the metrics of state that exists anyway.
    pub(crate) fn set(&self, snapshot: &Snapshot) {
        self.live.set(snapshot);
    }

    /// Counts a look-up of an unknown outcome.
    pub(crate) fn read_back(&self, result: &'static str) {
        self.read_backs.get_or_create(&ReadBackLabels { result }).inc();
    }

    /// Counts a request to the cloud.
    pub(crate) fn upstream(&self, verb: &Method, status: Option<StatusCode>, took: Duration) {
        let labels =
            UpstreamLabels { http_request_method: Verb(verb.clone()), http_response_status_code: Answered::of(status) };
        self.upstream.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Everything in the text format of `OpenMetrics`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = writeln!(text, "# metrics could not be encoded");
        }
        text
    }
}

/// The canonical name of a code.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
