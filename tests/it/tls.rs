//! TLS and mutual TLS on the gRPC port, and files that change under it.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
        version::{TLS12, TLS13},
    },
};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::support::{Authority, Caller, Cloud, Gateway, Mount, Pair, Program, Reply, documented, soon};

const NAME: &str = "gateway.example";

fn files<'a>(pair: &'a Pair, ca: &'a str) -> [(&'static str, &'a str); 3] {
    [("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", ca)]
}

async fn gateway(mount: &Mount, cloud: &Cloud, mutual: bool) -> Gateway {
    let plan = Gateway::facing(cloud.address)
        .with("tls-certificate", mount.path("tls.crt"))
        .with("tls-key", mount.path("tls.key"));
    if mutual { plan.with("tls-client-ca", mount.path("ca.crt")).start().await } else { plan.start().await }
}

/// A new connection, as a client makes it that trusts this authority.
async fn connect(
    gateway: &Gateway,
    trusted: &Authority,
    identity: Option<Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.pem())).domain_name(NAME);
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", gateway.address)).unwrap();
    soon(endpoint.tls_config(tls).unwrap().connect()).await
}

/// Whether a caller with this certificate gets as far as the cloud. With TLS 1.3 a client may think itself connected
/// before the server has looked at its certificate, so a call is made.
async fn gets_through(gateway: &Gateway, trusted: &Authority, identity: Option<Identity>) -> bool {
    match connect(gateway, trusted, identity).await {
        Err(_) => false,
        Ok(channel) => match Caller::on(channel).attach(documented()).await {
            Ok(_) => true,
            Err(status) => {
                // From the caller's own library: the gateway has said nothing in gRPC.
                assert!(matches!(status.code(), Code::Unavailable | Code::Unknown), "{status}");
                assert!(status.details().is_empty(), "{status}");
                false
            }
        },
    }
}

#[tokio::test]
async fn only_a_caller_with_a_certificate_of_the_ca_gets_in() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (ours, other) = (Authority::new(), Authority::new());
    let mount = Mount::new(&files(&ours.issue(&[NAME]), &ours.pem()));
    let gateway = gateway(&mount, &cloud, true).await;
    assert!(gets_through(&gateway, &ours, Some(ours.issue(&["caller.example"]).identity())).await);
    let asked = cloud.seen().len();
    assert!(!gets_through(&gateway, &ours, Some(other.issue(&["caller.example"]).identity())).await, "another CA");
    assert!(!gets_through(&gateway, &ours, Some(ours.issue_until(&["c.example"], 2020).identity())).await, "expired");
    assert!(!gets_through(&gateway, &ours, None).await, "none");
    let plain = Endpoint::from_shared(format!("http://{}", gateway.address)).unwrap();
    let plain = Caller::on(plain.connect_lazy()).attach(documented()).await;
    assert!(plain.is_err(), "plain text");
    assert_eq!(cloud.seen().len(), asked, "nothing more reached the cloud");
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains("apig_gateway_tls_certificate_not_after_seconds 2524608000"), "{metrics}");
    assert!(!metrics.contains("apig_gateway_tls_handshake_failures_total 0"), "{metrics}");
}

/// Shakes hands with one version of TLS; says what was agreed on.
async fn handshake(
    gateway: &Gateway,
    trusted: &Authority,
    version: &'static SupportedProtocolVersion,
) -> Option<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(gateway.address.to_string()).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let stream = soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.ok()?;
    assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
}

/// The head of a greeting for one version of TLS, with no more in it than an answer needs.
fn hello(version: u8) -> Vec<u8> {
    let mut body = vec![3, version];
    body.extend([0x5a; 32]);
    // No session; two suites of TLS 1.2; no compression; curve P-256, ECDSA with it.
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    body.extend([0, 16, 0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_1_1_is_not() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let ours = Authority::new();
    let mount = Mount::new(&files(&ours.issue(&[NAME]), &ours.pem()));
    let gateway = gateway(&mount, &cloud, false).await;
    for version in [&TLS12, &TLS13] {
        assert_eq!(handshake(&gateway, &ours, version).await.as_deref(), Some(&b"h2"[..]));
    }
    let answer = async |version, most| {
        let mut stream = TcpStream::connect(gateway.address.to_string()).await.unwrap();
        stream.write_all(&hello(version)).await.unwrap();
        let mut answer = Vec::new();
        soon(stream.take(most).read_to_end(&mut answer)).await.unwrap();
        answer
    };
    // The same greeting, but for its version, begins a handshake or brings the fatal alert protocol_version.
    assert_eq!(answer(3, 1).await, [22]);
    assert_eq!(answer(2, 100).await.get(5..), Some(&[2, 70][..]));
}

#[tokio::test]
async fn new_files_are_served_and_broken_ones_leave_the_old() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (old, new) = (Authority::new(), Authority::new());
    let (first, second) = (old.issue(&[NAME]), new.issue(&[NAME]));
    let mut mount = Mount::new(&files(&first, &old.pem()));
    let gateway = gateway(&mount, &cloud, true).await;
    let (old_caller, new_caller) = (old.issue(&["c.example"]).identity(), new.issue(&["c.example"]).identity());
    let half = &second.certificate[..second.certificate.len() / 2];
    let broken: [&[(&str, &str)]; 4] = [
        &[("tls.crt", &second.certificate), ("tls.key", &first.key), ("ca.crt", &new.pem())],
        &[("tls.crt", half), ("tls.key", &second.key), ("ca.crt", &new.pem())],
        &[("tls.crt", &second.certificate), ("tls.key", &second.key), ("ca.crt", "")],
        &[("tls.crt", &second.certificate), ("ca.crt", &new.pem())],
    ];
    for (index, files) in broken.into_iter().enumerate() {
        mount.swap(files);
        let count =
            format!("apig_gateway_file_reloads_total{{setting=\"tls-certificate\",result=\"failed\"}} {}", index + 1);
        soon(async { while !gateway.admin("/metrics").await.1.contains(&count) {} }).await;
        assert!(gets_through(&gateway, &old, Some(old_caller.clone())).await, "{count}");
    }
    mount.swap(&files(&second, &new.pem()));
    soon(async { while !gets_through(&gateway, &new, Some(new_caller.clone())).await {} }).await;
    // The certificate changed, and the CA for callers with it.
    assert!(!gets_through(&gateway, &new, Some(old_caller.clone())).await);
    assert!(!gets_through(&gateway, &old, Some(old_caller)).await);
}

#[tokio::test]
async fn a_connection_outlives_the_files_it_began_with() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (old, new) = (Authority::new(), Authority::new());
    let mut mount = Mount::new(&files(&old.issue(&[NAME]), &old.pem()));
    let gateway = gateway(&mount, &cloud, false).await;
    let caller = Caller::on(connect(&gateway, &old, None).await.unwrap());
    caller.attach(documented()).await.unwrap();
    mount.swap(&files(&new.issue(&[NAME]), &new.pem()));
    soon(async { while connect(&gateway, &new, None).await.is_err() {} }).await;
    caller.attach(documented()).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_finish_its_handshake_is_dropped_and_holds_nobody_up() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let ours = Authority::new();
    let mount = Mount::new(&files(&ours.issue(&[NAME]), &ours.pem()));
    let plan = Gateway::facing(cloud.address).with("tls-certificate", mount.path("tls.crt"));
    let plan = plan.with("tls-key", mount.path("tls.key")).handshake_timeout(Duration::from_millis(300));
    let gateway = plan.start().await;
    let mut silent = TcpStream::connect(gateway.address.to_string()).await.unwrap();
    assert!(gets_through(&gateway, &ours, None).await);
    assert_eq!(soon(silent.read(&mut [0; 16])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn the_commands_that_call_a_gateway_show_their_certificate() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let ours = Authority::new();
    let (server, caller) = (ours.issue(&["localhost"]), ours.issue(&["caller.example"]));
    let ca = ours.pem();
    let mount = Mount::new(&files(&server, &ca));
    let own = Mount::new(&files(&caller, &ca));
    let gateway = gateway(&mount, &cloud, true).await;
    let port = gateway.address.to_string().rsplit_once(':').unwrap().1.to_owned();
    let target = format!("https://localhost:{port}");
    let (ca, certificate, key) = (own.path("ca.crt"), own.path("tls.crt"), own.path("tls.key"));
    let probe = ["health", "--target", &target, "--ca", &ca];
    let shown = ["--certificate", &certificate, "--key", &key];
    assert_eq!(Program::run(&[&probe[..], &shown].concat(), &[]).await.code, Some(0));
    assert_eq!(Program::run(&probe, &[]).await.code, Some(1));
    assert_eq!(Program::run(&probe[..3], &[]).await.code, Some(1), "nothing to trust");
    // What was meant to be encrypted must not go in plain text.
    let plain = format!("http://localhost:{port}");
    let ended = Program::run(&["health", "--target", &plain, "--ca", &ca], &[]).await;
    assert!(ended.err.contains("https"), "{}", ended.err);
    let attach =
        ["attach", "--target", &target, "--ca", &ca, "--certificate-id", "c", "--project-id", "p", "--domain", "a.b"];
    let ended = Program::run(&[&attach[..], &shown].concat(), &[("APIG_GATEWAY_TOKEN", "t")]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(cloud.seen().len(), 1);
}
