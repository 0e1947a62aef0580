//! Connections: those of callers and those to the cloud.

use std::time::Duration;

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::support::{Cloud, Gateway, Reply, documented, greet, on_certificate, soon};

#[tokio::test]
async fn a_connection_to_the_cloud_is_used_again() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    for _ in 0..20 {
        caller.attach(documented()).await.unwrap();
    }
    assert_eq!(cloud.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_cloud_closed_while_idle_is_no_failed_call() {
    let Reply::Bytes(success) = Reply::attached() else { unreachable!() };
    for workers in ["1", "2"] {
        let cloud = Cloud::answering([Reply::ThenClose(success.clone())]).await;
        let plan = Gateway::facing(cloud.address).with("max-attempts", "1").with("workers", workers);
        let gateway = plan.start().await;
        let callers = [gateway.caller().await, gateway.caller().await];
        for call in 1..=100 {
            callers[call % 2].attach(documented()).await.unwrap();
            cloud.ended(call).await;
        }
        assert_eq!(cloud.seen().len(), 100, "none was sent twice");
        assert_eq!(cloud.connections(), 100);
        // A connection that was found closed is no attempt: the request had not begun.
        let (_, metrics) = gateway.admin("/metrics").await;
        assert!(metrics.contains("apig_gateway_retries_total 0\n"), "{metrics}");
        let requests = metrics.lines().filter(|line| line.starts_with("http_client_request_duration_seconds_count"));
        let requests: Vec<_> = requests.map(|line| line.rsplit_once(' ').unwrap().1).collect();
        assert_eq!(requests, ["100"], "all of them answered");
    }
}

#[tokio::test]
async fn several_connections_that_the_cloud_closed_cost_no_attempt() {
    // More connections than are tried before a new one is opened.
    const CALLS: usize = 8;
    let Reply::Bytes(success) = Reply::attached() else { unreachable!() };
    let cloud = Cloud::answering([Reply::ThenClose(success)]).await;
    let gateway = Gateway::facing(cloud.address).with("max-attempts", "1").start().await;
    let caller = gateway.caller().await;
    for round in 1..=10 {
        let calls = (0..CALLS).map(|number| caller.attach(on_certificate(number)));
        for result in futures_util::future::join_all(calls).await {
            result.unwrap();
        }
        cloud.ended(round * CALLS).await;
    }
    assert_eq!(cloud.seen().len(), 10 * CALLS);
}

#[tokio::test]
async fn a_peer_that_never_greets_is_dropped() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).handshake_timeout(Duration::from_millis(100)).start().await;
    for greeting in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut peer = TcpStream::connect(gateway.address.to_string()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut peer, greeting).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(peer.read_to_end(&mut rest)).await;
    }
    assert!(gateway.admin("/metrics").await.1.contains(r#"handshakes_aborted_total{reason="timeout"} 2"#));
    // An honest one is not, however long it idles.
    let caller = gateway.caller().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    caller.attach(documented()).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_dropped() {
    let gateway = Gateway::facing("127.0.0.1:9".parse().unwrap()).start().await;
    let mut peer = TcpStream::connect(gateway.address.to_string()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut peer, b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = soon(peer.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn connections_past_the_cap_are_closed_and_counted() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-connections", "2").start().await;
    // Those that have not greeted take no place of those that have.
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(gateway.address.to_string()).await.unwrap());
    }
    let caller = gateway.caller().await;
    caller.attach(documented()).await.unwrap();
    let mut held = greet(&gateway.address.to_string()).await;
    soon(held.read_exact(&mut [0; 9])).await.unwrap();
    let mut refused = greet(&gateway.address.to_string()).await;
    let mut rest = Vec::new();
    let _ = soon(refused.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"", "it is served");
    assert!(gateway.admin("/metrics").await.1.contains("apig_gateway_connections_refused_total 1\n"));
    caller.attach(documented()).await.unwrap();
    // A place that comes free is used.
    tokio::io::AsyncWriteExt::shutdown(&mut held).await.unwrap();
    let _ = soon(held.read_to_end(&mut rest)).await;
    gateway.caller().await.attach(documented()).await.unwrap();
}

/// Whether the client's own connection gave the call up before it was written.
fn was_never_sent(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[tokio::test]
async fn a_connection_of_age_ends_without_a_failed_call() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-connection-age", "100ms").start().await;
    let caller = gateway.caller().await;
    let started = std::time::Instant::now();
    let mut calls = 0;
    while started.elapsed() < Duration::from_secs(1) {
        match caller.attach(documented()).await {
            Ok(_) => calls += 1,
            // tonic's client does not repeat by itself a call that it never sent, since GOAWAY came first.
            Err(status) => assert!(was_never_sent(&status), "{status:?}"),
        }
    }
    assert_eq!(cloud.seen().len(), calls);
    let (_, metrics) = gateway.admin("/metrics").await;
    let accepted =
        metrics.lines().find_map(|line| line.strip_prefix("apig_gateway_connections_accepted_total ")).unwrap();
    assert!(accepted.parse::<u32>().unwrap() >= 4, "{accepted} connections");
}

#[tokio::test]
async fn a_unix_socket_serves_like_a_port() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", folder.path().join("gateway.sock").display());
    let gateway = Gateway::facing(cloud.address).with("listen", listen).start().await;
    gateway.caller().await.attach(documented()).await.unwrap();
}
