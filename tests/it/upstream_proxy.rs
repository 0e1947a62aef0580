//! The way to the cloud through an HTTP proxy.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Version;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use crate::{
    support::{Cloud, Gateway, Mount, Plan, Reply, documented, failed, soon},
    upstream_tls::cloud,
};

/// `user:canary` for the header `Proxy-Authorization`.
const BASIC: &str = "Basic dXNlcjpjYW5hcnk=";

/// The manners of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Opens the tunnel.
    Open,
    /// Opens the tunnel for `user:canary`, and repeats the request to others.
    Ask,
    /// Refuses, and repeats the request.
    Refuse,
    /// Says nothing.
    Hang,
}

struct Proxy {
    address: SocketAddr,
    /// The heads of requests.
    heads: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Proxy {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<_>>>::default();
        let seen = Arc::clone(&heads);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, manner, Arc::clone(&seen)));
            }
        });
        Self { address, heads, _serving: AbortOnDropHandle::new(serving) }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, seen: Arc<Mutex<Vec<String>>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.unwrap_or_default() == 0 {
            return;
        }
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head).unwrap();
    seen.lock().unwrap().push(head.clone());
    let refusal = match manner {
        Manner::Open => None,
        Manner::Ask if head.contains(&format!("Proxy-Authorization: {BASIC}\r\n")) => None,
        Manner::Ask => Some("407 Proxy Authentication Required"),
        Manner::Refuse => Some("403 Forbidden"),
        Manner::Hang => return std::future::pending().await,
    };
    if let Some(status) = refusal {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.read(&mut byte).await;
        return;
    }
    let target = head.split(' ').nth(1).unwrap();
    let mut upstream = TcpStream::connect(target).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
}

/// A gateway that reaches this port of the host through a proxy, with this before its address.
fn through(proxy: SocketAddr, user: &str, port: u16, ca: &str) -> Plan {
    Gateway::facing("127.0.0.1:9".parse().unwrap())
        .with("upstream", format!("https://localhost:{port}"))
        .with("upstream-ca", ca)
        .with("max-attempts", "1")
        .file(format!("upstream_proxy = \"http://{user}{proxy}\""))
}

#[tokio::test]
async fn a_proxy_opens_a_tunnel_for_every_protocol() {
    for (protocol, version) in [(&b"h2"[..], Version::HTTP_2), (b"http/1.1", Version::HTTP_11)] {
        for (manner, user) in [(Manner::Open, ""), (Manner::Ask, "user:canary@")] {
            let (address, pem, mut versions) = cloud("localhost", &[protocol]).await;
            let files = Mount::new(&[("ca", &pem)]);
            let proxy = Proxy::start(manner).await;
            let gateway = through(proxy.address, user, address.port(), &files.path("ca")).start().await;
            let caller = gateway.caller().await;
            for _ in 0..3 {
                caller.attach(documented()).await.unwrap();
                assert_eq!(soon(versions.recv()).await, Some(version));
            }
            let heads = proxy.heads();
            assert_eq!(heads.len(), 1, "one tunnel for all: {heads:?}");
            let target = format!("localhost:{}", address.port());
            assert!(heads[0].starts_with(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n")), "{heads:?}");
            assert!(!heads[0].to_ascii_lowercase().contains("x-auth-token"), "{heads:?}");
            assert_eq!(heads[0].contains(BASIC), !user.is_empty(), "{heads:?}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_an_upstream_that_is_not_reached() {
    for (manner, user, text) in [
        (Manner::Refuse, "", "tunnel error: unsuccessful"),
        (Manner::Refuse, "user:canary@", "tunnel error: unsuccessful"),
        (Manner::Ask, "", "proxy authorization required"),
        (Manner::Ask, "user:wrong-canary@", "proxy authorization required"),
    ] {
        let (address, pem, mut versions) = cloud("localhost", &[b"h2"]).await;
        let files = Mount::new(&[("ca", &pem)]);
        let proxy = Proxy::start(manner).await;
        let gateway = through(proxy.address, user, address.port(), &files.path("ca")).start().await;
        let failure = failed(gateway.caller().await.attach(documented()).await);
        assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
        assert_eq!(failure.fact("outcome"), Some("not_sent"));
        let shown = format!("{failure:?}");
        assert!(failure.status.message().contains(text), "{shown}");
        assert!(!shown.contains("canary") && !shown.contains("Basic"), "{shown}");
        assert_eq!(proxy.heads().len(), 1);
        assert!(versions.try_recv().is_err(), "the cloud was reached");
    }
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_given_up_after_the_connect_timeout() {
    let proxy = Proxy::start(Manner::Hang).await;
    let (address, pem, mut versions) = cloud("localhost", &[b"h2"]).await;
    let files = Mount::new(&[("ca", &pem)]);
    let plan = through(proxy.address, "", address.port(), &files.path("ca")).with("max-attempts", "1");
    let gateway = plan.start().await;
    let failure = failed(gateway.caller().await.attach(documented()).await);
    assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert!(failure.status.message().contains("no connection within 5s"), "{failure:?}");
    assert!(versions.try_recv().is_err(), "the cloud was reached");
}

#[tokio::test]
async fn a_cloud_without_tls_that_says_nothing_holds_no_call_past_its_deadline() {
    let cloud = Cloud::answering([Reply::hang(), Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("timeout", "1s").start().await;
    let failure = failed(gateway.caller().await.attach(documented()).await);
    assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(failure.fact("outcome"), Some("unknown"));
}

#[tokio::test]
async fn requests_to_a_cloud_without_tls_go_to_the_proxy_whole() {
    for (user, authorization) in [("", None), ("user:canary@", Some(BASIC))] {
        let proxy = Cloud::answering([Reply::attached()]).await;
        let gateway = Gateway::facing("127.0.0.1:9".parse().unwrap())
            .with("upstream", "http://cloud.example:8080")
            .with("allow-plaintext-upstream", "true")
            .file(format!("upstream_proxy = \"http://{user}{}\"", proxy.address))
            .start()
            .await;
        let caller = gateway.caller().await;
        for _ in 0..3 {
            caller.attach(documented()).await.unwrap();
        }
        let seen = proxy.seen();
        assert_eq!((seen.len(), proxy.connections()), (3, 1));
        for request in seen {
            assert!(request.line.starts_with("POST http://cloud.example:8080/v2/"), "{request:?}");
            assert_eq!(request.header("host"), Some("cloud.example:8080"));
            assert_eq!(request.header("proxy-authorization"), authorization);
        }
        let (_, shown) = gateway.admin("/metrics").await;
        assert!(!shown.contains("canary"));
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_an_upstream_that_is_not_reached() {
    let plan = Gateway::facing("127.0.0.1:9".parse().unwrap())
        .with("upstream", "https://cloud.example")
        .with("upstream-proxy", "http://127.0.0.1:9")
        .with("max-attempts", "1");
    let gateway = plan.start().await;
    let failure = failed(
        tokio::time::timeout(Duration::from_secs(20), gateway.caller().await.attach(documented())).await.unwrap(),
    );
    assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
}
