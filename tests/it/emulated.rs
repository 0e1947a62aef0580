//! Each kind of credential against the emulator, which has read the cloud's documents by itself.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use apig_grpc_gateway::emulator::{Emulator, World};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request};

use crate::support::{Caller, Failed, Gateway, Plan, documented, failed, soon};

/// A running emulator of the documented world.
pub(crate) struct Emulated {
    address: SocketAddr,
    _running: AbortOnDropHandle<()>,
}

impl Emulated {
    /// Tokens and temporary keys live for so long.
    pub(crate) async fn with_life(life: Duration) -> Self {
        Self::playing(World::documented(), |emulator| emulator.with_life(life)).await
    }

    /// A cloud of another world, or made up otherwise.
    async fn playing(world: World, made_up: impl FnOnce(Emulator) -> Emulator) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let emulator = made_up(Emulator::bind(any_port, world).await.unwrap());
        let address = emulator.local_addr();
        let running = tokio::spawn(emulator.run(std::future::pending()));
        Self { address, _running: AbortOnDropHandle::new(running) }
    }

    /// Has a part fail from now on.
    async fn outage(&self, part: &str, outage: &'static str) {
        let url = format!("{}/emulator/outages/{part}", self.url());
        assert_eq!(soon(reqwest::Client::new().put(url).body(outage).send()).await.unwrap().status(), 204);
    }

    /// Mends a part.
    async fn mended(&self, part: &str) {
        let url = format!("{}/emulator/outages/{part}", self.url());
        assert_eq!(soon(reqwest::Client::new().delete(url).send()).await.unwrap().status(), 204);
    }

    /// Ends what was issued.
    async fn revoke(&self) {
        let url = format!("{}/emulator/revoke", self.url());
        assert_eq!(soon(reqwest::Client::new().post(url).send()).await.unwrap().status(), 204);
    }

    /// A gateway that has the operator's password, or this one.
    fn with_password(&self, password: &str) -> Plan {
        let plan = self.gateway("password").with("user-name", "operator").with("account-name", "demo-account");
        plan.with("password", password)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A gateway with this kind of credentials.
    pub(crate) fn gateway(&self, kind: &str) -> Plan {
        Gateway::facing(self.address)
            .with("credentials", kind)
            .with("iam-endpoint", self.url())
            .with("sts-endpoint", self.url())
            .with("metadata-endpoint", self.url())
            .with("project-name", "cn-north-4")
    }
}

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn attach(gateway: &Gateway) -> Result<(), Failed> {
    attach_by(&gateway.caller().await).await
}

async fn attach_by(caller: &Caller) -> Result<(), Failed> {
    let mut request = documented();
    // Found by its name, with the same credential.
    request.project_id.clear();
    let result = caller.send(Request::new(request)).await;
    result.map(drop).map_err(|status| failed::<()>(Err(status)))
}

/// Waits until calls succeed.
async fn recovered(gateway: &Gateway) {
    let caller = gateway.caller().await;
    soon(async { while attach_by(&caller).await.is_err() {} }).await;
}

/// A file that holds this, for as long as the folder lives.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

const PASSWORD: &str = "demo-operator-password";

#[tokio::test]
async fn a_password() {
    let cloud = Emulated::with_life(DAY).await;
    attach(&cloud.with_password(PASSWORD).start().await).await.unwrap();
    let wrong = attach(&cloud.with_password("wrong").start().await).await.unwrap_err();
    assert_eq!(wrong.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
}

#[tokio::test]
async fn a_wrong_password_does_not_lock_the_account_however_many_calls_there_are() {
    let cloud = Emulated::with_life(DAY).await;
    let gateway = cloud.with_password("wrong").start().await;
    for _ in 0..20 {
        assert_eq!(attach(&gateway).await.unwrap_err().verdict().1, "CREDENTIALS_REFUSED");
    }
    attach(&cloud.with_password(PASSWORD).start().await).await.unwrap();
}

#[tokio::test]
async fn a_token_that_was_revoked() {
    let cloud = Emulated::with_life(DAY).await;
    let gateway = cloud.with_password(PASSWORD).start().await;
    attach(&gateway).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    cloud.revoke().await;
    attach(&gateway).await.unwrap();
}

#[tokio::test]
async fn an_outage_of_iam_is_not_noticed_while_a_token_lives() {
    let cloud = Emulated::with_life(DAY).await;
    let gateway = cloud.with_password(PASSWORD).start().await;
    attach(&gateway).await.unwrap();
    cloud.outage("iam", r#"{"status": 503}"#).await;
    attach(&gateway).await.unwrap();
}

#[tokio::test]
async fn an_outage_of_iam_at_the_start_passes() {
    let cloud = Emulated::with_life(DAY).await;
    cloud.outage("iam", r#"{"status": 429}"#).await;
    let gateway = cloud.with_password(PASSWORD).start().await;
    assert_eq!(attach(&gateway).await.unwrap_err().verdict(), (Code::Unavailable, "CREDENTIALS_UNAVAILABLE"));
    cloud.mended("iam").await;
    recovered(&gateway).await;
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
async fn a_metadata_service_without_the_token_step() {
    let world = include_str!("../../src/emulator/world.toml");
    let world = world.replace("kind = \"machine\"", "kind = \"machine\"\nhas_token_step = false");
    let cloud = Emulated::playing(World::from_toml(&world).unwrap(), |emulator| emulator).await;
    attach(&cloud.gateway("metadata").start().await).await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_an_hour_behind_is_named() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let ahead = |emulator: Emulator| emulator.with_clock(|| SystemTime::now() + HOUR);
    let cloud = Emulated::playing(World::documented(), ahead).await;
    let plan = cloud.gateway("aksk").with("access-key-id", "DEMOOPERATORKEY00001");
    let gateway = plan.with("secret-access-key", "demo-operator-secret-key").start().await;
    let failure = failed(gateway.caller().await.send(Request::new(documented())).await);
    assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert!(failure.status.message().contains("behind the cloud's"), "{:?}", failure.status);
    let skew: i64 = failure.fact("clock_skew").unwrap().strip_suffix('s').unwrap().parse().unwrap();
    assert!((-3_700..-3_500).contains(&skew), "{skew}");
}

#[tokio::test]
async fn keys_that_were_revoked_fail_a_call_and_are_replaced() {
    let cloud = Emulated::with_life(DAY).await;
    let gateway = cloud.gateway("metadata").start().await;
    attach(&gateway).await.unwrap();
    cloud.revoke().await;
    // A refused signature is never repeated.
    assert_eq!(attach(&gateway).await.unwrap_err().verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    recovered(&gateway).await;
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
