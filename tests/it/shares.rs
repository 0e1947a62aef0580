//! While several identities call, none of them takes all that there is.

use prost::Message as _;
use tonic::Code;

use crate::support::{
    ATTACH, Cloud, Failed, Gateway, OpenCall, RawConnection, Reply, documented, frame, in_progress, on_certificate,
    soon,
};

fn message(certificate: usize) -> Vec<u8> {
    frame(0, &on_certificate(certificate).encode_to_vec())
}

#[track_caller]
fn assert_share(failure: &Failed, limit: &str, share: &str) {
    assert_eq!(failure.verdict(), (Code::Unavailable, "OVERLOADED"));
    assert_eq!((failure.fact(limit), failure.fact("share")), (Some(share), Some("caller")));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert!(failure.details.retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test]
async fn a_caller_alone_may_take_every_permit_and_not_when_another_calls() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-concurrency", "4").start().await;
    let mut greedy = RawConnection::connect_from("127.0.0.1", &gateway).await;
    let mut calls = Vec::new();
    for number in 0..4 {
        calls.push(greedy.call(ATTACH, &[], message(number)).await);
    }
    cloud.requests(4).await;
    let mut other = RawConnection::connect_from("127.0.0.2", &gateway).await;
    let failure = other.call(ATTACH, &[], message(9)).await.answer().await;
    assert_eq!(failure.verdict(), (Code::Unavailable, "OVERLOADED"));
    assert_eq!(failure.fact("share"), None, "none is left, of which it has none");
    drop((greedy, calls));
    in_progress(&gateway, 0).await;

    let mut greedy = RawConnection::connect_from("127.0.0.1", &gateway).await;
    let mut calls: Vec<OpenCall> = Vec::new();
    for number in 0..3 {
        calls.push(greedy.call(ATTACH, &[], message(number)).await);
    }
    cloud.requests(7).await;
    assert_share(&greedy.call(ATTACH, &[], message(3)).await.answer().await, "max_concurrency", "3");
    calls.push(other.call(ATTACH, &[], message(4)).await);
    cloud.requests(8).await;
}

#[tokio::test]
async fn a_caller_has_its_share_of_the_memory() {
    let cloud = Cloud::answering([Reply::attached(), Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-buffered-bytes", "256KiB").start().await;
    let mut other = RawConnection::connect_from("127.0.0.2", &gateway).await;
    assert_eq!(other.call(ATTACH, &[], message(0)).await.answer().await.status.code(), Code::Ok);
    let mut greedy = RawConnection::connect_from("127.0.0.1", &gateway).await;
    // Some 85 KiB each: two fit into the share of 192 KiB, three into the whole.
    let large = |certificate: usize| {
        let mut request = on_certificate(certificate);
        request.domains[0].instance_ids = vec!["i".repeat(100); 210];
        frame(0, &request.encode_to_vec())
    };
    let mut calls = Vec::new();
    for certificate in 1..3 {
        calls.push(greedy.call(ATTACH, &[], large(certificate)).await);
    }
    cloud.requests(3).await;
    let failure = greedy.call(ATTACH, &[], large(3)).await.answer().await;
    assert_share(&failure, "max_buffered_bytes", "196608");
    calls.push(other.call(ATTACH, &[], message(4)).await);
    cloud.requests(4).await;
}

#[tokio::test]
async fn a_caller_has_its_share_of_the_queue_for_a_certificate() {
    let cloud = Cloud::answering([Reply::attached(), Reply::hang(), Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let mut other = RawConnection::connect_from("127.0.0.2", &gateway).await;
    assert_eq!(other.call(ATTACH, &[], message(0)).await.answer().await.status.code(), Code::Ok);
    let mut greedy = RawConnection::connect_from("127.0.0.1", &gateway).await;
    let bytes = frame(0, &documented().encode_to_vec());
    let mut calls = vec![greedy.call(ATTACH, &[], bytes.clone()).await];
    cloud.requests(2).await;
    for _ in 0..193 {
        calls.push(greedy.call(ATTACH, &[], bytes.clone()).await);
    }
    let refused = soon(async {
        loop {
            if let Some(at) = calls.iter().position(OpenCall::is_answered) {
                return calls.remove(at);
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_share(&refused.answer().await, "max_queue", "192");
    let waits = other.call(ATTACH, &[], bytes).await;
    in_progress(&gateway, 194).await;
    drop((greedy, calls));
    assert_eq!(waits.answer().await.status.code(), Code::Ok, "it had its place in the queue");
}
