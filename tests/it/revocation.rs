//! Callers' certificates that are revoked, and lists that change, break and end.

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::support::{Authority, Caller, Cloud, Gateway, Mount, Pair, Program, Reply, documented, soon};

const NAME: &str = "gateway.example";

/// A gateway that holds its callers' certificates against the list of the mount.
async fn gateway(mount: &Mount, cloud: &Cloud) -> Gateway {
    Gateway::facing(cloud.address)
        .with("tls-certificate", mount.path("tls.crt"))
        .with("tls-key", mount.path("tls.key"))
        .with("tls-client-ca", mount.path("ca.crt"))
        .with("tls-client-crl", mount.path("ca.crl"))
        .start()
        .await
}

fn files<'a>(server: &'a Pair, ca: &'a str, crl: &'a str) -> [(&'static str, &'a str); 4] {
    [("tls.crt", &server.certificate), ("tls.key", &server.key), ("ca.crt", ca), ("ca.crl", crl)]
}

async fn connect(gateway: &Gateway, ours: &Authority, caller: &Pair) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ours.pem())).domain_name(NAME);
    let endpoint = Endpoint::from_shared(format!("https://{}", gateway.address)).unwrap();
    soon(endpoint.tls_config(tls.identity(caller.identity())).unwrap().connect()).await
}

/// Whether a new connection of this caller gets as far as the cloud.
async fn gets_through(gateway: &Gateway, ours: &Authority, caller: &Pair) -> bool {
    match connect(gateway, ours, caller).await {
        Err(_) => false,
        Ok(channel) => match Caller::on(channel).attach(documented()).await {
            Ok(_) => true,
            Err(status) => {
                assert!(status.details().is_empty(), "it ends in the handshake: {status}");
                false
            }
        },
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_in_the_handshake() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let ours = Authority::new();
    let (good, bad) = (ours.issue(&["good.example"]), ours.issue(&["bad.example"]));
    let (server, ca, crl) = (ours.issue(&[NAME]), ours.pem(), ours.revoking(&[&bad], 2050));
    let mount = Mount::new(&files(&server, &ca, &crl));
    let gateway = gateway(&mount, &cloud).await;
    assert!(gets_through(&gateway, &ours, &good).await);
    assert!(!gets_through(&gateway, &ours, &bad).await);
    assert_eq!(cloud.seen().len(), 1, "nothing of the revoked caller reached the cloud");
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains("apig_gateway_tls_client_crl_next_update_seconds 2524608000"), "{metrics}");
}

#[tokio::test]
async fn a_list_that_changes_is_followed_and_one_that_can_not_be_used_leaves_the_old() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (ours, other) = (Authority::new(), Authority::named("other.example"));
    let (good, bad) = (ours.issue(&["good.example"]), ours.issue(&["bad.example"]));
    let (server, ca) = (ours.issue(&[NAME]), ours.pem());
    let revoking_bad = ours.revoking(&[&bad], 2050);
    let mut mount = Mount::new(&files(&server, &ca, &ours.revoking(&[], 2050)));
    let gateway = gateway(&mount, &cloud).await;
    let early = Caller::on(connect(&gateway, &ours, &bad).await.unwrap());
    early.attach(documented()).await.unwrap();

    mount.swap(&files(&server, &ca, &revoking_bad));
    soon(async { while gets_through(&gateway, &ours, &bad).await {} }).await;
    assert!(gets_through(&gateway, &ours, &good).await);
    // Connections of before stay: max-connection-age bounds them.
    early.attach(documented()).await.unwrap();

    let forged = Authority::new().revoking(&[], 2050);
    let ended = ours.revoking(&[], 2020);
    let of_another = other.revoking(&[], 2050);
    let half = &revoking_bad[..revoking_bad.len() / 2];
    for (index, crl) in ["", half, &forged, &ended, &of_another].into_iter().enumerate() {
        mount.swap(&files(&server, &ca, crl));
        let result = "setting=\"tls-certificate\",result=\"failed\"";
        gateway.shows(&format!("apig_gateway_file_reloads_total{{{result}}} {}", index + 1)).await;
        assert!(!gets_through(&gateway, &ours, &bad).await, "{index}");
        assert!(gets_through(&gateway, &ours, &good).await, "{index}");
    }
    gateway.shows("apig_gateway_file_reload_failing{setting=\"tls-certificate\"} 1").await;

    mount.swap(&files(&server, &ca, &ours.revoking(&[&good], 2050)));
    soon(async { while gets_through(&gateway, &ours, &good).await {} }).await;
    assert!(gets_through(&gateway, &ours, &bad).await);
    gateway.shows("apig_gateway_file_reload_failing{setting=\"tls-certificate\"} 0").await;
}

#[tokio::test]
async fn lists_that_could_not_be_relied_on_are_faults_of_the_configuration() {
    let (ours, other) = (Authority::new(), Authority::named("other.example"));
    let (server, ca) = (ours.issue(&[NAME]), ours.pem());
    let both = ca.clone() + &other.pem();
    let list = ours.revoking(&[], 2050);
    let lists = list.clone() + &other.revoking(&[], 2050);
    for (ca, crl, fault) in [
        (&ca, list.as_str(), None),
        (&both, &lists, None),
        (&both, &list, Some("holds no list of certificate 2 of tls-client-ca")),
        (&ca, &ours.revoking(&[], 2020), Some("holds a list past its next update")),
        (&ca, &Authority::new().revoking(&[], 2050), Some("that certificate 1 of tls-client-ca has not signed")),
        (&ca, &ca, Some("holds no certificate revocation list")),
    ] {
        let mount = Mount::new(&files(&server, ca, crl));
        let path = |name| mount.path(name);
        let (certificate, key, ca, crl) = (path("tls.crt"), path("tls.key"), path("ca.crt"), path("ca.crl"));
        let arguments =
            ["check", "--upstream", "http://127.0.0.1:9", "--tls-certificate", &certificate, "--tls-key", &key];
        let ended =
            Program::run(&[&arguments[..], &["--tls-client-ca", &ca, "--tls-client-crl", &crl]].concat(), &[]).await;
        assert_eq!(ended.code, Some(if fault.is_some() { 2 } else { 0 }), "{fault:?}: {}", ended.err);
        assert!(ended.err.contains(fault.unwrap_or_default()), "{fault:?}: {}", ended.err);
    }
    let alone = Program::run(&["check", "--upstream", "http://127.0.0.1:9", "--tls-client-crl", "/none"], &[]).await;
    assert!(alone.code == Some(2) && alone.err.contains("needs tls-client-ca"), "{}", alone.err);
}
