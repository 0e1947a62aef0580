//! An upstream that is down.

use tonic::Code;

use crate::support::{Cloud, Gateway, Reply, documented, failed};

#[tokio::test]
async fn after_a_row_of_failures_calls_fail_at_once_and_one_tries_again() {
    let down = Reply::with(502, &[], b"");
    let cloud = Cloud::answering([down.clone(), down.clone(), down, Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("breaker-threshold", "3").start().await;
    let caller = gateway.caller().await;
    for _ in 0..3 {
        assert_eq!(failed(caller.attach(documented()).await).verdict(), (Code::Unavailable, "HTTP_502"));
    }
    let failure = failed(caller.attach(documented()).await);
    assert_eq!(failure.verdict(), (Code::Unavailable, "CIRCUIT_OPEN"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    let wait = failure.details.retry_info().unwrap().retry_delay.unwrap();
    assert!(gateway.admin("/metrics").await.1.contains("apig_gateway_circuit_state 2\n"));
    assert_eq!(cloud.seen().len(), 3, "nothing is sent while the circuit is open");

    tokio::time::sleep(wait).await;
    caller.attach(documented()).await.unwrap();
    caller.attach(documented()).await.unwrap();
    assert!(gateway.admin("/metrics").await.1.contains("apig_gateway_circuit_state 0\n"));
}

#[tokio::test]
async fn what_callers_do_wrong_is_no_outage() {
    let refusals = [Reply::refused(404, "APIG.3020", "m"), Reply::refused(400, "APIG.2012", "m")];
    let cloud = Cloud::answering(refusals).await;
    let gateway = Gateway::facing(cloud.address).with("breaker-threshold", "1").start().await;
    let caller = gateway.caller().await;
    for _ in 0..10 {
        assert_ne!(failed(caller.attach(documented()).await).verdict().1, "CIRCUIT_OPEN");
    }
    assert_eq!(cloud.seen().len(), 10);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_opens_the_circuit() {
    let nobody = "127.0.0.1:9".parse().unwrap();
    let gateway = Gateway::facing(nobody).with("breaker-threshold", "3").start().await;
    let caller = gateway.caller().await;
    assert_eq!(failed(caller.attach(documented()).await).verdict().1, "UPSTREAM_UNREACHABLE");
    assert_eq!(failed(caller.attach(documented()).await).verdict().1, "CIRCUIT_OPEN");
}
