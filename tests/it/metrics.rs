//! The metrics of state, their exemplars, and the bound on their number.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use tonic::{Code, Request, client::Grpc};
use tonic_prost::ProstCodec;

use crate::support::{Cloud, Gateway, PARENT, Reply, documented, failed, on_certificate, soon};
use apig_grpc_gateway::pb::{AttachDomainsRequest, AttachDomainsResponse};

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

/// The names and labels of all series.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" # ").next().unwrap().rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[tokio::test]
async fn the_state_shows_when_it_is_read() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address)
        .with("max-concurrency", "8")
        .with("max-buffered-bytes", "1MiB")
        .with("max-connections", "77")
        .start()
        .await;
    let (caller, _idle) = (gateway.caller().await, gateway.caller().await);
    let text = gateway.admin("/metrics").await.1;
    for (series, expected) in [
        ("apig_gateway_ready", 1.0),
        ("apig_gateway_draining", 0.0),
        ("apig_gateway_concurrency_permits", 0.0),
        ("apig_gateway_concurrency_permits_limit", 8.0),
        ("apig_gateway_buffered_bytes", 0.0),
        ("apig_gateway_buffered_limit_bytes", 1_048_576.0),
        ("apig_gateway_connections_active", 0.0),
        ("apig_gateway_connections_draining", 0.0),
        ("apig_gateway_connections_limit", 77.0),
        ("apig_gateway_retry_budget", 10.0),
        ("apig_gateway_retry_budget_limit", 10.0),
        ("apig_gateway_rate_limit_waiting", 0.0),
        ("apig_gateway_rate_limited_total{result=\"delayed\"}", 0.0),
    ] {
        assert!((value(&text, series) - expected).abs() < f64::EPSILON, "{series}: {text}");
    }
    assert!(text.contains("# TYPE apig_gateway_build_info gauge\n"), "{text}");
    assert!(text.contains(&format!("apig_gateway_build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION"))), "{text}");
    assert!(value(&text, "process_resident_memory_bytes") > 1e6);
    assert!(value(&text, "process_cpu_seconds_total") > 0.0);
    assert!(value(&text, "process_open_fds") > 5.0 && value(&text, "process_max_fds") > 5.0);
    assert!(value(&text, "process_start_time_seconds") > 1.7e9);

    let held: Vec<_> = (0..3)
        .map(|number| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.attach(on_certificate(number)).await })
        })
        .collect();
    cloud.requests(3).await;
    let text = gateway.admin("/metrics").await.1;
    assert!((value(&text, "apig_gateway_concurrency_permits") - 3.0).abs() < f64::EPSILON, "{text}");
    assert!((value(&text, "apig_gateway_connections_active") - 1.0).abs() < f64::EPSILON, "{text}");
    assert!(value(&text, "apig_gateway_buffered_bytes") > 3.0 * 8192.0, "{text}");
    for call in held {
        call.abort();
    }
    gateway.shows("apig_gateway_connections_active 0\n").await;
    gateway.shows("apig_gateway_buffered_bytes 0\n").await;
}

#[tokio::test]
async fn a_connection_that_was_sent_goaway_drains() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway =
        Gateway::facing(cloud.address).with("max-connection-age", "10ms").with("timeout", "20s").start().await;
    let caller = gateway.caller().await;
    let call = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    gateway.shows("apig_gateway_connections_draining 1\n").await;
    call.abort();
    gateway.shows("apig_gateway_connections_draining 0\n").await;
}

#[tokio::test]
async fn the_rate_limit_shows_delays_and_rejections() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-requests-per-second", "1").start().await;
    let caller = gateway.caller().await;
    caller.attach(on_certificate(1)).await.unwrap();
    // Two seconds' worth of calls at once: some wait, however busy the machine is.
    let calls = [3, 4, 5].map(|certificate| {
        let caller = caller.clone();
        tokio::spawn(async move { caller.attach(on_certificate(certificate)).await })
    });
    let is_seen = async { while value(&gateway.admin("/metrics").await.1, "apig_gateway_rate_limit_waiting") < 1.0 {} };
    soon(is_seen).await;
    let mut hurried = Request::new(on_certificate(2));
    hurried.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    hurried.set_timeout(std::time::Duration::from_millis(300));
    assert_eq!(failed(caller.send(hurried).await).verdict().1, "OVERLOADED");
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    let text = gateway.admin("/metrics").await.1;
    let limited = |result| value(&text, &format!("apig_gateway_rate_limited_total{{result=\"{result}\"}}"));
    // The first of them may have found its slot free.
    assert!((2.0..=3.0).contains(&limited("delayed")), "{text}");
    assert!((limited("rejected") - 1.0).abs() < f64::EPSILON, "{text}");
    assert!(value(&text, "apig_gateway_rate_limit_waiting").abs() < f64::EPSILON, "{text}");
    assert!(value(&text, "apig_gateway_rate_limit_delay_seconds_total") > 0.0, "{text}");
}

#[tokio::test]
async fn only_a_recorded_trace_is_an_exemplar() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    for (parent, is_there) in [
        (None, false),
        (Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), false),
        (Some("00-no-trace-01"), false),
        (Some(PARENT), true),
    ] {
        let mut request = Request::new(documented());
        request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
        if let Some(parent) = parent {
            request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        }
        caller.send(request).await.unwrap();
        let text = gateway.admin("/metrics").await.1;
        let exemplars: Vec<_> = text.lines().filter(|line| line.contains(" # {")).collect();
        assert_eq!(!exemplars.is_empty(), is_there, "{parent:?}: {exemplars:?}");
        for line in exemplars {
            assert!(line.starts_with("rpc_server_call_duration_seconds_bucket{"), "{line}");
            assert!(line.contains(" # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} "), "{line}");
        }
    }
}

#[tokio::test]
async fn strangers_can_not_make_many_series() {
    const CALLS: usize = 10_000;
    // Every status from 400 to 999, and as many codes of errors as calls.
    let count = std::sync::atomic::AtomicUsize::new(0);
    let strange = Reply::made(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let body = format!(r#"{{"error_code":"STRANGE.{number}","error_msg":"m"}}"#);
        let length = body.len();
        format!("HTTP/1.1 {} S\r\nContent-Length: {length}\r\n\r\n{body}", 400 + number % 600).into_bytes()
    });
    let cloud = Cloud::answering([strange]).await;
    let gateway = Gateway::facing(cloud.address).with("breaker-threshold", "0").with("max-attempts", "1").start().await;
    let channel = gateway.channel().await;
    let call = |number: usize| {
        let channel = channel.clone();
        async move {
            let mut request = Request::new(on_certificate(number));
            let metadata = request.metadata_mut();
            metadata.insert("x-auth-token", format!("token-{number}").parse().unwrap());
            metadata.insert("x-request-id", format!("id-{number}").parse().unwrap());
            metadata.insert("traceparent", format!("00-{:032x}-00f067aa0ba902b7-01", number + 1).parse().unwrap());
            let path = if number.is_multiple_of(2) {
                format!("/strange.Service{number}/Method{number}")
            } else {
                "/huaweicloud.apic.v2.CertificateService/AttachDomains".to_owned()
            };
            let mut client = Grpc::new(channel);
            client.ready().await.unwrap();
            let codec: ProstCodec<AttachDomainsRequest, AttachDomainsResponse> = ProstCodec::default();
            let ended = client.unary(request, PathAndQuery::try_from(path).unwrap(), codec).await;
            ended.unwrap_err().code()
        }
    };
    let codes: Vec<Code> = stream::iter(0..CALLS).map(call).buffer_unordered(64).collect().await;
    assert!(!codes.contains(&Code::Ok));
    assert_eq!(cloud.seen().len(), CALLS / 2);
    let text = gateway.admin("/metrics").await.1;
    let series = series(&text);
    assert!(series.len() < 1_500, "{} series", series.len());
    assert!(!text.contains("Method4") && !text.contains("STRANGE") && !text.contains("token-"));
    let other =
        "http_client_request_duration_seconds_count{http_request_method=\"POST\",http_response_status_code=\"other\"}";
    assert!(value(&text, other) > 1_000.0, "{text}");
    let counted: f64 = text
        .lines()
        .filter(|line| line.starts_with("rpc_server_call_duration_seconds_count{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    assert!((counted - 10_000.0).abs() < f64::EPSILON, "{counted}");
}
