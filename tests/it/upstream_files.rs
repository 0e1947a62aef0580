//! Certificates towards the cloud and towards IAM, from files that change while calls go on.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Request as Call;

use crate::support::{Authority, Cloud, Gateway, Mount, Pair, Plan, Program, Reply, documented, on_certificate, soon};

/// A cloud, and IAM, behind TLS. Requests for the certificate `SLOW` wait until they may end.
struct SecureCloud {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    may_end: watch::Sender<bool>,
    _serving: AbortOnDropHandle<()>,
}

/// The path of a request, with the certificate that its connection had shown.
type Seen = (String, Option<CertificateDer<'static>>);

/// The number of the certificate that `SecureCloud` answers late.
const SLOW: usize = 7;

fn slow_path() -> String {
    format!("/{}/", on_certificate(SLOW).certificate_id)
}

impl SecureCloud {
    /// Shows this certificate, and asks for one of this authority.
    async fn start(pair: &Pair, client_ca: Option<&Authority>) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(pair, client_ca)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, may_end) = (Arc::<Mutex<Vec<_>>>::default(), watch::Sender::new(false));
        let serving = {
            let (seen, may_end) = (Arc::clone(&seen), may_end.clone());
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let Ok(stream) = acceptor.accept(stream).await else { continue };
                    let shown = stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned());
                    let (seen, may_end) = (Arc::clone(&seen), may_end.clone());
                    let service = service_fn(move |request: Request<Incoming>| {
                        seen.lock().unwrap().push((request.uri().path().to_owned(), shown.clone()));
                        answer(request, may_end.subscribe())
                    });
                    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(async move {
                        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
        };
        Self { address, seen, may_end, _serving: AbortOnDropHandle::new(tokio::spawn(serving)) }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The certificates that came with requests of this path's end, in their order.
    fn shown(&self, end: &str) -> Vec<CertificateDer<'static>> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(path, _)| path.contains(end)).filter_map(|(_, shown)| shown.clone()).collect()
    }
}

fn server_config(pair: &Pair, client_ca: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match client_ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(der(&authority.pem())).unwrap();
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap()
        }
    };
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![der(&pair.certificate)], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    tls
}

async fn answer(
    request: Request<Incoming>,
    mut may_end: watch::Receiver<bool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    if path == "/v3/auth/tokens" {
        let body = r#"{"token":{"issued_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-02T00:00:00Z"}}"#;
        let answer = Response::builder().status(201).header("x-subject-token", "of-iam");
        return Ok(answer.body(body.into()).unwrap());
    }
    if path.contains(&slow_path()) {
        may_end.wait_for(|may_end| *may_end).await.unwrap();
    }
    Ok(Response::builder().status(204).body(Full::default()).unwrap())
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn facing(cloud: &SecureCloud, mount: &Mount) -> Plan {
    Gateway::facing("127.0.0.1:9".parse().unwrap()).with("upstream", cloud.url()).with("upstream-ca", mount.path("ca"))
}

#[tokio::test]
async fn a_client_certificate_is_rotated_for_all_workers_and_requests_in_flight_end_on_the_old_one() {
    let ours = Authority::new();
    let cloud = SecureCloud::start(&ours.issue(&["localhost"]), Some(&ours)).await;
    let (old, new) = (ours.issue(&["old.example"]), ours.issue(&["new.example"]));
    let files =
        |certificate: &str, key: &str| [("ca", ours.pem()), ("crt", certificate.to_owned()), ("key", key.to_owned())];
    let swap = |mount: &mut Mount, certificate: &str, key: &str| {
        let files = files(certificate, key);
        mount.swap(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    };
    let first = files(&old.certificate, &old.key);
    let mut mount = Mount::new(&first.each_ref().map(|(name, text)| (*name, text.as_str())));
    let gateway = facing(&cloud, &mount)
        .with("upstream-client-certificate", mount.path("crt"))
        .with("upstream-client-key", mount.path("key"))
        .with("workers", "2")
        .start()
        .await;
    // Some connections, so that each worker has one.
    let mut callers = Vec::new();
    for _ in 0..8 {
        callers.push(gateway.caller().await);
    }
    let all_call = async || {
        for caller in &callers {
            caller.attach(documented()).await.unwrap();
        }
    };
    all_call().await;
    let slow = {
        let caller = gateway.caller().await;
        tokio::spawn(async move { caller.attach(on_certificate(SLOW)).await })
    };
    let slow_path = slow_path();
    soon(async {
        while cloud.shown(&slow_path).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let half = &new.certificate[..new.certificate.len() / 2];
    let broken = [(new.certificate.as_str(), old.key.as_str()), (half, &new.key), ("", ""), (&new.certificate, "")];
    for (index, (certificate, key)) in broken.into_iter().enumerate() {
        swap(&mut mount, certificate, key);
        let result = "setting=\"upstream-client-certificate\",result=\"failed\"";
        gateway.shows(&format!("apig_gateway_file_reloads_total{{{result}}} {}\n", index + 1)).await;
        all_call().await;
    }
    let documented_path = documented().certificate_id;
    assert!(cloud.shown(&documented_path).iter().all(|shown| *shown == der(&old.certificate)));

    swap(&mut mount, &new.certificate, &new.key);
    let is_new = |shown: &CertificateDer<'_>| *shown == der(&new.certificate);
    soon(async {
        while !cloud.shown(&documented_path).last().is_some_and(is_new) {
            callers[0].attach(documented()).await.unwrap();
        }
    })
    .await;
    // All workers changed together.
    let before = cloud.shown(&documented_path).len();
    all_call().await;
    assert!(cloud.shown(&documented_path)[before..].iter().all(is_new));
    cloud.may_end.send_replace(true);
    soon(slow).await.unwrap().unwrap();
    assert_eq!(cloud.shown(&slow_path), [der(&old.certificate)]);
}

#[tokio::test]
async fn a_ca_that_is_added_is_trusted_by_the_control_plane_too_and_one_that_is_removed_no_longer() {
    let (first, second) = (Authority::named("first.example"), Authority::named("second.example"));
    let cloud = SecureCloud::start(&first.issue(&["localhost"]), None).await;
    let iam = SecureCloud::start(&second.issue(&["localhost"]), None).await;
    let mut mount = Mount::new(&[("ca", &first.pem())]);
    let gateway = facing(&cloud, &mount)
        .with("credentials", "password")
        .with("iam-endpoint", iam.url())
        .with("user-name", "u")
        .with("account-name", "a")
        .with("password", "p")
        .with("project-name", "n")
        .with("max-attempts", "1")
        .start()
        .await;
    let caller = gateway.caller().await;
    assert!(caller.send(Call::new(documented())).await.is_err(), "IAM can't be trusted yet");
    let both = first.pem() + &second.pem();
    mount.swap(&[("ca", &both)]);
    soon(async { while caller.send(Call::new(documented())).await.is_err() {} }).await;
    assert_eq!(iam.seen.lock().unwrap().len(), 1);

    for (index, broken) in ["", "no certificate", &both[..both.len() / 3]].into_iter().enumerate() {
        mount.swap(&[("ca", broken)]);
        let result = "setting=\"upstream-ca\",result=\"failed\"";
        gateway.shows(&format!("apig_gateway_file_reloads_total{{{result}}} {}\n", index + 1)).await;
        caller.send(Call::new(documented())).await.unwrap();
    }
    // Connections to a cloud that is no longer trusted are not used again.
    mount.swap(&[("ca", &second.pem())]);
    soon(async { while caller.send(Call::new(documented())).await.is_ok() {} }).await;
}

#[tokio::test]
async fn files_that_can_not_be_used_are_faults_of_the_configuration() {
    let ours = Authority::new();
    let (one, other) = (ours.issue(&["one.example"]), ours.issue(&["other.example"]));
    let cloud = Cloud::answering([Reply::attached()]).await;
    let upstream = format!("http://{}", cloud.address);
    let ca = ours.pem();
    for (ca, certificate, key, fault) in [
        (ca.as_str(), &one.certificate, &one.key, None),
        ("", &one.certificate, &one.key, Some("upstream-ca (--upstream-ca) holds no certificate")),
        (
            &ca,
            &one.certificate,
            &other.key,
            Some("upstream-client-certificate (--upstream-client-certificate) can't be used: "),
        ),
        (
            &ca,
            &one.key,
            &one.key,
            Some("upstream-client-certificate (--upstream-client-certificate) can't be used, with"),
        ),
    ] {
        let mount = Mount::new(&[("ca", ca), ("crt", certificate), ("key", key)]);
        let (ca, certificate, key) = (mount.path("ca"), mount.path("crt"), mount.path("key"));
        let arguments = ["check", "--upstream", &upstream, "--upstream-ca", &ca];
        let identity = ["--upstream-client-certificate", &certificate, "--upstream-client-key", &key];
        let ended = Program::run(&[&arguments[..], &identity].concat(), &[]).await;
        assert_eq!(ended.code, Some(if fault.is_some() { 2 } else { 0 }), "{fault:?}: {}", ended.err);
        assert!(ended.err.contains(fault.unwrap_or_default()), "{fault:?}: {}", ended.err);
        assert!(!ended.err.contains("PRIVATE KEY"), "{}", ended.err);
    }
}
