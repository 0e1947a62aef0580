//! An upstream that is down.

use std::time::{Duration, Instant};

use prost::Message as _;
use tonic::Code;

use crate::support::{ATTACH, Cloud, Failed, Gateway, Reply, documented, failed, frame, on_certificate, send_bytes};

/// A call with a deadline, from a client without a timer of its own: on a busy machine that could be first.
async fn ending_in(timeout: &str, number: usize, gateway: &Gateway) -> Failed {
    let headers = [("x-auth-token", "t"), ("grpc-timeout", timeout)];
    send_bytes(gateway, ATTACH, &headers, frame(0, &on_certificate(number).encode_to_vec())).await
}

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

#[tokio::test]
async fn probes_whose_callers_leave_are_a_second_apart() {
    let cloud = Cloud::answering([Reply::with(502, &[], b""), Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("breaker-threshold", "1").start().await;
    assert_eq!(failed(gateway.caller().await.attach(documented()).await).verdict().1, "HTTP_502");
    let opened = Instant::now();
    while cloud.seen().len() < 4 {
        assert!(opened.elapsed() < Duration::from_secs(60), "no probe is sent");
        let failure = ending_in("300m", 1, &gateway).await;
        assert!(["CIRCUIT_OPEN", "DEADLINE_EXCEEDED"].contains(&failure.verdict().1), "{failure:?}");
    }
    // The circuit opened a little before the caller knew.
    assert!(opened.elapsed() > Duration::from_millis(2500), "three probes within {:?}", opened.elapsed());
}

#[tokio::test]
async fn an_upstream_that_never_answers_opens_the_circuit() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("breaker-threshold", "2").start().await;
    let circuit = async || {
        let metrics = gateway.admin("/metrics").await.1;
        let state = metrics.lines().find_map(|line| line.strip_prefix("apig_gateway_circuit_state "));
        state.unwrap().to_owned()
    };
    let mut sent = 0;
    while sent < 3 {
        // On a busy machine the deadline can pass before the request leaves.
        sent += usize::from(ending_in("300m", 1, &gateway).await.fact("outcome") == Some("unknown"));
    }
    assert_eq!(circuit().await, "0", "a short deadline proves nothing");

    let (first, second) = tokio::join!(ending_in("8S", 1, &gateway), ending_in("8S", 2, &gateway));
    for failure in [first, second] {
        assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
        assert_eq!(failure.fact("outcome"), Some("unknown"));
    }
    assert_eq!(circuit().await, "2");
    loop {
        let before = cloud.seen().len();
        let failure = ending_in("300m", 3, &gateway).await;
        // On a busy machine a probe may be due by now; behind it the circuit is as open as before.
        if failure.verdict() != (Code::DeadlineExceeded, "DEADLINE_EXCEEDED") {
            assert_eq!(failure.verdict(), (Code::Unavailable, "CIRCUIT_OPEN"));
            assert_eq!(failure.fact("outcome"), Some("not_sent"));
            assert_eq!(cloud.seen().len(), before);
            return;
        }
    }
}
