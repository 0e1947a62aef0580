//! The limit on calls in progress.

use tonic::Code;

use crate::support::{Cloud, Gateway, Reply, documented, failed};

#[tokio::test]
async fn past_the_limit_calls_are_shed_and_health_is_not() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-concurrency", "2").start().await;
    let caller = gateway.caller().await;
    let held: Vec<_> = (0..2)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.attach(documented()).await })
        })
        .collect();
    cloud.requests(2).await;

    let failure = failed(caller.attach(documented()).await);
    assert_eq!(failure.verdict(), (Code::Unavailable, "OVERLOADED"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert!(failure.details.retry_info().unwrap().retry_delay.is_some());
    assert_eq!(cloud.seen().len(), 2);
    assert!(crate::discovery::is_serving(&gateway, "").await);

    for call in held {
        call.abort();
    }
    cloud.closed(2).await;
}

#[tokio::test]
async fn a_place_is_free_again_when_its_call_ends() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-concurrency", "1").start().await;
    let caller = gateway.caller().await;
    for _ in 0..5 {
        caller.attach(documented()).await.unwrap();
    }
}
