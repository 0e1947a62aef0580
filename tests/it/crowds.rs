//! Crowds of peers that say nothing: callers and probes get in all the same.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::support::{
    Authority, Caller, Cloud, Gateway, Mount, Program, Reply, documented, greet, on_certificate, soon,
};

/// Peers of a crowd.
const CROWD: usize = 1_000;

const NAME: &str = "gateway.example";

/// Both ends of each connection are in this process.
fn allow_descriptors() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}

/// Peers that connect and say nothing, or as much as this. Those that are closed may come back.
async fn crowd(address: String, says: &'static [u8], comes_back: bool) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        // One after the other: the queue of the system forgets some of those that come all at once.
        let mut peer = soon(TcpStream::connect(&address)).await.unwrap();
        let address = address.clone();
        crowd.spawn(async move {
            loop {
                let _ = peer.write_all(says).await;
                let mut rest = Vec::new();
                let _ = peer.read_to_end(&mut rest).await;
                if !comes_back {
                    return;
                }
                peer = loop {
                    if let Ok(peer) = TcpStream::connect(&address).await {
                        break peer;
                    }
                };
            }
        });
    }
    crowd
}

/// A counter of the gateway, by its name and labels.
async fn count(gateway: &Gateway, name: &str) -> usize {
    let (_, metrics) = gateway.admin("/metrics").await;
    metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

struct Mutual {
    gateway: Gateway,
    authority: Authority,
    identity: Identity,
    _mount: Mount,
}

impl Mutual {
    async fn start(cloud: &Cloud) -> Self {
        let authority = Authority::new();
        let own = authority.issue(&[NAME]);
        let files = [("tls.crt", &*own.certificate), ("tls.key", &*own.key), ("ca.crt", &*authority.pem())];
        let mount = Mount::new(&files);
        let gateway = Gateway::facing(cloud.address)
            .with("tls-certificate", mount.path("tls.crt"))
            .with("tls-key", mount.path("tls.key"))
            .with("tls-client-ca", mount.path("ca.crt"))
            // So long that no peer of a crowd is gone by itself.
            .handshake_timeout(Duration::from_secs(60))
            .start()
            .await;
        let identity = authority.issue(&["caller.example"]).identity();
        Self { gateway, authority, identity, _mount: mount }
    }

    async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .domain_name(NAME)
            .identity(self.identity.clone());
        let endpoint = Endpoint::from_shared(format!("https://{}", self.gateway.address)).unwrap();
        soon(endpoint.tls_config(tls).unwrap().connect()).await
    }
}

#[tokio::test]
async fn silent_peers_keep_no_certified_caller_out() {
    allow_descriptors();
    let cloud = Cloud::answering([Reply::attached()]).await;
    let mutual = Mutual::start(&cloud).await;
    let first = Caller::on(mutual.connect().await.unwrap());
    first.attach(documented()).await.unwrap();
    let _crowd = crowd(mutual.gateway.address.to_string(), b"", false).await;
    let evicted = r#"apig_gateway_handshakes_aborted_total{reason="evicted"} "#;
    soon(async {
        // Callers come among the last of the crowd and after it.
        while count(&mutual.gateway, evicted).await < CROWD - 256 {
            let caller = Caller::on(mutual.connect().await.unwrap());
            caller.attach(on_certificate(1)).await.unwrap();
        }
    })
    .await;
    first.attach(documented()).await.unwrap();
}

#[tokio::test]
async fn silent_peers_that_come_back_keep_no_certified_caller_out() {
    allow_descriptors();
    let cloud = Cloud::answering([Reply::attached()]).await;
    let mutual = Mutual::start(&cloud).await;
    let first = Caller::on(mutual.connect().await.unwrap());
    let crowd = crowd(mutual.gateway.address.to_string(), b"", true).await;
    first.attach(documented()).await.unwrap();
    // A caller of the crowd's own address may be evicted with it, and tries again as every client does.
    let caller = soon(async {
        loop {
            if let Ok(channel) = mutual.connect().await {
                let caller = Caller::on(channel);
                if caller.attach(documented()).await.is_ok() {
                    break caller;
                }
            }
        }
    })
    .await;
    // Once in, it stays.
    for number in 0..5 {
        caller.attach(on_certificate(number)).await.unwrap();
    }
    drop(crowd);
}

#[tokio::test]
async fn silent_peers_on_the_admin_port_keep_no_probe_out() {
    allow_descriptors();
    let gateway = Gateway::facing("127.0.0.1:9".parse().unwrap()).start().await;
    let _silent = crowd(gateway.admin.to_string(), b"", false).await;
    let _slow = crowd(gateway.admin.to_string(), b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ", false).await;
    soon(async {
        // Some of the crowd run into their timeout instead.
        while count(&gateway, "apig_gateway_admin_connections_evicted_total ").await < CROWD / 2 {
            assert_eq!(gateway.admin("/livez").await, (200, "ok\n".into()));
        }
    })
    .await;
}

/// Reads the answers to one request on the admin port, to the end of the connection.
async fn admin_answer(gateway: &Gateway, request: Vec<u8>) -> String {
    let mut peer = TcpStream::connect(gateway.admin).await.unwrap();
    let _ = peer.write_all(&request).await;
    let mut answer = Vec::new();
    let _ = soon(peer.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_admin_port_ends_what_is_slow_idle_or_large() {
    let gateway = Gateway::facing("127.0.0.1:9".parse().unwrap()).start().await;
    let ask = |rest: &str| format!("GET /livez HTTP/1.1\r\nHost: a\r\n{rest}").into_bytes();
    let (nothing, half, idle, large, body) = tokio::join!(
        admin_answer(&gateway, Vec::new()),
        admin_answer(&gateway, ask("X-Slow: ")),
        admin_answer(&gateway, ask("\r\n")),
        admin_answer(&gateway, ask(&format!("X-Large: {}\r\n\r\n", "x".repeat(64 * 1024)))),
        admin_answer(&gateway, ask("Content-Length: 1000000\r\n\r\nhalf of it")),
    );
    assert_eq!((nothing.as_str(), half.as_str()), ("", ""));
    assert!(idle.starts_with("HTTP/1.1 200 ") && idle.ends_with("ok\n"), "{idle}");
    assert!(!large.contains("200 OK"), "{large}");
    assert!(body.starts_with("HTTP/1.1 200 ") && body.ends_with("ok\n"), "{body}");
}

#[tokio::test]
async fn a_gateway_without_descriptors_serves_those_that_it_has_and_others_later() {
    allow_descriptors();
    let cloud = Cloud::answering([Reply::attached()]).await;
    let program = env!("CARGO_BIN_EXE_apig-grpc-gateway");
    let upstream = format!("http://{}", cloud.address);
    let settings = "--listen 127.0.0.1:0 --admin-listen off --log-format json --log-level info,apig_grpc_gateway=debug";
    let script = format!("ulimit -n 64; exec {program} serve {settings} --upstream {upstream}");
    let mut program = Program::of(tokio::process::Command::new("sh").args(["-c", &script]));
    let line: serde_json::Value = serde_json::from_str(&program.log_line(r#""serving""#).await).unwrap();
    let address = line["address"].as_str().unwrap().to_owned();
    let caller = Caller::of(&address).await;
    caller.attach(documented()).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(greet(&address).await);
    }
    program.log_line("can't accept a connection").await;
    caller.attach(documented()).await.unwrap();
    // Peers that have not greeted give their descriptors back, before their time for the handshake is over.
    program.log_line(r#""reason":"Evicted""#).await;
    for peer in &mut silent {
        let _ = soon(peer.read_to_end(&mut Vec::new())).await;
    }
    drop(held);
    let _crowd = crowd(address.clone(), b"", false).await;
    let later = soon(async {
        loop {
            let later = Caller::of(&address).await;
            if later.attach(documented()).await.is_ok() {
                break later;
            }
        }
    })
    .await;
    later.attach(documented()).await.unwrap();
    caller.attach(documented()).await.unwrap();
    program.signal("TERM").await;
    assert_eq!(program.ended(Duration::from_secs(20)).await.code(), Some(0));
}
