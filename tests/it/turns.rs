//! One change of a certificate at a time.

use prost::Message as _;
use tonic::Code;

use crate::support::{ATTACH, Cloud, Gateway, Reply, documented, frame, on_certificate, send_bytes, soon};

#[tokio::test]
async fn a_hundred_calls_on_one_certificate_go_one_after_the_other() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.attach(documented()).await })
        })
        .collect();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    assert_eq!(cloud.seen().len(), 100);
    assert_eq!(cloud.connections(), 1, "a second connection would mean two requests at once");
}

#[tokio::test]
async fn a_hundred_certificates_do_not_wait_for_each_other() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let calls: Vec<_> = (0..100)
        .map(|number| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.attach(on_certificate(number)).await })
        })
        .collect();
    // No answer comes, so all hundred are there at once.
    cloud.requests(100).await;
    for call in calls {
        call.abort();
    }
}

#[tokio::test]
async fn the_same_certificate_of_another_project_is_another() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let calls: Vec<_> = ["p1", "p2"]
        .map(|project| {
            let caller = caller.clone();
            let mut request = documented();
            request.project_id = project.into();
            tokio::spawn(async move { caller.attach(request).await })
        })
        .into();
    cloud.requests(2).await;
    for call in calls {
        call.abort();
    }
}

#[tokio::test]
async fn who_waits_past_its_deadline_has_sent_nothing() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let first = {
        let caller = caller.clone();
        tokio::spawn(async move { caller.attach(documented()).await })
    };
    cloud.requests(1).await;
    // From a client without a timer of its own: on a busy machine that could be first.
    let headers = [("x-auth-token", "t"), ("grpc-timeout", "200m")];
    let failure = send_bytes(&gateway, ATTACH, &headers, frame(0, &documented().encode_to_vec())).await;
    assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert_eq!(cloud.seen().len(), 1);
    first.abort();
    cloud.closed(1).await;
    // Whoever held the turn is gone, so the next one has it.
    let next = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(2).await;
    next.abort();
}

#[tokio::test]
async fn a_call_without_a_token_does_not_wait_for_the_certificate() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let first = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    let message = frame(0, &documented().encode_to_vec());
    let failure = send_bytes(&gateway, ATTACH, &[("grpc-timeout", "5S")], message).await;
    assert_eq!(failure.verdict(), (Code::Unauthenticated, "TOKEN_MISSING"));
    assert_eq!(cloud.seen().len(), 1);
    first.abort();
}

#[tokio::test]
async fn turns_can_be_switched_off() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("serialize-certificates", "false").start().await;
    let caller = gateway.caller().await;
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.attach(documented()).await })
        })
        .collect();
    cloud.requests(5).await;
    for call in calls {
        call.abort();
    }
}
