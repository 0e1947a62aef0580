//! The end of a gateway's life.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tonic::Code;

use crate::support::{Caller, Cloud, Gateway, Program, Reply, documented, failed, on_certificate, soon};

/// A cloud whose answers wait for a word.
struct Slow {
    cloud: Cloud,
    go: tokio::sync::watch::Sender<bool>,
    address: std::net::SocketAddr,
}

impl Slow {
    /// Puts a relay before a scripted cloud that holds every answer back until told.
    async fn start() -> Self {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go, wait) = tokio::sync::watch::channel(false);
        let upstream = cloud.address;
        tokio::spawn(async move {
            loop {
                let (inward, _) = listener.accept().await.unwrap();
                let mut wait = wait.clone();
                tokio::spawn(async move {
                    let (mut from_gateway, mut to_gateway) = inward.into_split();
                    let (mut from_cloud, mut to_cloud) = TcpStream::connect(upstream).await.unwrap().into_split();
                    let requests = tokio::io::copy(&mut from_gateway, &mut to_cloud);
                    let answers = async {
                        wait.wait_for(|go| *go).await.unwrap();
                        tokio::io::copy(&mut from_cloud, &mut to_gateway).await
                    };
                    let _ = tokio::join!(requests, answers);
                });
            }
        });
        Self { cloud, go, address }
    }
}

#[tokio::test]
async fn sigterm_lets_calls_end_and_ignores_silent_peers() {
    let slow = Slow::start().await;
    let (mut program, address) = Program::serve(&["--upstream", &format!("http://{}", slow.address)], &[]).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut calls = Vec::new();
    for number in 0..16 {
        let caller = Caller::of(&address).await;
        calls.push(tokio::spawn(async move { caller.attach(on_certificate(number)).await }));
    }
    slow.cloud.requests(16).await;

    program.signal("TERM").await;
    program.log_line("draining").await;
    slow.go.send(true).unwrap();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    let done = Instant::now();
    let status = program.ended(Duration::from_secs(25)).await;
    assert_eq!(status.code(), Some(0));
    assert!(done.elapsed() < Duration::from_secs(5), "silent peers held it up for {:?}", done.elapsed());
    drop(silent);
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_is_told_so() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let mut gateway = Gateway::facing(cloud.address).with("drain-timeout", "200ms").start().await;
    let caller = gateway.caller().await;
    let call = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    gateway.stop();
    let failure = failed(soon(call).await.unwrap());
    assert_eq!(failure.verdict(), (Code::Unavailable, "SHUTTING_DOWN"));
    assert_eq!(failure.fact("outcome"), Some("unknown"));
    gateway.drained().await;
    cloud.closed(1).await;
}

#[tokio::test]
async fn open_streams_and_stuck_peers_do_not_hold_a_drain_up() {
    let mut gateway = Gateway::facing("127.0.0.1:9".parse().unwrap()).start().await;
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let mut health = tonic_health::pb::health_client::HealthClient::new(gateway.channel().await);
    let watched = soon(health.watch(request)).await.unwrap();
    // Greets, and then never answers the ping that a graceful GOAWAY waits for.
    let mut stuck = TcpStream::connect(gateway.address.to_string()).await.unwrap();
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    tokio::io::AsyncWriteExt::write_all(&mut stuck, greeting).await.unwrap();
    let started = Instant::now();
    gateway.stop();
    gateway.drained().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop((watched, stuck));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let (mut program, address) = Program::serve(&["--upstream", &format!("http://{}", cloud.address)], &[]).await;
    let caller = Caller::of(&address).await;
    let call = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    program.signal("TERM").await;
    program.log_line("draining").await;
    program.signal("INT").await;
    assert_eq!(program.ended(Duration::from_secs(5)).await.code(), Some(1));
    call.abort();
}
