//! The gateway's own errors, for every method: only a change has an outcome.

use std::net::SocketAddr;

use tonic::Code;

use super::{Sample, call, samples};
use crate::support::{Cloud, Failed, Gateway, Plan, Reply, failed, frame, send_bytes};

async fn failure(plan: Plan, sample: &Sample) -> Failed {
    let gateway = plan.start().await;
    failed(call(&gateway.channel().await, sample, &sample.full).await)
}

fn assert_is(failure: &Failed, sample: &Sample, verdict: (Code, &str), outcome: &str) {
    assert_eq!(failure.verdict(), verdict, "{} {failure:?}", sample.name);
    assert_eq!(failure.fact("outcome"), sample.is_change.then_some(outcome), "{} {failure:?}", sample.name);
}

#[tokio::test]
async fn an_answer_that_is_not_the_apis_leaves_the_outcome_of_a_change_unknown() {
    for (reply, reason) in [
        (Reply::with(302, &[("Location", "http://127.0.0.1:1/")], b""), "UPSTREAM_REDIRECT"),
        (Reply::with(299, &[("Content-Type", "text/html")], b"<html>"), "UPSTREAM_PROTOCOL_ERROR"),
        (Reply::ThenClose(b"no HTTP\r\n\r\n".to_vec()), "UPSTREAM_PROTOCOL_ERROR"),
    ] {
        for sample in samples() {
            let cloud = Cloud::answering([reply.clone()]).await;
            let failure = failure(Gateway::facing(cloud.address), &sample).await;
            assert_is(&failure, &sample, (Code::Internal, reason), "unknown");
            let own = cloud.seen().into_iter().filter(|seen| seen.line.starts_with(sample.line)).count();
            assert_eq!(own, 1, "{} {reply:?}", sample.name);
        }
    }
}

#[tokio::test]
async fn a_cloud_that_does_not_answer_leaves_the_outcome_of_a_change_unknown() {
    for sample in samples() {
        let cloud = Cloud::answering([Reply::hang()]).await;
        let failure = failure(Gateway::facing(cloud.address).with("timeout", "300ms"), &sample).await;
        assert_is(&failure, &sample, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "unknown");
    }
}

#[tokio::test]
async fn a_call_that_does_not_leave_the_gateway_was_not_sent() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-message-size", "1KiB").start().await;
    let nobody: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for sample in samples() {
        let unreachable = failure(Gateway::facing(nobody), &sample).await;
        assert_is(&unreachable, &sample, (Code::Unavailable, "UPSTREAM_UNREACHABLE"), "not_sent");
        let without_token = send_bytes(&gateway, &sample.path(), &[], frame(0, &sample.full)).await;
        assert_is(&without_token, &sample, (Code::Unauthenticated, "TOKEN_MISSING"), "not_sent");
        let late = [("x-auth-token", "t"), ("grpc-timeout", "0S")];
        let late = send_bytes(&gateway, &sample.path(), &late, frame(0, &sample.full)).await;
        assert_is(&late, &sample, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "not_sent");
        let large = send_bytes(&gateway, &sample.path(), &[("x-auth-token", "t")], frame(0, &[0; 2_000])).await;
        assert_is(&large, &sample, (Code::ResourceExhausted, "INVALID_REQUEST"), "not_sent");
    }
    assert_eq!(cloud.connections(), 0);
}
