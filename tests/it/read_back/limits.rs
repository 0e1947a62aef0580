//! What a look-up may take: time, permits, slots, locks; and when there is none.

use std::time::Instant;

use testkit::http1::read_request;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::support::on_certificate;

#[tokio::test]
async fn a_slow_reading_ends_before_the_deadline() {
    let cloud = Cloud::answering([Reply::with(504, &[], b""), Reply::hang()]).await;
    let gateway = gateway(&cloud).start().await;
    let failure = failed(attach(&gateway, &[on_instance("a.com")], Some(Duration::from_millis(700))).await);
    // The deadline's own error would say DEADLINE_EXCEEDED.
    assert_unconfirmed(&failure, "HTTP_504", None);
    cloud.closed(1).await;
}

#[tokio::test]
async fn no_time_is_left_after_the_deadline() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = gateway(&cloud).start().await;
    let failure = failed(attach(&gateway, &[on_instance("a.com")], Some(Duration::from_millis(300))).await);
    assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(failure.fact("outcome"), Some("unknown"));
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test]
async fn a_drain_ends_it_with_the_state_so_far() {
    let cloud = Cloud::answering([Reply::close(), list(&[])]).await;
    let mut gateway = gateway(&cloud).start().await;
    let caller = gateway.caller().await;
    let started = Instant::now();
    let call = tokio::spawn(async move { caller.attach(request(&[on_instance("a.com")])).await });
    cloud.requests(2).await;
    gateway.stop();
    let failure = failed(call.await.unwrap());
    assert_eq!(failure.verdict().1, "UPSTREAM_CONNECTION_LOST");
    assert_eq!(failure.fact("outcome"), Some("unknown"));
    assert!(started.elapsed() < Duration::from_secs(10), "a look-up alone takes 14 s");
    gateway.drained().await;
}

#[tokio::test]
async fn a_draining_gateway_starts_none() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan = Gateway::facing(listener.local_addr().unwrap()).with("read-back", "true");
    let mut gateway = plan.start().await;
    let caller = gateway.caller().await;
    let call = tokio::spawn(async move { caller.attach(request(&[on_instance("a.com")])).await });
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let mut bytes = Vec::new();
    soon(read_request(&mut stream, &mut bytes)).await.unwrap();
    gateway.stop();
    soon(async {
        while gateway.admin("/readyz").await.0 == 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    stream.write_all(&head(504, [("Content-Length", "0")])).await.unwrap();
    assert_unconfirmed(&failed(call.await.unwrap()), "HTTP_504", None);
    gateway.drained().await;
    assert!(soon(read_request(&mut stream, &mut bytes)).await.is_none(), "nothing is read");
}

#[tokio::test]
async fn behind_an_open_circuit_nothing_is_read() {
    let cloud = Cloud::answering([Reply::with(504, &[], b""), list(&["a.com"])]).await;
    let gateway = gateway(&cloud).with("breaker-threshold", "1").start().await;
    let failure = failed(attach(&gateway, &[on_instance("a.com")], None).await);
    assert_unconfirmed(&failure, "HTTP_504", None);
    assert_eq!(lines(&cloud), [POST]);
}

#[tokio::test]
async fn failed_readings_do_not_open_the_circuit() {
    let script = [Reply::with(504, &[], b""), Reply::with(502, &[], b""), Reply::attached()];
    let cloud = Cloud::answering(script).await;
    let gateway = gateway(&cloud).with("breaker-threshold", "2").start().await;
    failed(attach(&gateway, &[on_instance("a.com")], None).await);
    attach(&gateway, &[on_instance("a.com")], None).await.unwrap();
}

#[tokio::test]
async fn a_quarter_of_the_calls_look_up_and_further_ones_answer_at_once() {
    let cloud = Cloud::answering([Reply::made(|seen| {
        if seen.line.starts_with("POST") { head(504, [("Content-Length", "0")]) } else { Vec::new() }
    })])
    .await;
    let gateway = gateway(&cloud).with("max-concurrency", "8").with("breaker-threshold", "0").start().await;
    let caller = gateway.caller().await;
    let start = |number: usize| {
        let caller = caller.clone();
        tokio::spawn(async move { caller.attach(on_certificate(number)).await })
    };
    let looking_up = [start(1), start(2)];
    cloud.requests(4).await;
    let failure = failed(start(3).await.unwrap());
    assert_unconfirmed(&failure, "HTTP_504", None);
    assert_eq!(cloud.seen().len(), 5, "no reading for the third");
    gateway.shows(r#"apig_gateway_read_backs_total{result="skipped"} 1"#).await;
    assert!(looking_up.iter().all(|call| !call.is_finished()));
    looking_up.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_reading_waits_for_no_slot_of_the_rate_limit() {
    // One request a second: the change takes the only slot, so that the first reading has none, and the second one has.
    let cloud = Cloud::answering([Reply::close(), list(&["a.com"])]).await;
    let gateway = gateway(&cloud).with("max-requests-per-second", "1").start().await;
    let done = attach(&gateway, &[on_instance("a.com")], None).await.unwrap();
    assert_eq!(outcome(&done), Some("confirmed"));
    let seen = cloud.seen();
    assert!(seen[1].at - seen[0].at > Duration::from_millis(900));
}

#[tokio::test]
async fn the_lock_of_the_certificate_lasts_as_long() {
    let cloud = Cloud::answering([Reply::close(), list(&[]), list(&["a.com"]), Reply::attached()]).await;
    let gateway = gateway(&cloud).start().await;
    let caller = gateway.caller().await;
    let first = caller.clone();
    let first = tokio::spawn(async move { first.attach(request(&[on_instance("a.com")])).await });
    cloud.requests(2).await;
    caller.attach(request(&[on_instance("b.com")])).await.unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(lines(&cloud), [POST, READ, READ, POST]);
}

#[tokio::test]
async fn readings_take_no_memory_that_calls_could_need() {
    // The page is larger than the part of the memory that look-ups may take.
    let names: Vec<String> = (0..500).map(|number| format!("{number}.example.com")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cloud = Cloud::answering([Reply::close(), list(&names)]).await;
    let gateway = gateway(&cloud).with("max-buffered-bytes", "64KiB").with("max-message-size", "16KiB").start().await;
    let failure = failed(attach(&gateway, &[on_instance("499.example.com")], None).await);
    assert_unconfirmed(&failure, "UPSTREAM_CONNECTION_LOST", None);
}
