//! The commands for the certificate family, run as processes before a gateway and an emulated cloud.

mod bulk;
mod family;
mod mistakes;
mod rotate;
mod shell;

use std::{collections::BTreeMap, net::SocketAddr};

use emulator::{Emulator, World};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Gateway, Plan, Program};

pub(crate) const PROJECT: &str = "73d69ae0cfcf460190522d06b60f05ad";
pub(crate) const TOKEN: &str = "demo-operator-token";

/// The certificate of the documented example, one with a CA, and one for the second instance alone.
pub(crate) const CERTIFICATE: &str = "a27be832f2e9441c8127fe48e3b5ac67";
pub(crate) const WITH_CA: &str = "1b6f0d83c9a24e57b8d1f4a6e02c7359";
pub(crate) const INSTANCES: [&str; 2] = ["f0fa1789-3b76-433b-a787-9892951c620e", "7d39549681c54d968ec2910da9da95cd"];

/// An emulated cloud, and a gateway before it.
pub(crate) struct Desk {
    pub(crate) cloud: SocketAddr,
    pub(crate) gateway: Gateway,
    pub(crate) target: String,
    _emulator: AbortOnDropHandle<()>,
}

/// The end of a command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The JSON that it printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

impl Desk {
    /// The documented world.
    pub(crate) async fn new() -> Self {
        Self::of(World::documented(), |emulator| emulator, |plan| plan).await
    }

    pub(crate) async fn of(
        world: World,
        emulated: impl FnOnce(Emulator) -> Emulator,
        planned: impl FnOnce(Plan) -> Plan,
    ) -> Self {
        let emulator = emulated(Emulator::bind("127.0.0.1:0".parse().unwrap(), world).await.unwrap());
        let cloud = emulator.local_addr();
        let emulator = AbortOnDropHandle::new(tokio::spawn(emulator.run(std::future::pending())));
        let gateway = planned(Gateway::facing(cloud).with("project-id", PROJECT)).start().await;
        let target = format!("http://{}", gateway.address);
        Self { cloud, gateway, target, _emulator: emulator }
    }

    /// The environment of every command.
    pub(crate) fn variables(&self) -> [(&str, &str); 2] {
        [("APIG_GATEWAY_TARGET", &self.target), ("APIG_GATEWAY_TOKEN", TOKEN)]
    }

    /// Runs a command.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        let ended = Program::run(arguments, &self.variables()).await;
        Ended { code: ended.code, out: ended.out, err: ended.err }
    }

    /// Runs a command, and returns the JSON that it prints.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--output", "json"]].concat()).await.succeeded().json()
    }

    /// The bindings of a certificate: client verification by domain and instance.
    pub(crate) async fn bindings(&self, certificate: &str) -> BTreeMap<(String, String), bool> {
        let list = self.json(&["attached", "--certificate-id", certificate, "--all"]).await;
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        let binding = |row: &Value| {
            let verifies = row["verifiedClientCertificateEnabled"].as_bool().unwrap();
            ((text(row, "urlDomain"), text(row, "instanceId")), verifies)
        };
        list["boundDomains"].as_array().unwrap().iter().map(binding).collect()
    }
}

/// A file in a folder of its own, which lives as long as the value.
pub(crate) struct File {
    _folder: tempfile::TempDir,
    pub(crate) path: String,
}

impl File {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Self { path: path.to_str().unwrap().to_owned(), _folder: folder }
    }
}
