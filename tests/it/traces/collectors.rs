//! Collectors that are down, slow, busy or refuse: calls, the end of the program and secrets are unharmed.

use std::time::Duration;

use apig_grpc_gateway::config::{Config, Sources};
use tokio::net::TcpListener;

use super::{SAMPLED, call, send, trace, traced};
use crate::support::{Authority, Caller, Cloud, Collector, Gateway, Manner, Mount, Program, Reply};

/// The key in the header of exports.
const KEY: &str = "k3y-of-the-collector-0123456789";

/// An address that nobody listens on.
async fn nowhere() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap())
}

#[tokio::test]
async fn a_collector_that_is_down_slow_or_refuses_harms_no_call_and_no_end() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let upstream = format!("http://{}", cloud.address);
    for protocol in ["grpc", "http/protobuf"] {
        for manner in [None, Some(Manner::Hangs), Some(Manner::Refuses)] {
            let collector = match manner {
                Some(manner) => Some(Collector::that(manner).await),
                None => None,
            };
            let url = match &collector {
                Some(collector) => collector.url(),
                None => nowhere().await,
            };
            let headers = format!("authorization={KEY}");
            let variables = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
                ("OTEL_BSP_SCHEDULE_DELAY", "10"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"),
            ];
            let (mut program, address) =
                Program::serve(&["--upstream", &upstream, "--log-level", "trace"], &variables).await;
            let caller = Caller::of(&address).await;
            for _ in 0..20 {
                caller.send(call(SAMPLED)).await.unwrap();
            }
            if let Some(collector) = &collector {
                collector.exports(1).await;
            }
            program.signal("TERM").await;
            let mut log = program.take_log();
            let (status, log) = tokio::join!(program.ended_unread(Duration::from_secs(10)), log.rest());
            assert!(status.success(), "{protocol} {manner:?}");
            let told = if manner == Some(Manner::Hangs) {
                "could not be exported in time"
            } else {
                "spans could not be exported"
            };
            assert!(log.contains(told), "{protocol} {manner:?}: {log}");
            assert!(!log.contains(KEY), "{protocol} {manner:?}");
        }
    }
}

#[tokio::test]
async fn spans_that_do_not_fit_or_are_rejected_are_counted() {
    for protocol in ["grpc", "http/protobuf"] {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let collector = Collector::that(Manner::Hangs).await;
        let plan = traced(Gateway::facing(cloud.address), &collector.url());
        let plan = plan.variable("OTEL_EXPORTER_OTLP_PROTOCOL", protocol).variable("OTEL_BSP_MAX_QUEUE_SIZE", "1");
        let gateway = plan.start().await;
        send(&gateway, SAMPLED).await.unwrap();
        collector.exports(1).await;
        // One span is with the collector. The other one of that call waits, or has met the full queue.
        for _ in 0..2 {
            send(&gateway, SAMPLED).await.unwrap();
        }
        gateway.shows("apig_gateway_spans_lost_total 4").await;

        let collector = Collector::that(Manner::RejectsOne).await;
        let plan = traced(Gateway::facing(cloud.address), &collector.url());
        let plan =
            plan.variable("OTEL_EXPORTER_OTLP_PROTOCOL", protocol).variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2");
        let gateway = plan.variable("OTEL_BSP_SCHEDULE_DELAY", "3600000").start().await;
        send(&gateway, SAMPLED).await.unwrap();
        gateway.shows("apig_gateway_spans_lost_total 1").await;
    }
}

#[tokio::test]
async fn a_busy_collector_gets_the_export_again() {
    for protocol in ["grpc", "http/protobuf"] {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let collector = Collector::that(Manner::TakesTheSecond).await;
        let plan =
            traced(Gateway::facing(cloud.address), &collector.url()).variable("OTEL_BSP_SCHEDULE_DELAY", "3600000");
        let plan =
            plan.variable("OTEL_EXPORTER_OTLP_PROTOCOL", protocol).variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2");
        let gateway = plan.start().await;
        send(&gateway, SAMPLED).await.unwrap();
        trace(&collector, 1).await;
        assert!(gateway.admin("/metrics").await.1.contains("apig_gateway_spans_lost_total 0"));
    }
}

#[tokio::test]
async fn a_collector_behind_tls_is_verified() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let collector = Collector::with_tls(&authority.issue(&["localhost"])).await;
    let (trusted, other) = (Mount::new(&[("ca", &authority.pem())]), Mount::new(&[("ca", &stranger.pem())]));
    let cloud = Cloud::answering([Reply::attached()]).await;
    let plan = |mount: &Mount| {
        traced(Gateway::facing(cloud.address), &format!("localhost:{}", collector.address.port()))
            .variable("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
            .variable("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
            .variable("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", mount.path("ca"))
    };
    let gateway = plan(&other).start().await;
    send(&gateway, SAMPLED).await.unwrap();
    gateway.shows("apig_gateway_spans_lost_total 2").await;
    assert_eq!(collector.count(), 0);

    let gateway = plan(&trusted).start().await;
    send(&gateway, SAMPLED).await.unwrap();
    trace(&collector, 1).await;
}

#[tokio::test]
async fn the_key_of_a_collector_shows_nowhere() {
    let headers = format!("authorization={KEY},x-tenant=a");
    let variables = |name: &str| match name {
        "APIG_GATEWAY_UPSTREAM" => Some("http://127.0.0.1:1".to_owned()),
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS" => Some(headers.clone()),
        "OTEL_TRACES_EXPORTER" => Some("otlp".to_owned()),
        _ => None,
    };
    let config = Config::load(Sources { environment: Some(&variables), ..Sources::default() }).unwrap();
    let shown = config.describe();
    let line = "# traces go to http://localhost:4318/v1/traces by HTTP, authorization: ***, x-tenant: ***";
    assert!(shown.contains(line), "{shown}");
    assert!(!shown.contains(KEY) && !format!("{config:?}").contains(KEY));
}
