//! The variables of OpenTelemetry: defaults, values that are ignored, and values that are faults.

use std::collections::BTreeMap;

use apig_grpc_gateway::config::{Config, Sources};

use super::SAMPLED;
use crate::support::{Authority, Cloud, Collector, Gateway, Manner, Mount, Reply};

/// The configuration as `check` shows it, or its faults.
fn check(variables: &[(&str, &str)]) -> Result<String, String> {
    let variables: BTreeMap<_, _> =
        variables.iter().copied().chain([("APIG_GATEWAY_UPSTREAM", "http://127.0.0.1:1")]).collect();
    let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let config = Config::load(Sources { environment: Some(&lookup), ..Sources::default() });
    config.map(|config| config.describe()).map_err(|faults| faults.to_string())
}

/// The line about traces; `None` if there are none.
fn target(variables: &[(&str, &str)]) -> Option<String> {
    let shown = check(variables).unwrap();
    shown.lines().find_map(|line| line.strip_prefix("# traces go to ")).map(str::to_owned)
}

#[test]
fn traces_are_off_until_a_variable_asks_for_them() {
    const URL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    let off: [&[(&str, &str)]; 7] = [
        &[],
        &[("OTEL_SERVICE_NAME", "s"), ("OTEL_TRACES_SAMPLER", "always_on"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=b")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[("OTEL_TRACES_EXPORTER", "none"), URL],
        &[("OTEL_SDK_DISABLED", "TRUE"), URL],
        &[("OTEL_TRACES_EXPORTER", "zipkin")],
        &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://collector:4318")],
    ];
    for variables in off {
        assert_eq!(target(variables), None, "{variables:?}");
    }
    assert!(target(&[("OTEL_SDK_DISABLED", "1"), URL]).is_some());
    assert!(target(&[("OTEL_TRACES_EXPORTER", "zipkin"), URL]).is_some());
}

#[test]
fn the_address_is_the_specifications() {
    const OTLP: (&str, &str) = ("OTEL_TRACES_EXPORTER", "otlp");
    const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let all = |url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url);
    let own = |url| ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url);
    let table: [(&[(&str, &str)], &str); 10] = [
        (&[OTLP], "http://localhost:4318/v1/traces by HTTP"),
        (&[OTLP, GRPC], "http://localhost:4317 by gRPC"),
        (&[all("http://c:1/")], "http://c:1/v1/traces by HTTP"),
        (&[all("http://c:1/prefix")], "http://c:1/prefix/v1/traces by HTTP"),
        (&[own("http://c:1/as/it/is")], "http://c:1/as/it/is by HTTP"),
        (&[own("http://c:1"), all("http://d")], "http://c:1/ by HTTP"),
        (&[own("http://c:1"), GRPC], "http://c:1 by gRPC"),
        (
            &[all("http://c"), GRPC, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")],
            "http://c/v1/traces by HTTP",
        ),
        (&[all("c:4317"), GRPC, ("OTEL_EXPORTER_OTLP_INSECURE", "true")], "http://c:4317 by gRPC"),
        (&[all("http://c"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")], "http://c/v1/traces by HTTP"),
    ];
    for (variables, expected) in table {
        assert_eq!(target(variables).as_deref(), Some(expected), "{variables:?}");
    }
}

#[test]
fn unknown_choices_and_numbers_are_ignored_with_a_warning() {
    let wrong = [
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_RESOURCE_ATTRIBUTES", "no pair"),
    ];
    for (name, value) in wrong {
        let shown = check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), (name, value)]).unwrap();
        let warning = shown.lines().find(|line| line.starts_with(&format!("# {name} "))).unwrap_or_default();
        assert!(warning.ends_with("; it is ignored") && !warning.contains(value), "{name}: {shown}");
    }
    let ratio = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "1.5")];
    let shown = check(&[ratio[0], ratio[1], ("OTEL_TRACES_EXPORTER", "otlp")]).unwrap();
    assert!(shown.contains("# OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1; it is ignored"), "{shown}");
}

#[test]
fn what_can_not_be_used_is_a_fault() {
    let authority = Authority::new();
    let mount = Mount::new(&[("ca", authority.pem().as_str()), ("junk", "junk")]);
    let (ca, junk) = (mount.path("ca"), mount.path("junk"));
    let https = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c");
    let table: [(&[(&str, &str)], &str); 8] = [
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318")],
            "OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "://")],
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be an absolute URL",
        ),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:p4ss@c")], "must not hold a user or a password"),
        (&[https, ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")], "OTEL_EXPORTER_OTLP_HEADERS must be key=value"),
        (&[https, ("OTEL_EXPORTER_OTLP_HEADERS", "a b=s3cret")], "OTEL_EXPORTER_OTLP_HEADERS must be key=value"),
        (&[https, ("OTEL_EXPORTER_OTLP_CERTIFICATE", &junk)], "OTEL_EXPORTER_OTLP_CERTIFICATE holds no certificate"),
        (&[https, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere")], "OTEL_EXPORTER_OTLP_CERTIFICATE can't be read"),
        (
            &[https, ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &ca)],
            "OTEL_EXPORTER_OTLP_CLIENT_KEY needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        ),
    ];
    for (variables, expected) in table {
        let faults = check(variables).unwrap_err();
        assert!(faults.contains(expected), "{variables:?}: {faults}");
        assert!(!faults.contains("s3cret") && !faults.contains("p4ss"), "{faults}");
    }
    check(&[https, ("OTEL_EXPORTER_OTLP_CERTIFICATE", &ca)]).unwrap();
}

#[tokio::test]
async fn without_variables_the_context_passes_as_it_came() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let collector = Collector::that(Manner::Takes).await;
    let plan = super::traced(Gateway::facing(cloud.address), &collector.url()).variable("OTEL_TRACES_EXPORTER", "none");
    let mut gateway = plan.start().await;
    super::send(&gateway, SAMPLED).await.unwrap();
    assert_eq!(cloud.only_request().header("traceparent"), Some(SAMPLED));
    assert_eq!(cloud.only_request().header("tracestate"), Some("vendor=1,other=2"));
    gateway.stop();
    gateway.drained().await;
    assert_eq!(collector.count(), 0);
}
