//! Requests that would make the gateway hold much: heads without bodies, half messages, compressed ones, and small ones
//! that become large.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use prost::Message as _;
use tonic::Code;

use crate::support::{
    ATTACH, Cloud, Gateway, OpenCall, RawConnection, Reply, documented, domain, failed, frame, in_progress,
    on_certificate, soon,
};

const GZIP: &[(&str, &str)] = &[("grpc-encoding", "gzip")];

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_heads_without_bodies_shed_nobody() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let mut wire = RawConnection::connect(&gateway).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(wire.open(ATTACH, GZIP).await);
    }
    in_progress(&gateway, 16).await;
    gateway.caller().await.attach(documented()).await.unwrap();
    drop((wire, silent));
    in_progress(&gateway, 0).await;
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test]
async fn compressed_calls_whose_heads_come_before_their_bodies_are_served() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let mut wire = RawConnection::connect(&gateway).await;
    let mut calls = Vec::new();
    for _ in 0..60 {
        calls.push(wire.open(ATTACH, GZIP).await);
    }
    in_progress(&gateway, 60).await;
    for (number, call) in calls.iter_mut().enumerate() {
        call.send(frame(1, &gzip(&on_certificate(number).encode_to_vec())));
        call.finish();
    }
    for call in calls {
        assert_eq!(call.answer().await.status.code(), Code::Ok);
    }
    assert_eq!(cloud.seen().len(), 60);
}

/// A field of a message, with a length before it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

#[tokio::test]
async fn more_entries_than_allowed_are_refused_before_they_are_built() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let mut wire = RawConnection::connect(&gateway).await;
    let domains = [0x1a, 0].repeat(2_000_000);
    let instances = field(3, &[0x12, 0].repeat(1_900_000));
    for (message, entries) in [(domains, "2000000"), (instances, "1900001")] {
        let packed = frame(1, &gzip(&message));
        for (headers, bytes) in [(&[][..], frame(0, &message)), (GZIP, packed)] {
            let failure = wire.call(ATTACH, headers, bytes).await.answer().await;
            assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"));
            assert_eq!((failure.fact("max_entries"), failure.fact("entries")), (Some("100000"), Some(entries)));
            assert_eq!(failure.fact("outcome"), Some("not_sent"));
            assert!(failure.details.retry_info().is_none(), "a repeat would not help");
        }
    }
    assert_eq!(cloud.connections(), 0);
    gateway.caller().await.attach(documented()).await.unwrap();
}

#[tokio::test]
async fn as_many_entries_as_allowed_reach_the_cloud() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let mut request = documented();
    request.domains = vec![domain("a.example"); 99_999];
    request.domains[0].instance_ids = vec!["i".into()];
    caller.attach(request.clone()).await.unwrap();
    assert_eq!(cloud.only_request().body.matches("a.example").count(), 99_999);
    request.domains[0].instance_ids.push("j".into());
    let failure = failed(caller.attach(request).await);
    assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_eq!(failure.fact("entries"), Some("100001"));
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test]
async fn a_call_that_ends_with_trailers_takes_its_permit() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-concurrency", "2").start().await;
    let mut wire = RawConnection::connect(&gateway).await;
    let mut calls: Vec<OpenCall> = Vec::new();
    for number in 0..10 {
        let mut call = wire.open(ATTACH, &[]).await;
        call.send(frame(0, &on_certificate(number).encode_to_vec()));
        call.finish_with_trailers();
        calls.push(call);
    }
    cloud.requests(2).await;
    in_progress(&gateway, 2).await;
    soon(async {
        while calls.iter().filter(|call| call.is_answered()).count() < 8 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for call in calls.into_iter().filter(OpenCall::is_answered) {
        let failure = call.answer().await;
        assert_eq!(failure.verdict(), (Code::Unavailable, "OVERLOADED"));
        assert_eq!(failure.fact("max_concurrency"), Some("2"));
    }
    assert_eq!(cloud.seen().len(), 2);
}

#[tokio::test]
async fn half_sent_messages_shed_no_call_that_is_complete() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-buffered-bytes", "1MiB").start().await;
    let mut wires = Vec::new();
    let mut halves = Vec::new();
    let half = frame(0, &vec![0x1a; 40_000]);
    for _ in 0..8 {
        let mut wire = RawConnection::connect(&gateway).await;
        for _ in 0..8 {
            let call = wire.open(ATTACH, &[]).await;
            call.send(half[..20_000].to_vec());
            halves.push(call);
        }
        wires.push(wire);
    }
    // Each holds some 30 KiB of 512 KiB.
    soon(async {
        while halves.iter().filter(|call| call.is_answered()).count() < 64 - 16 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let caller = gateway.caller().await;
    for number in 0..20 {
        caller.attach(on_certificate(number)).await.unwrap();
    }
    let (evicted, halves): (Vec<_>, Vec<_>) = halves.into_iter().partition(OpenCall::is_answered);
    for call in evicted {
        let failure = call.answer().await;
        assert_eq!(failure.verdict(), (Code::Unavailable, "OVERLOADED"));
        assert_eq!(failure.fact("outcome"), Some("not_sent"));
        assert!(failure.details.retry_info().unwrap().retry_delay.is_some());
    }
    drop((wires, halves));
    in_progress(&gateway, 0).await;
    assert_eq!(cloud.seen().len(), 20);
}

#[tokio::test]
async fn a_message_that_can_never_fit_is_refused_for_good() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-buffered-bytes", "64KiB").start().await;
    let mut wire = RawConnection::connect(&gateway).await;
    let failure = wire.call(ATTACH, &[], frame(0, &vec![0; 16 * 1024 + 1])).await.answer().await;
    assert_eq!(failure.verdict(), (Code::ResourceExhausted, "INVALID_REQUEST"));
    assert_eq!(failure.fact("max_message_size"), Some("16384"));
    assert!(failure.details.retry_info().is_none());
    assert_eq!(cloud.connections(), 0);
}
