//! The server: builds the components from the settings, binds the ports, runs the workers and drains them.

mod acceptor;
mod admin;
mod authority;
pub(crate) mod codec;
mod connection;
mod counted;
mod eviction;
mod health;
mod inbound;
mod inherited;
mod listener;
mod metadata;
mod recent;
mod record;
mod reflection;
mod request_body;
mod shared;
mod stream;
mod worker;

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

pub(crate) use self::authority::{Frames, MAX_BLOCK};
pub(crate) use self::connection::Limits;
pub(crate) use self::inbound::read_message;
pub(crate) use self::listener::{Access, Owner, Socket};
pub(crate) use self::shared::Shared;
use self::{
    acceptor::Acceptor,
    admin::{Console, Facts},
    inbound::Inbound,
    worker::Worker,
};
pub use self::{inherited::Sockets, listener::Address};
use crate::{
    audit::{Audit, Destination},
    build_info,
    cloud::{self, Client},
    credentials::{self, Credentials, Project},
    log::AccessLog,
    policy::Policy,
    service::{self, Certificates},
    telemetry::{self, Metrics},
    tls::{self, Tls},
    trace::{self, Exports, Tracer},
    upstream::{self, Upstream},
};

/// Bounds of the time for the last spans after the drain, which has as much as the drain left.
const SHORTEST_LAST_EXPORT: Duration = Duration::from_millis(200);
const LONGEST_LAST_EXPORT: Duration = Duration::from_secs(2);

/// The settings of the server and its components.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) upstream: upstream::Settings,
    pub(crate) credentials: credentials::Settings,
    pub(crate) project: credentials::ProjectSettings,
    pub(crate) listen: Address,
    /// The mode of a Unix socket.
    pub(crate) listen_access: Access,
    /// `None`: plain text.
    pub(crate) tls: Option<(tls::Settings, tls::Loaded)>,
    pub(crate) policy: Policy,
    /// `None`: no admin port.
    pub(crate) admin_listen: Option<String>,
    pub(crate) connection: Limits,
    pub(crate) access_log: AccessLog,
    pub(crate) audit: Option<Destination>,
    pub(crate) workers: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_concurrency: usize,
    pub(crate) max_message_size: usize,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) cloud: cloud::Settings,
    pub(crate) timeout: Duration,
    pub(crate) drain_delay: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) require_instance_ids: bool,
    /// The kind of credentials, as the setting names it.
    pub(crate) credentials_kind: &'static str,
    /// The configuration as `check` shows it: without secrets.
    pub(crate) description: String,
    /// `None`: no traces.
    pub(crate) traces: Option<trace::Settings>,
    /// Variables that are ignored.
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// The same with another timeout for handshakes: for tests, since it is no setting.
    #[doc(hidden)]
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.connection.handshake_timeout = timeout;
        self
    }
}

/// A server with bound ports that is not running yet.
#[derive(Debug)]
pub struct Server {
    admin: Option<TcpListener>,
    address: Address,
    acceptor: Acceptor,
    workers: Vec<Worker>,
    health: HealthReporter,
    credentials: Arc<Credentials>,
    console: Arc<Console>,
    shared: Arc<Shared>,
    exports: Option<Exports>,
    /// The longest drain.
    drain: Duration,
    /// Reloads the TLS files of the upstream.
    _upstream_tls: Option<AbortOnDropHandle<()>>,
}

/// An error that keeps the server from starting.
#[derive(Debug)]
pub enum StartError {
    /// An address can't be listened on.
    Listen {
        /// The address.
        address: String,
        /// The cause.
        cause: io::Error,
    },
    /// The client for the upstream can't be set up.
    Upstream(String),
    /// The client for the collector of traces can't be set up.
    Traces(String),
    /// The audit log can't be opened.
    Audit(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, cause } => write!(f, "can't listen on {address}: {cause}"),
            Self::Audit(cause) => write!(f, "can't open the audit log: {cause}"),
            Self::Traces(cause) => write!(f, "can't set up the client for the collector of traces: {cause}"),
            Self::Upstream(cause) => write!(f, "can't set up the client for the upstream: {cause}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Server {
    /// Binds the ports. No connection is accepted before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// A port is in use, a socket can't be created, or the upstream's TLS configuration is invalid.
    pub async fn bind(settings: Settings) -> Result<Self, StartError> {
        Self::on(Sockets::default(), settings).await
    }

    /// The same on sockets that are bound already; binds those that are missing.
    ///
    /// # Errors
    ///
    /// As of [`bind`](Self::bind).
    pub async fn on(sockets: Sockets, settings: Settings) -> Result<Self, StartError> {
        telemetry::started();
        log_start(&settings);
        let metrics = Arc::new(Metrics::default());
        let socket = match sockets.grpc {
            Some(socket) => socket,
            None => Socket::open(&settings.listen, settings.listen_access)
                .await
                .map_err(|cause| StartError::Listen { address: settings.listen.to_string(), cause })?,
        };
        let address = socket.address();
        let admin = match (sockets.admin, &settings.admin_listen) {
            (_, None) => None,
            (Some(socket), Some(address)) => Some((TcpListener::from_std(socket), address)),
            (None, Some(address)) => Some((listener::bind(address).await, address)),
        };
        let admin = admin.map(|(listener, address)| {
            listener.map_err(|cause| StartError::Listen { address: address.clone(), cause })
        });
        let admin = admin.transpose()?;
        let audit = settings.audit.clone().map(|destination| Audit::open(destination, Arc::clone(&metrics)));
        let audit = audit.transpose().map_err(StartError::Audit)?;
        for warning in &settings.warnings {
            warn!("{warning}");
        }
        let started = settings.traces.as_ref().map(|traces| Tracer::start(traces, &metrics)).transpose();
        let (tracer, exports) = started.map_err(StartError::Traces)?.unzip();
        let shared = Arc::new(Shared::new(metrics, audit, tracer, &settings));
        let pool = || Upstream::new(&settings.upstream, Arc::clone(&shared.metrics)).map_err(StartError::Upstream);
        let credentials = Credentials::start(settings.credentials.clone(), &shared.metrics);
        let credentials = Arc::new(credentials.map_err(StartError::Upstream)?);
        let project = Project::start(&settings.project, &credentials, &shared.metrics).map_err(StartError::Upstream)?;
        let metrics = Arc::clone(&shared.metrics);
        let cloud =
            Client::new(pool()?, Arc::clone(&credentials), project, settings.cloud, shared.draining.clone(), metrics);
        let health = HealthReporter::new();
        let tls = settings
            .tls
            .clone()
            .map(|(files, loaded)| Arc::new(Tls::start(files, loaded, Arc::clone(&shared.metrics))));
        let routes = routes(&health);
        let mut acceptor = Acceptor::new(socket, &settings, Arc::clone(&shared));
        let worker = |_| {
            let (policy, metrics) = (settings.policy.clone(), Arc::clone(&shared.metrics));
            let service = Certificates::new(cloud.with_pool(pool()?), policy, settings.require_instance_ids, metrics);
            // No compression in tonic: it reads messages that are complete and decompressed already.
            let service = service::Server::new(service).max_decoding_message_size(settings.max_message_size);
            let inbound = Inbound::new(service, routes.clone(), Arc::clone(&shared));
            Ok(Worker::new(acceptor.add_worker(), inbound, tls.clone(), &settings, Arc::clone(&shared)))
        };
        let workers = (0..settings.workers).map(worker).collect::<Result<_, _>>()?;
        let facts = Facts::of(&settings, &address);
        let console = Arc::new(Console::new(facts, cloud.clone(), Arc::clone(&shared)));
        let upstream_tls = settings.upstream.tls.as_ref().and_then(|files| files.follow(&shared.metrics));
        let drain = settings.drain_delay + settings.drain_timeout;
        Ok(Self {
            admin,
            address,
            acceptor,
            workers,
            health,
            credentials,
            console,
            shared,
            exports,
            drain,
            _upstream_tls: upstream_tls,
        })
    }

    /// The address of the gRPC port.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// The address of the admin port.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown` resolves, then drains: readiness fails first, then new connections are refused, then the
    /// calls in progress end.
    ///
    /// # Errors
    ///
    /// A worker can't be started.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let admin_address = self.admin_address();
        let _admin = self.admin.take().map(|listener| admin::serve(listener, Arc::clone(&self.console)));
        let Self { address, acceptor, workers, health, credentials, console, shared, exports, drain, .. } = self;
        let acceptor = acceptor.listen()?;
        // The first worker runs on the current thread, as the acceptor does.
        let mut workers = workers.into_iter();
        let local = workers.next();
        let threads = workers.enumerate().map(|(at, worker)| worker.spawn(at + 1)).collect::<io::Result<Vec<_>>>()?;
        // Alive, but not ready before the credentials are.
        report(&health, ServingStatus::NotServing).await;
        info!(%address, admin = admin_address.map(tracing::field::display), "serving");
        let Facts { upstream, proxy, api_family, .. } = console.facts();
        info!(upstream, proxy, api_family, "sending");

        let stop = async {
            let ready = async {
                credentials.ready().await;
                report(&health, ServingStatus::Serving).await;
                shared.ready.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = shutdown => {}
                () = ready => {}
            }
            let stopped = Instant::now();
            shared.draining.cancel();
            report(&health, ServingStatus::NotServing).await;
            stopped
        };
        let work = async {
            if let Some(local) = local {
                local.run().await;
            }
            for thread in threads {
                thread.ended().await;
            }
        };
        let (stopped, ..) = tokio::join!(stop, acceptor.run(), work);
        if let Some(exports) = exports {
            let left = drain.saturating_sub(stopped.elapsed());
            exports.finish(left.clamp(SHORTEST_LAST_EXPORT, LONGEST_LAST_EXPORT)).await;
        }
        info!("drained");
        Ok(())
    }
}

/// The first of the three lines of a start: the program and its limits. The other two have its addresses.
fn log_start(settings: &Settings) {
    info!(
        version = build_info::VERSION,
        commit = build_info::COMMIT.unwrap_or("unknown"),
        credentials = settings.credentials_kind,
        workers = settings.workers,
        max_concurrency = settings.max_concurrency,
        max_connections = settings.max_connections,
        max_buffered_bytes = settings.max_buffered_bytes,
        max_requests_per_second = settings.cloud.max_requests_per_second,
        timeout = ?settings.timeout,
        "starting"
    );
}

/// Sets the readiness of all services. Liveness stays up during a drain: a restart would abort the calls in progress.
async fn report(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("liveness", ServingStatus::Serving).await;
    for service in ["", service::NAME, "readiness"] {
        health.set_service_status(service, status).await;
    }
}

/// Health and reflection.
fn routes(health: &HealthReporter) -> Routes {
    let health = health::Service::of(health.clone()).max_decoding_message_size(stream::MAX_MESSAGE);
    Routes::new(health).add_service(reflection::v1()).add_service(reflection::v1alpha()).prepare()
}
