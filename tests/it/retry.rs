//! Repeats: what is repeated, how often, and what never is.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tonic::{Code, Request};

use crate::support::{Cloud, Failed, Gateway, Reply, documented, failed, soon};

/// One call under a script; its failure and how many requests reached the cloud.
async fn scripted(script: Vec<Reply>) -> (Result<(), Failed>, usize) {
    let cloud = Cloud::answering(script).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let result = match gateway.caller().await.attach(documented()).await {
        Ok(_) => Ok(()),
        error => Err(failed(error)),
    };
    (result, cloud.seen().len())
}

#[tokio::test]
async fn what_the_cloud_turned_away_is_repeated() {
    for refusal in [
        Reply::with(503, &[("Retry-After", "0")], b""),
        Reply::with(429, &[("Retry-After", "0")], b""),
        Reply::refused(500, "APIG.3500", "busy"),
        Reply::refused(500, "APIG.9008", "Too many requests"),
        Reply::refused(502, "APIG.0201", "Backend unavailable."),
    ] {
        let (result, sent) = scripted(vec![refusal.clone(), Reply::attached()]).await;
        assert!(result.is_ok(), "{refusal:?}: {result:?}");
        assert_eq!(sent, 2, "{refusal:?}");
    }
}

#[tokio::test]
async fn what_may_have_been_done_is_not_repeated() {
    for answer in [
        Reply::close(),
        Reply::with(500, &[], b""),
        Reply::with(502, &[("Retry-After", "0")], b""),
        Reply::with(504, &[("Retry-After", "0")], b""),
        Reply::refused(500, "APIG.9999", "System error."),
        Reply::refused(504, "APIG.0201", "Backend timeout."),
    ] {
        let (result, sent) = scripted(vec![answer.clone(), Reply::attached()]).await;
        assert_eq!(result.unwrap_err().fact("outcome"), Some("unknown"), "{answer:?}");
        assert_eq!(sent, 1, "{answer:?}");
    }
}

#[tokio::test]
async fn what_stays_wrong_is_not_repeated() {
    for answer in [
        Reply::refused(400, "APIG.2012", "m"),
        Reply::refused(401, "APIG.1002", "m"),
        Reply::refused(404, "APIG.3020", "m"),
        Reply::with(200, &[], b""),
        Reply::with(302, &[("Location", "/")], b""),
    ] {
        let (result, sent) = scripted(vec![answer.clone(), Reply::attached()]).await;
        assert!(result.is_err(), "{answer:?}");
        assert_eq!(sent, 1, "{answer:?}");
    }
}

#[tokio::test]
async fn attempts_have_an_end_and_the_last_error_goes_back() {
    let (result, sent) = scripted(vec![
        Reply::with(503, &[("Retry-After", "0")], b""),
        Reply::refused(500, "APIG.3500", "busy"),
        Reply::with(429, &[("Retry-After", "0")], b"{\"error_code\":\"APIG.0308\",\"error_msg\":\"last\"}"),
    ])
    .await;
    let failure = result.unwrap_err();
    assert_eq!(failure.verdict(), (Code::ResourceExhausted, "APIG_0308"));
    assert_eq!(failure.status.message(), "last");
    assert_eq!(sent, 3);
}

#[tokio::test]
async fn a_pause_that_the_cloud_asks_for_is_kept() {
    let cloud = Cloud::answering([Reply::with(503, &[("Retry-After", "1")], b""), Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let started = Instant::now();
    gateway.caller().await.attach(documented()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_pause_past_the_deadline_sends_the_error_back_at_once() {
    let cloud = Cloud::answering([Reply::with(503, &[("Retry-After", "20")], b"")]).await;
    let gateway = Gateway::facing(cloud.address).with("timeout", "15s").start().await;
    let started = Instant::now();
    let failure = failed(gateway.caller().await.attach(documented()).await);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(failure.verdict(), (Code::Unavailable, "HTTP_503"));
    assert_eq!(failure.details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(20)));
    assert_eq!(failure.status.metadata().get("grpc-retry-pushback-ms").unwrap(), "20000");
    assert_eq!(cloud.seen().len(), 1);
}

/// A pause never begins that ends after the deadline, so it is a drain that can end a call in one.
#[tokio::test]
async fn a_drain_that_ends_in_a_pause_says_that_nothing_was_done() {
    let cloud = Cloud::answering([Reply::with(503, &[("Retry-After", "20")], b""), Reply::hang()]).await;
    let mut gateway = Gateway::facing(cloud.address).with("drain-timeout", "100ms").start().await;
    let caller = gateway.caller().await;
    let call = tokio::spawn(async move { caller.attach(documented()).await });
    let paused = "apig_gateway_retries_total 1\n";
    soon(async { while !gateway.admin("/metrics").await.1.contains(paused) {} }).await;
    gateway.stop();
    let failure = failed(soon(call).await.unwrap());
    assert_eq!(failure.verdict(), (Code::Unavailable, "SHUTTING_DOWN"));
    // The only request that left was turned away.
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert_eq!(cloud.seen().len(), 1);
    gateway.drained().await;
}

#[tokio::test]
async fn a_deadline_that_passes_before_the_repeat_leaves_says_that_nothing_was_done() {
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::facing(address).with("timeout", "3s").start().await;
    let caller = gateway.caller().await;
    let call = tokio::spawn(async move { caller.attach(documented()).await });
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let mut request = vec![0; 4_096];
    assert!(soon(stream.read(&mut request)).await.unwrap() > 0);
    // From here on nobody accepts: connections that fill the queue keep the repeat's from being established.
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await);
    }
    let answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    soon(stream.write_all(answer)).await.unwrap();
    drop(stream);
    let failure = failed(soon(call).await.unwrap());
    assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains("apig_gateway_retries_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn the_callers_own_attempts_count() {
    let cloud = Cloud::answering([Reply::with(503, &[("Retry-After", "0")], b"")]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let mut total = 0;
    for (previous, expected) in [(0, 3), (1, 2), (2, 1), (9, 1)] {
        let mut request = Request::new(documented());
        request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
        request.metadata_mut().insert("grpc-previous-rpc-attempts", previous.into());
        failed(caller.send(request).await);
        total += expected;
        assert_eq!(cloud.seen().len(), total, "after {previous} attempts of the caller's");
    }
}

#[tokio::test]
async fn an_upstream_that_comes_back_is_found() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let gateway = Gateway::facing(address).start().await;
    let failure = failed(gateway.caller().await.attach(documented()).await);
    assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains("apig_gateway_retries_total 2\n"), "{metrics}");
}
