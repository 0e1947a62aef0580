//! Each kind of credential against the emulator, which has read the cloud's documents by itself.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use apig_grpc_gateway::emulator::{Emulator, World};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request};

use crate::support::{Failed, Gateway, Plan, documented, failed};

/// A running emulator of the documented world.
struct Emulated {
    address: SocketAddr,
    _running: AbortOnDropHandle<()>,
}

impl Emulated {
    /// Tokens and temporary keys live for so long.
    async fn with_life(life: Duration) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let emulator = Emulator::bind(any_port, World::documented()).await.unwrap().with_life(life);
        let address = emulator.local_addr();
        let running = tokio::spawn(emulator.run(std::future::pending()));
        Self { address, _running: AbortOnDropHandle::new(running) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A gateway with this kind of credentials.
    fn gateway(&self, kind: &str) -> Plan {
        Gateway::facing(self.address)
            .with("credentials", kind)
            .with("iam-endpoint", self.url())
            .with("sts-endpoint", self.url())
            .with("metadata-endpoint", self.url())
            .with("project-name", "cn-north-4")
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn attach(gateway: &Gateway) -> Result<(), Failed> {
    let mut request = documented();
    // Found by its name, with the same credential.
    request.project_id.clear();
    let result = gateway.caller().await.send(Request::new(request)).await;
    result.map(drop).map_err(|status| failed::<()>(Err(status)))
}

/// A file that holds this, for as long as the folder lives.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[tokio::test]
async fn a_password() {
    let cloud = Emulated::with_life(DAY).await;
    let plan = || cloud.gateway("password").with("user-name", "operator").with("account-name", "demo-account");
    attach(&plan().with("password", "demo-operator-password").start().await).await.unwrap();
    let wrong = attach(&plan().with("password", "wrong").start().await).await.unwrap_err();
    assert_eq!(wrong.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
}

#[tokio::test]
async fn a_token_that_was_revoked() {
    let cloud = Emulated::with_life(DAY).await;
    let plan = cloud.gateway("password").with("user-name", "operator").with("account-name", "demo-account");
    let gateway = plan.with("password", "demo-operator-password").start().await;
    attach(&gateway).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let revoked = reqwest::Client::new().post(format!("{}/emulator/revoke", cloud.url())).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    attach(&gateway).await.unwrap();
}

#[tokio::test]
async fn an_access_key() {
    let cloud = Emulated::with_life(DAY).await;
    let plan = |id: &str| cloud.gateway("aksk").with("access-key-id", id);
    let secret = "demo-operator-secret-key";
    attach(&plan("DEMOOPERATORKEY00001").with("secret-access-key", secret).start().await).await.unwrap();
    for (id, secret) in [("DEMOOPERATORKEY00001", "wrong"), ("NOBODY", secret)] {
        let gateway = plan(id).with("secret-access-key", secret).start().await;
        // With a project: the look for one would be refused first.
        let failure = failed(gateway.caller().await.send(Request::new(documented())).await);
        assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
        assert_eq!(failure.fact("error_code"), Some("APIG.0301"));
        assert!(!failure.status.message().contains("NOBODY"), "an access key is masked: {:?}", failure.status);
    }
}

#[tokio::test]
async fn the_agency_of_a_machine() {
    let cloud = Emulated::with_life(DAY).await;
    attach(&cloud.gateway("metadata").start().await).await.unwrap();
}

#[tokio::test]
async fn keys_that_end_are_renewed_in_time() {
    let cloud = Emulated::with_life(Duration::from_secs(5)).await;
    let gateway = cloud.gateway("metadata").start().await;
    let began = std::time::Instant::now();
    // Over the ends of two pairs.
    while began.elapsed() < Duration::from_secs(11) {
        attach(&gateway).await.unwrap();
    }
}

#[tokio::test]
async fn the_identity_of_a_container() {
    let cloud = Emulated::with_life(DAY).await;
    let (_folder, path) = file("demo-container-token");
    let plan = cloud.gateway("container").variable("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", path);
    let uri = format!("{}/emulator/container/credentials", cloud.url());
    attach(&plan.variable("HC_CONTAINER_CREDENTIALS_FULL_URI", uri).start().await).await.unwrap();
}

#[tokio::test]
async fn a_workload_with_an_oidc_token() {
    let cloud = Emulated::with_life(DAY).await;
    let (_folder, path) = file("demo-oidc-token");
    let plan = cloud
        .gateway("oidc")
        .variable("HUAWEICLOUD_OIDC_PROVIDER_URN", "iam::demo-account:identityProviders:demo")
        .variable("HUAWEICLOUD_OIDC_AGENCY_URN", "iam::demo-account:agency:demo")
        .variable("HUAWEICLOUD_OIDC_TOKEN_FILE", path);
    attach(&plan.start().await).await.unwrap();
}

#[tokio::test]
async fn every_link_of_the_sdks_chain() {
    let cloud = Emulated::with_life(DAY).await;
    let (_folder, federated) = file("demo-federated-token");
    let (_other, profile) = file("[basic]\nak = DEMOOPERATORKEY00001\nsk = demo-operator-secret-key\n");
    for variables in [
        &[("HUAWEICLOUD_SDK_AK", "DEMOOPERATORKEY00001"), ("HUAWEICLOUD_SDK_SK", "demo-operator-secret-key")][..],
        &[("HUAWEICLOUD_SDK_IDP_ID", "demo-provider"), ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", federated.as_str())],
        &[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", profile.as_str())],
        // The machine's.
        &[],
    ] {
        let plan = variables.iter().fold(cloud.gateway("auto"), |plan, (name, value)| plan.variable(name, *value));
        attach(&plan.start().await).await.unwrap();
    }
}
