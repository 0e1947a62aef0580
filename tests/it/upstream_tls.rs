//! TLS towards the cloud.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};
use tonic::Code;

use crate::support::{Authority, Gateway, Mount, Program, documented, failed, soon};

/// A cloud behind TLS that offers these protocols and answers 204; it tells the version of every request.
pub(crate) async fn cloud(
    name: &str,
    protocols: &[&[u8]],
) -> (SocketAddr, String, mpsc::UnboundedReceiver<http::Version>) {
    cloud_asking(name, protocols, None).await
}

/// The same, which may ask for a certificate of this authority.
async fn cloud_asking(
    name: &str,
    protocols: &[&[u8]],
    client_ca: Option<&str>,
) -> (SocketAddr, String, mpsc::UnboundedReceiver<http::Version>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let verifier = match client_ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
        }
    };
    let mut tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, versions) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let seen = seen.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                seen.send(request.version()).unwrap();
                let answer = Response::builder().status(204).body(Empty::<bytes::Bytes>::new()).unwrap();
                async move { Ok::<_, Infallible>(answer) }
            });
            let io = TokioIo::new(stream);
            tokio::spawn(async move {
                if h2 {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service)
                        .await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                }
            });
        }
    });
    (address, cert.pem(), versions)
}

/// A gateway that trusts this certificate besides the platform's.
async fn trusting(pem: &str, host: &str, port: u16) -> Gateway {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    Gateway::facing("127.0.0.1:9".parse().unwrap())
        .with("upstream", format!("https://{host}:{port}"))
        .with("upstream-ca", file.path().to_str().unwrap())
        .start()
        .await
}

#[tokio::test]
async fn the_protocol_is_the_best_that_the_cloud_offers() {
    let offers: [(&[&[u8]], http::Version); 3] = [
        (&[b"h2", b"http/1.1"], http::Version::HTTP_2),
        (&[b"http/1.1"], http::Version::HTTP_11),
        (&[], http::Version::HTTP_11),
    ];
    for (protocols, version) in offers {
        let (address, pem, mut versions) = cloud("localhost", protocols).await;
        let gateway = trusting(&pem, "localhost", address.port()).await;
        gateway.caller().await.attach(documented()).await.unwrap();
        assert_eq!(soon(versions.recv()).await, Some(version));
    }
}

#[tokio::test]
async fn a_cloud_that_asks_for_a_certificate_gets_the_one_that_is_configured() {
    let authority = Authority::new();
    let pair = authority.issue(&["gateway.example"]);
    let (address, pem, mut versions) = cloud_asking("localhost", &[b"h2"], Some(&authority.pem())).await;
    let files = Mount::new(&[("ca", &pem), ("crt", &pair.certificate), ("key", &pair.key)]);
    let plan = || {
        Gateway::facing("127.0.0.1:9".parse().unwrap())
            .with("upstream", format!("https://localhost:{}", address.port()))
            .with("upstream-ca", files.path("ca"))
            .with("max-attempts", "1")
    };
    let without = plan().start().await;
    assert!(without.caller().await.attach(documented()).await.is_err());
    let plan = plan().with("upstream-client-certificate", files.path("crt"));
    let gateway = plan.with("upstream-client-key", files.path("key")).start().await;
    gateway.caller().await.attach(documented()).await.unwrap();
    assert_eq!(soon(versions.recv()).await, Some(http::Version::HTTP_2));
}

#[tokio::test]
async fn a_cloud_that_can_not_prove_its_name_gets_nothing() {
    let (address, _, mut versions) = cloud("localhost", &[b"h2"]).await;
    let (_, other_pem, _) = cloud("localhost", &[b"h2"]).await;
    let (wrong_name, wrong_name_pem, _) = cloud("elsewhere.example", &[b"h2"]).await;
    for (pem, port) in [(other_pem, address.port()), (wrong_name_pem, wrong_name.port())] {
        let gateway = trusting(&pem, "localhost", port).await;
        let failure = failed(gateway.caller().await.attach(documented()).await);
        assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
        assert_eq!(failure.fact("outcome"), Some("not_sent"));
        assert!(failure.status.message().contains("certificate"), "{}", failure.status.message());
    }
    assert!(versions.try_recv().is_err());
}

#[tokio::test]
async fn only_an_upstream_with_tls_needs_the_platforms_roots() {
    // A container without certificates of authorities.
    let nowhere = [("SSL_CERT_FILE", "/nowhere/roots.pem"), ("SSL_CERT_DIR", "/nowhere")];
    for (upstream, proxy, code) in [
        ("http://127.0.0.1:1", None, 0),
        ("http://127.0.0.1:1", Some("http://127.0.0.1:2"), 0),
        ("http://127.0.0.1:1", Some("https://127.0.0.1:2"), 2),
        ("https://127.0.0.1:1", None, 2),
    ] {
        let mut arguments = vec!["check", "--upstream", upstream];
        arguments.extend(proxy.iter().flat_map(|proxy| ["--upstream-proxy", proxy]));
        let ended = Program::run(&arguments, &nowhere).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
    }
}
