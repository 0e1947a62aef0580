//! The table of metrics, from which the registry has its help texts and `docs/metrics.md` is written.

use std::fmt::Write as _;

use prometheus_client::{
    metrics::MetricType,
    registry::{Metric as Registered, Registry, Unit},
};

/// A unit as a constant can have it.
#[derive(Clone, Copy)]
enum Measure {
    Seconds,
    Bytes,
}

impl Measure {
    fn unit(self) -> Unit {
        match self {
            Self::Seconds => Unit::Seconds,
            Self::Bytes => Unit::Bytes,
        }
    }
}

/// One metric.
struct Metric {
    /// The name without the suffixes for unit and type.
    name: &'static str,
    kind: MetricType,
    unit: Option<Measure>,
    /// Names of labels, each with a description of its values.
    labels: &'static [(&'static str, &'static str)],
    help: &'static str,
}

impl Metric {
    const fn with_labels(mut self, labels: &'static [(&'static str, &'static str)]) -> Self {
        self.labels = labels;
        self
    }

    /// The same in seconds.
    const fn seconds(mut self) -> Self {
        self.unit = Some(Measure::Seconds);
        self
    }

    /// The same in bytes.
    const fn bytes(mut self) -> Self {
        self.unit = Some(Measure::Bytes);
        self
    }

    /// The name in the exposition.
    fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{}", unit.unit().as_str())).unwrap_or_default();
        let total = if matches!(self.kind, MetricType::Counter) { "_total" } else { "" };
        format!("{}{unit}{total}", self.name)
    }
}

const fn metric(kind: MetricType, name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, unit: None, labels: &[], help }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    metric(MetricType::Counter, name, help)
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    metric(MetricType::Gauge, name, help)
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    metric(MetricType::Histogram, name, help)
}

const IDENTITY: (&str, &str) = ("identity", "the project of `[[identities]]`, else `default`");
const SETTING: (&str, &str) = ("setting", "the setting that names the file");

/// Every metric, in the order of `docs/metrics.md`.
const METRICS: &[Metric] = &[
    histogram("rpc_server_call_duration", "Duration of calls, from the request's headers to the end of the response")
        .seconds()
        .with_labels(&[
            ("rpc_method", "full method name"),
            ("rpc_response_status_code", "gRPC code, as in `NOT_FOUND`"),
        ]),
    histogram("http_client_request_duration", "Duration of requests to the cloud, until the headers of the response")
        .seconds()
        .with_labels(&[
            ("http_request_method", "HTTP method"),
            (
                "http_response_status_code",
                "HTTP status; `other` for one that is not registered, `none` without a response",
            ),
        ]),
    gauge("apig_gateway_calls_in_progress", "Calls in progress"),
    counter("apig_gateway_calls_denied", "Calls that the policy denied"),
    counter("apig_gateway_panics", "Calls whose handler panicked"),
    gauge("apig_gateway_buffered", "Memory of all calls in progress with their messages").bytes(),
    gauge("apig_gateway_buffered_limit", "Limit on it: max-buffered-bytes").bytes(),
    gauge("apig_gateway_concurrency_permits", "Calls that have a complete message and a permit of max-concurrency"),
    gauge("apig_gateway_concurrency_permits_limit", "Limit on them: max-concurrency"),
    gauge("apig_gateway_ready", "1 while the gateway is ready, else 0"),
    gauge("apig_gateway_draining", "1 from SIGTERM on, else 0"),
    gauge("apig_gateway_connections", "Open connections on the gRPC port, those in their handshake included"),
    gauge(
        "apig_gateway_connections_in_handshake",
        "Connections on the gRPC port that have not yet sent the HTTP/2 preface",
    ),
    gauge(
        "apig_gateway_connections_active",
        "Connections on the gRPC port with a call or a stream; those without are idle or in their handshake",
    ),
    gauge(
        "apig_gateway_connections_draining",
        "Connections on the gRPC port, active or idle, that were sent GOAWAY: at max-connection-age or at the drain",
    ),
    gauge("apig_gateway_connections_limit", "Limit on connections after their handshake: max-connections"),
    counter(
        "apig_gateway_connections_accepted",
        "Connections on the gRPC port that completed the handshake and were served",
    ),
    counter(
        "apig_gateway_connections_refused",
        "Connections on the gRPC port that were closed after the handshake because of max-connections",
    ),
    counter(
        "apig_gateway_handshakes_aborted",
        "Connections on the gRPC port that were closed before they had sent the HTTP/2 preface",
    )
    .with_labels(&[("reason", "`evicted` (for a newer connection), `timeout`, `drain`")]),
    counter("apig_gateway_tls_handshake_failures", "TLS handshakes on the gRPC port that failed"),
    gauge(
        "apig_gateway_tls_certificate_not_after",
        "End of validity of the gRPC port's certificate, since 1970; 0 without TLS",
    )
    .seconds(),
    gauge(
        "apig_gateway_tls_client_crl_next_update",
        "Earliest next update among the loaded revocation lists, since 1970; 0 without lists",
    )
    .seconds(),
    counter("apig_gateway_admin_connections_evicted", "Connections on the admin port that were closed for newer ones"),
    counter("apig_gateway_retries", "Requests to the cloud that were repeated"),
    gauge("apig_gateway_retry_budget", "Repeats that the retry budget allows at present"),
    gauge("apig_gateway_retry_budget_limit", "Upper bound of the retry budget"),
    gauge("apig_gateway_rate_limit_waiting", "Requests to the cloud that wait because of max-requests-per-second"),
    counter("apig_gateway_rate_limited", "Requests to the cloud that max-requests-per-second held up")
        .with_labels(&[("result", "`delayed`, `rejected` (no slot before the deadline)")]),
    counter("apig_gateway_rate_limit_delay", "Sum of the delays by max-requests-per-second").seconds(),
    counter("apig_gateway_read_backs", "Look-ups of unknown outcomes")
        .with_labels(&[("result", "`confirmed`, `all`, `some`, `none`, `failed`, `skipped` (too many at once)")]),
    gauge("apig_gateway_circuit_state", "State of the circuit breaker: 0 closed, 1 half open, 2 open"),
    counter("apig_gateway_credential_renewals", "Credentials that were fetched, and fetches that failed")
        .with_labels(&[IDENTITY, ("result", "`fetched`, `failed`")]),
    gauge("apig_gateway_credential_fetched_timestamp", "Time of the last successful fetch of a credential, since 1970")
        .seconds()
        .with_labels(&[IDENTITY]),
    gauge("apig_gateway_credential_expiry_timestamp", "Expiry of the credential that was fetched last, since 1970")
        .seconds()
        .with_labels(&[IDENTITY]),
    gauge("apig_gateway_credential_state", "State of the task that fetches a credential; 1 for the current state")
        .with_labels(&[IDENTITY, ("state", "`fetching`, `valid`, `failed`, `refused`")]),
    gauge("apig_gateway_credential_fuse", "Fuse of a key pair: 0 closed, 1 half open, 2 open (nothing is signed)")
        .with_labels(&[IDENTITY]),
    counter("apig_gateway_file_reloads", "Changed files that were loaded again, and loads that failed")
        .with_labels(&[SETTING, ("result", "`loaded`, `failed`")]),
    gauge(
        "apig_gateway_file_reload_failing",
        "Files that can't be loaded at present; their previous content stays in use",
    )
    .with_labels(&[SETTING]),
    counter(
        "apig_gateway_audit_lines_not_written",
        "Audit lines that were not written to their destination; they go to the program's log",
    ),
    counter(
        "apig_gateway_audit_lines_suppressed",
        "Audit lines of calls without a valid message that were left out because of their number",
    ),
    counter("apig_gateway_log_lines_lost", "Log lines that were not written"),
    counter(
        "apig_gateway_spans_lost",
        "Spans that were not exported: the queue was full, or the collector rejected them, failed or did not answer",
    ),
    counter("apig_gateway_task_panics", "Panics of background tasks, which are started again"),
    gauge("apig_gateway_build_info", "The build; always 1").with_labels(&[
        ("version", "version of the gateway"),
        ("commit", "commit that it was built of, or `unknown`"),
        ("rustc", "version of the compiler"),
    ]),
    gauge("process_resident_memory", "Resident memory of the process").bytes(),
    counter("process_cpu", "Processor time of the process, in user space and in the kernel").seconds(),
    gauge("process_open_fds", "Open file descriptors"),
    gauge("process_max_fds", "Limit on open file descriptors"),
    gauge("process_start_time", "Start of the process, since 1970").seconds(),
];

/// Registers a metric under the name and help text of its row.
///
/// # Panics
///
/// The table has no such row.
pub(super) fn register(registry: &mut Registry, name: &str, metric: impl Registered) {
    let row = METRICS.iter().find(|row| row.name == name).expect("every metric has a row in the table");
    match row.unit {
        Some(unit) => registry.register_with_unit(row.name, row.help, unit.unit(), metric),
        None => registry.register(row.name, row.help, metric),
    }
}

/// The rows of `docs/metrics.md`.
pub(crate) fn markdown() -> String {
    let mut text = "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|(name, values)| format!("`{name}`: {values}")).collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            metric.full_name(),
            metric.kind.as_str(),
            labels.join("<br>"),
            metric.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        time::Duration,
    };

    use http::{Method, StatusCode};
    use tonic::Code;

    use super::{super::*, METRICS};

    /// Metrics with a sample in every family.
    fn sampled() -> Metrics {
        let metrics = Metrics::default();
        metrics.call("m", Code::Ok, Duration::ZERO, None);
        metrics.set(&Snapshot::default());
        metrics.upstream(&Method::POST, Some(StatusCode::OK), Duration::ZERO);
        metrics.read_back("none");
        metrics.handshakes_aborted(Abort::Drain).inc();
        metrics.credential("default").fetched.inc();
        metrics.credential_fuse("default").set(0);
        metrics.file_reloads("tls-key").loaded.inc();
        metrics
    }

    #[test]
    fn the_table_has_the_type_and_the_labels_of_every_metric() {
        let text = sampled().text();
        let mut found: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(found.insert(name, (kind, BTreeSet::new())).is_none(), "{name} is registered twice");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let ends = ["_bucket", "_sum", "_count", "_total"];
            let family = ends.iter().find_map(|end| name.strip_suffix(end).filter(|name| found.contains_key(name)));
            let labels = &mut found.get_mut(family.unwrap_or(name)).unwrap().1;
            let list = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(list, _)| list);
            let names = list.split(',').filter_map(|label| Some(label.split_once('=')?.0));
            labels.extend(names.filter(|name| *name != "le"));
        }
        let table: BTreeMap<_, _> = METRICS
            .iter()
            .map(|metric| {
                let labels: BTreeSet<_> = metric.labels.iter().map(|(name, _)| *name).collect();
                (metric.full_name(), (metric.kind.as_str(), labels))
            })
            .collect();
        let found: BTreeMap<_, _> = found
            .into_iter()
            .map(|(name, of)| (if of.0 == "counter" { format!("{name}_total") } else { name.to_owned() }, of))
            .collect();
        assert_eq!(found, table);
    }
}
