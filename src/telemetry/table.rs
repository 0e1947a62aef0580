//! The table of metrics, from which the registry has its help texts and `docs/metrics.md` is written.

use std::fmt::Write as _;

use prometheus_client::{
    metrics::MetricType,
    registry::{Metric as Registered, Registry, Unit},
};

/// One metric.
struct Metric {
    /// The name without the suffixes for unit and type.
    name: &'static str,
    kind: MetricType,
    in_seconds: bool,
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
        self.in_seconds = true;
        self
    }

    /// The name in the exposition.
    fn full_name(&self) -> String {
        let unit = if self.in_seconds { "_seconds" } else { "" };
        let total = if matches!(self.kind, MetricType::Counter) { "_total" } else { "" };
        format!("{}{unit}{total}", self.name)
    }
}

const fn metric(kind: MetricType, name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, in_seconds: false, labels: &[], help }
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
            ("http_response_status_code", "HTTP status, or `none` without a response"),
        ]),
    gauge("apig_gateway_calls_in_progress", "Calls in progress"),
    counter("apig_gateway_calls_denied", "Calls that the policy denied"),
    counter("apig_gateway_panics", "Calls whose handler panicked"),
    gauge("apig_gateway_connections", "Open connections on the gRPC port"),
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
    counter("apig_gateway_read_backs", "Look-ups of unknown outcomes")
        .with_labels(&[("result", "`confirmed`, `all`, `some`, `none`, `failed`, `skipped` (too many at once)")]),
    gauge("apig_gateway_circuit_state", "State of the circuit breaker: 0 closed, 1 half open, 2 open"),
    counter("apig_gateway_credential_renewals", "Credentials that were fetched, and fetches that failed")
        .with_labels(&[IDENTITY, ("result", "`fetched`, `failed`")]),
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
    counter("apig_gateway_task_panics", "Panics of background tasks, which are started again"),
];

/// Registers a metric under the name and help text of its row.
///
/// # Panics
///
/// The table has no such row.
pub(super) fn register(registry: &mut Registry, name: &str, metric: impl Registered) {
    let row = METRICS.iter().find(|row| row.name == name).expect("every metric has a row in the table");
    if row.in_seconds {
        registry.register_with_unit(row.name, row.help, Unit::Seconds, metric);
    } else {
        registry.register(row.name, row.help, metric);
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
        metrics.call("m", Code::Ok, Duration::ZERO);
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
