//! The limits on calls in progress and on requests a second.

use std::time::Duration;

use tonic::{Code, Request};

use crate::support::{
    ATTACH, Cloud, Gateway, Reply, SilentCall, documented, failed, frame, on_certificate, send_bytes, soon,
};

#[tokio::test]
async fn past_the_limit_calls_are_shed_and_health_is_not() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-concurrency", "2").start().await;
    let caller = gateway.caller().await;
    let held: Vec<_> = (0..2)
        .map(|number| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.attach(on_certificate(number)).await })
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

#[tokio::test]
async fn past_the_bytes_that_may_be_held_calls_are_shed() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-buffered-bytes", "64KiB").start().await;
    let caller = gateway.caller().await;
    // Each takes more than half of the room.
    let large = |number: usize| {
        let mut request = on_certificate(number);
        request.domains[0].instance_ids = vec!["i".repeat(100); 150];
        request
    };
    let held = {
        let caller = caller.clone();
        tokio::spawn(async move { caller.attach(large(1)).await })
    };
    cloud.requests(1).await;
    let failure = failed(caller.attach(large(2)).await);
    assert_eq!(failure.verdict(), (Code::Unavailable, "OVERLOADED"));
    assert_eq!(failure.fact("max_buffered_bytes"), Some("65536"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    held.abort();
    cloud.closed(1).await;
    // What the first one held is free again.
    let third = tokio::spawn(async move { caller.attach(large(3)).await });
    cloud.requests(2).await;
    third.abort();
}

#[tokio::test]
async fn a_rate_limit_that_leaves_no_slot_before_the_deadline_sheds_at_once() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway =
        Gateway::facing(cloud.address).with("max-requests-per-second", "1").with("timeout", "900ms").start().await;
    let caller = gateway.caller().await;
    caller.attach(documented()).await.unwrap();
    let failure = failed(caller.attach(documented()).await);
    assert_eq!(failure.verdict(), (Code::Unavailable, "OVERLOADED"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert!(failure.details.retry_info().unwrap().retry_delay.unwrap() > Duration::from_millis(100));
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test]
async fn no_more_than_the_number_of_requests_leave_in_a_second() {
    const LIMIT: usize = 10;
    for workers in ["1", "2"] {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let limit = LIMIT.to_string();
        let plan = Gateway::facing(cloud.address).with("max-requests-per-second", limit).with("workers", workers);
        let gateway = plan.start().await;
        // A gateway that has been idle for a second may send all ten at once, and then none for the rest of a second.
        gateway.caller().await.attach(documented()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut calls = Vec::new();
        for number in 0..25 {
            let caller = gateway.caller().await;
            calls.push(tokio::spawn(async move { caller.attach(on_certificate(number)).await }));
        }
        for call in calls {
            soon(call).await.unwrap().unwrap();
        }
        let times: Vec<_> = cloud.seen().iter().map(|request| request.at).collect();
        assert_eq!(times.len(), 26);
        for (early, late) in times.iter().zip(&times[LIMIT..]) {
            // Half of the second is for the way: only the times of leaving are exact.
            assert!(late.duration_since(*early) > Duration::from_millis(500), "{workers} workers: {times:?}");
        }
    }
}

#[tokio::test]
async fn callers_that_left_hold_no_slots_of_the_rate_limit() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let plan = Gateway::facing(cloud.address).with("max-requests-per-second", "10").with("timeout", "60s");
    let gateway = plan.start().await;
    let caller = gateway.caller().await;
    let leaving: Vec<_> = (0..210)
        .map(|number| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.attach(on_certificate(number)).await })
        })
        .collect();
    let in_progress = async |wanted: fn(usize) -> bool| {
        soon(async {
            loop {
                let metrics = gateway.admin("/metrics").await.1;
                let line = metrics.lines().find_map(|line| line.strip_prefix("apig_gateway_calls_in_progress "));
                if wanted(line.unwrap().parse().unwrap()) {
                    return;
                }
            }
        })
        .await;
    };
    cloud.requests(10).await;
    in_progress(|calls| calls > 150).await;
    for call in &leaving {
        call.abort();
    }
    in_progress(|calls| calls == 0).await;

    let mut request = Request::new(documented());
    request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    request.set_timeout(Duration::from_secs(5));
    caller.send(request).await.unwrap();
}

#[tokio::test]
async fn an_open_circuit_takes_no_slot_of_the_rate_limit() {
    let cloud = Cloud::answering([Reply::with(502, &[], b"")]).await;
    let plan = Gateway::facing(cloud.address).with("max-requests-per-second", "1").with("timeout", "900ms");
    let gateway = plan.with("breaker-threshold", "1").start().await;
    let caller = gateway.caller().await;
    assert_eq!(failed(caller.attach(documented()).await).verdict().1, "HTTP_502");
    for _ in 0..10 {
        let failure = failed(caller.attach(documented()).await);
        // The circuit opened after the request had left: when a probe is due, there is a slot.
        assert!(["CIRCUIT_OPEN", "HTTP_502"].contains(&failure.verdict().1), "{failure:?}");
    }
}

#[tokio::test]
async fn health_and_unknown_methods_pass_while_every_place_is_taken() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-concurrency", "1").start().await;
    let caller = gateway.caller().await;
    let held = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    assert!(crate::discovery::is_serving(&gateway, "readiness").await);
    assert_eq!(gateway.admin("/readyz").await.0, 200);
    let other = send_bytes(&gateway, "/some.Service/Method", &[], frame(0, b"")).await;
    assert_eq!(other.verdict(), (Code::Unimplemented, "INVALID_REQUEST"));
    let shed = send_bytes(&gateway, ATTACH, &[], frame(0, b"")).await;
    assert_eq!(shed.verdict(), (Code::Unavailable, "OVERLOADED"));
    held.abort();
    let _ = soon(held).await;
}

#[tokio::test]
async fn calls_whose_message_never_comes_keep_nobody_out() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-concurrency", "1").start().await;
    let silent = SilentCall::begin(&gateway).await;

    gateway.caller().await.attach(documented()).await.unwrap();
    silent.leave();
}

#[tokio::test]
async fn a_caller_that_leaves_before_its_message_is_there_has_cancelled() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    SilentCall::begin(&gateway).await.leave();
    let cancelled = r#"AttachDomains",rpc_response_status_code="CANCELLED"} 1"#;
    soon(async { while !gateway.admin("/metrics").await.1.contains(cancelled) {} }).await;
    assert_eq!(cloud.connections(), 0);
}
