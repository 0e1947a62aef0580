//! Health and reflection under peers that send half messages, large ones, or too many.

use prost::Message as _;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;

use crate::support::{ATTACH, Gateway, OpenCall, RawConnection, frame, soon};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

fn all() -> impl Iterator<Item = &'static str> {
    [CHECK, WATCH].into_iter().chain(REFLECTION)
}

/// A gateway without an upstream.
async fn idle() -> Gateway {
    Gateway::facing("127.0.0.1:9".parse().unwrap()).start().await
}

#[tokio::test]
async fn large_messages_are_refused_by_their_length() {
    let gateway = idle().await;
    let mut wire = RawConnection::connect(&gateway).await;
    for path in all() {
        let call = wire.open(path, &[]).await;
        // Half of 4 MiB would follow; the length is enough.
        call.send(vec![0, 0, 0x40, 0, 0]);
        let failure = call.answer().await;
        assert_eq!(failure.verdict(), (Code::ResourceExhausted, "INVALID_REQUEST"), "{path}");
        assert_eq!(failure.fact("max_message_size"), Some("4096"));
    }
}

#[tokio::test]
async fn half_a_message_ends_when_it_makes_no_progress() {
    let gateway = idle().await;
    let (mut calls, mut wires) = (Vec::new(), Vec::new());
    for path in all().chain([ATTACH]) {
        let mut wire = RawConnection::connect(&gateway).await;
        for _ in 0..6 {
            let call = wire.open(path, &[]).await;
            call.send(frame(0, &[0; 4_000])[..2_000].to_vec());
            calls.push((path, call));
        }
        calls.push((path, wire.open(path, &[]).await));
        // The connections stay open until all calls have ended.
        wires.push(wire);
    }
    for (at, (path, call)) in calls.into_iter().enumerate() {
        if at % 7 == 6 && REFLECTION.contains(&path) {
            // Nothing was asked, so there is nothing that makes no progress.
            assert!(!call.is_answered());
            continue;
        }
        let failure = call.answer().await;
        assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{path}");
        assert_eq!(failure.fact("outcome"), Some("not_sent"));
        assert!(failure.status.message().contains("no progress"), "{:?}", failure.status);
    }
}

#[tokio::test]
async fn a_health_check_has_a_deadline() {
    let gateway = Gateway::facing("127.0.0.1:9".parse().unwrap()).with("timeout", "300ms").start().await;
    let mut wire = RawConnection::connect(&gateway).await;
    let (own, callers) = (wire.open(CHECK, &[]).await, wire.open(CHECK, &[("grpc-timeout", "50m")]).await);
    for call in [own, callers] {
        let failure = call.answer().await;
        assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
        assert_eq!(failure.status.message(), "the deadline passed before the request was sent");
    }
}

#[tokio::test]
async fn streams_are_limited_on_each_connection() {
    let gateway = idle().await;
    let mut wire = RawConnection::connect(&gateway).await;
    let request = frame(0, &HealthCheckRequest { service: String::new() }.encode_to_vec());
    let mut streams: Vec<OpenCall> = Vec::new();
    for path in [WATCH, REFLECTION[0], REFLECTION[1]].into_iter().cycle().take(8) {
        let stream = wire.open(path, &[]).await;
        if path == WATCH {
            stream.send(request.clone());
        }
        streams.push(stream);
    }
    for path in [WATCH, REFLECTION[0], REFLECTION[1]] {
        let failure = wire.open(path, &[]).await.answer().await;
        assert_eq!(failure.verdict(), (Code::Unavailable, "OVERLOADED"), "{path}");
        assert_eq!((failure.fact("max_streams"), failure.fact("share")), (Some("8"), Some("connection")));
        assert!(failure.details.retry_info().unwrap().retry_delay.is_some());
    }
    // Calls are no streams, and another connection has streams of its own.
    assert_eq!(wire.call(CHECK, &[], request).await.answer().await.status.code(), Code::Ok);
    assert!(crate::discovery::is_serving(&gateway, "").await);
    let elsewhere = RawConnection::connect(&gateway).await.open(REFLECTION[0], &[]).await;
    assert!(!elsewhere.is_answered());
    // One that ends makes room for the next.
    streams[1].finish();
    assert_eq!(streams.remove(1).answer().await.status.code(), Code::Ok);
    let mut next = soon(async {
        loop {
            let mut next = wire.open(REFLECTION[0], &[]).await;
            next.finish();
            let answer = next.answer().await;
            if answer.status.code() == Code::Ok {
                return wire.open(REFLECTION[0], &[]).await;
            }
        }
    })
    .await;
    next.finish();
}
