//! A gateway in this process, as a configuration would make it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use apig_grpc_gateway::{
    config::{Config, Sources},
    server::{Address, Server},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{Caller, soon};

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) address: Address,
    pub(crate) admin: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<std::io::Result<()>>,
}

/// A gateway to be.
#[derive(Debug)]
pub(crate) struct Plan {
    flags: BTreeMap<&'static str, String>,
    variables: BTreeMap<String, String>,
    file: Option<String>,
    handshake_timeout: Option<Duration>,
}

impl Gateway {
    /// A gateway with its upstream at this address. Unknown outcomes are not looked up, so that tests count the requests of
    /// their calls alone; `it::read_back` is about look-ups.
    pub(crate) fn facing(upstream: SocketAddr) -> Plan {
        let flags = BTreeMap::from([
            ("upstream", format!("http://{upstream}")),
            ("listen", "127.0.0.1:0".into()),
            ("admin-listen", "127.0.0.1:0".into()),
            ("read-back", "false".into()),
        ]);
        Plan { flags, variables: BTreeMap::new(), file: None, handshake_timeout: None }
    }

    /// A caller with a token, on a connection of its own.
    pub(crate) async fn caller(&self) -> Caller {
        Caller::on(self.channel().await)
    }

    /// A connection to the gateway.
    pub(crate) async fn channel(&self) -> Channel {
        let uri = match &self.address {
            Address::Tcp(address) => format!("http://{address}"),
            unix @ Address::Unix(_) => unix.to_string(),
        };
        soon(Endpoint::from_shared(uri).unwrap().connect()).await.unwrap()
    }

    /// Asks the gateway to drain.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the gateway has drained.
    pub(crate) async fn drained(&mut self) {
        soon(&mut self.running).await.unwrap().unwrap();
    }

    /// Waits until the metrics have a line, or a part of one.
    pub(crate) async fn shows(&self, line: &str) {
        soon(async {
            while !self.admin("/metrics").await.1.contains(line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Queries the admin port.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        soon(testkit::admin::page(self.admin, path)).await.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Plan {
    /// Sets a setting, by its flag.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.flags.insert(key, value.into());
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Gives it a configuration file.
    pub(crate) fn file(mut self, text: impl Into<String>) -> Self {
        self.file = Some(text.into());
        self
    }

    /// Sets the timeout for handshakes, which is no setting.
    pub(crate) fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = Some(timeout);
        self
    }

    /// Starts it.
    pub(crate) async fn start(self) -> Gateway {
        let lookup = |name: &str| self.variables.get(name).cloned();
        let sources = Sources { flags: self.flags, environment: Some(&lookup), file: self.file, ..Sources::default() };
        let config = Config::load(sources).unwrap();
        let settings = match self.handshake_timeout {
            Some(timeout) => config.gateway.with_handshake_timeout(timeout),
            None => config.gateway,
        };
        let server = Server::bind(settings).await.unwrap();
        let (address, admin) = (server.address(), server.admin_address().unwrap());
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone().cancelled_owned()));
        Gateway { address, admin, stop, running }
    }
}
