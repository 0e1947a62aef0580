//! The gateway as a server: it puts the rooms together, listens, serves, and drains. The one place that assembles; it
//! knows no request and no answer.

mod admin;
mod connection;
mod inbound;
mod listener;
mod metered;

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

pub(crate) use self::connection::Limits;
pub use self::listener::Address;
use self::{inbound::Inbound, listener::Listener};
use crate::{
    cloud::{self, Client, Place},
    credentials::{self, Credentials},
    held::Buffers,
    http::{self, Upstream},
    pb::{
        self,
        certificate_service_server::{CertificateServiceServer, SERVICE_NAME},
    },
    policy::Policy,
    service::Certificates,
    telemetry::Metrics,
    tls::{self, Tls},
};

/// Calls that may have begun for each that may be in progress: without a message a call costs little.
const BEGUN_FOR_A_PLACE: usize = 16;

/// How long a drained gateway waits for peers to close: whoever understands GOAWAY needs a round trip.
const LINGER: Duration = Duration::from_secs(1);

/// Where and how to serve.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) upstream: http::Settings,
    pub(crate) credentials: credentials::Settings,
    pub(crate) place: Place,
    pub(crate) listen: Address,
    /// The mode of a Unix socket.
    pub(crate) listen_mode: u32,
    /// `None`: plain text.
    pub(crate) tls: Option<(tls::Settings, tls::Loaded)>,
    pub(crate) policy: Policy,
    /// `None`: no admin port.
    pub(crate) admin_listen: Option<String>,
    pub(crate) connection: Limits,
    pub(crate) max_connections: usize,
    pub(crate) max_concurrency: usize,
    pub(crate) max_message_size: usize,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) cloud: cloud::Settings,
    pub(crate) timeout: Duration,
    pub(crate) drain_delay: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) require_instance_ids: bool,
}

/// What every connection and every call shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) metrics: Arc<Metrics>,
    /// One place for each call whose message is there, in the whole process.
    places: Arc<Semaphore>,
    /// Calls that have begun, with or without their message.
    begun: Semaphore,
    max_concurrency: usize,
    max_message_size: usize,
    /// The memory that the messages of calls in progress hold.
    buffers: Arc<Buffers>,
    timeout: Duration,
    /// Whether new work is wanted: what readiness says.
    ready: CancellationToken,
    draining: CancellationToken,
    /// Time is up for calls in progress.
    expired: CancellationToken,
}

impl Shared {
    /// Calls that have begun and are not over.
    fn calls_in_progress(&self) -> usize {
        self.max_concurrency * BEGUN_FOR_A_PLACE - self.begun.available_permits()
    }

    fn new(metrics: Arc<Metrics>, settings: &Settings) -> Self {
        Self {
            metrics,
            places: Arc::new(Semaphore::new(settings.max_concurrency)),
            begun: Semaphore::new(settings.max_concurrency * BEGUN_FOR_A_PLACE),
            max_concurrency: settings.max_concurrency,
            max_message_size: settings.max_message_size,
            buffers: Arc::new(Buffers::new(settings.max_buffered_bytes)),
            timeout: settings.timeout,
            ready: CancellationToken::new(),
            draining: CancellationToken::new(),
            expired: CancellationToken::new(),
        }
    }
}

/// A gateway that listens and does not serve yet.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    listener: Listener,
    admin: Option<TcpListener>,
    inbound: Inbound,
    health: HealthReporter,
    tls: Option<Arc<Tls>>,
    shared: Arc<Shared>,
}

/// Why a server can't start.
#[derive(Debug)]
pub enum StartError {
    /// An address can't be listened on.
    Listen {
        /// The address.
        address: String,
        /// Why not.
        cause: io::Error,
    },
    /// The client for the upstream can't be set up.
    Upstream(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, cause } => write!(f, "can't listen on {address}: {cause}"),
            Self::Upstream(cause) => write!(f, "can't set up the client for the upstream: {cause}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Server {
    /// Opens the ports. Nothing is served before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// A port is taken, a socket can't be made, or the upstream's TLS set-up can't be used.
    pub async fn bind(settings: Settings) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::default());
        let upstream = Upstream::new(&settings.upstream, Arc::clone(&metrics)).map_err(StartError::Upstream)?;
        let listener = Listener::bind(&settings.listen, settings.listen_mode)
            .await
            .map_err(|cause| StartError::Listen { address: settings.listen.to_string(), cause })?;
        let admin = match &settings.admin_listen {
            None => None,
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|cause| StartError::Listen { address: address.clone(), cause })?,
            ),
        };
        let shared = Arc::new(Shared::new(metrics, &settings));
        let cloud = Client::new(
            upstream,
            Credentials::start(settings.credentials.clone()),
            settings.place.clone(),
            settings.cloud,
            Arc::clone(&shared.metrics),
        );
        let health = HealthReporter::new();
        let tls = settings
            .tls
            .clone()
            .map(|(files, loaded)| Arc::new(Tls::start(files, loaded, Arc::clone(&shared.metrics))));
        let policy = settings.policy.clone();
        let service = Certificates::new(cloud, policy, settings.require_instance_ids, Arc::clone(&shared.metrics));
        let inbound = Inbound::new(routes(service, &health, settings.max_message_size), Arc::clone(&shared));
        Ok(Self { settings, listener, admin, inbound, health, tls, shared })
    }

    /// The address of the gRPC port.
    pub fn address(&self) -> Address {
        self.listener.address()
    }

    /// The address of the admin port.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown` resolves, then drains: readiness goes, then new connections, then the calls in progress.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let admin_address = self.admin_address();
        let _admin = self.admin.take().map(|listener| admin::serve(listener, Arc::clone(&self.shared)));
        self.report(ServingStatus::Serving).await;
        self.shared.ready.cancel();
        info!(address = %self.address(), admin = admin_address.map(tracing::field::display), "serving");

        let mut connections = JoinSet::new();
        self.accept_until(shutdown, &mut connections).await;

        info!(delay = ?self.settings.drain_delay, timeout = ?self.settings.drain_timeout, "draining");
        self.shared.draining.cancel();
        self.report(ServingStatus::NotServing).await;
        self.accept_until(tokio::time::sleep(self.settings.drain_delay), &mut connections).await;

        let Self { settings, listener, inbound, shared, .. } = self;
        drop(listener);
        inbound.closing().cancel();
        drain(connections, &shared, settings.drain_timeout).await;
        info!("drained");
    }

    /// Liveness has no part in a drain: restarting a gateway that drains would cut its calls off.
    async fn report(&self, status: ServingStatus) {
        self.health.set_service_status("liveness", ServingStatus::Serving).await;
        for service in ["", SERVICE_NAME, "readiness"] {
            self.health.set_service_status(service, status).await;
        }
    }

    async fn accept_until(&self, end: impl Future<Output = ()>, connections: &mut JoinSet<()>) {
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok(_) if connections.len() >= self.settings.max_connections => {
                        self.shared.metrics.connections_refused.inc();
                    }
                    Ok((stream, peer)) => {
                        self.shared.metrics.connections_accepted.inc();
                        let inbound = self.inbound.clone();
                        let limits = self.settings.connection;
                        connections.spawn(connection::serve(stream, peer, self.tls.clone(), inbound, limits));
                    }
                    Err(fault) => {
                        warn!(%fault, "can't accept a connection");
                        // Out of file descriptors, most likely; they come back when connections end.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }
}

/// The service, health and reflection.
fn routes(service: Certificates, health: &HealthReporter, max_message_size: usize) -> Routes {
    let service = CertificateServiceServer::new(service)
        .max_decoding_message_size(max_message_size)
        .accept_compressed(CompressionEncoding::Gzip);
    let health_service = tonic_health::server::HealthService::from_health_reporter(health.clone());
    // Each of the two reflection services must know the other, or clients would see different lists.
    let reflection = |other| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that a client such as grpcurl can print the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(other)
    };
    let v1 = reflection(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET).build_v1();
    let v1alpha = reflection(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET).build_v1alpha();
    Routes::new(service)
        .add_service(tonic_health::pb::health_server::HealthServer::new(health_service))
        .add_service(v1.expect("descriptors are generated at build time"))
        .add_service(v1alpha.expect("descriptors are generated at build time"))
        .prepare()
}

/// Waits for the calls in progress and then for the connections, and ends both when time is up.
async fn drain(mut connections: JoinSet<()>, shared: &Shared, timeout: Duration) {
    let end = Instant::now() + timeout;
    let mut quiet_since = None;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !connections.is_empty() && Instant::now() < end {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            _ = look.tick() => {
                // Streams of health and reflection, and peers that never answer GOAWAY, are nobody's call.
                if shared.calls_in_progress() > 0 {
                    quiet_since = None;
                } else if quiet_since.get_or_insert_with(Instant::now).elapsed() >= LINGER {
                    break;
                }
            }
        }
    }
    let left = shared.calls_in_progress();
    if left > 0 {
        warn!(calls = left, "time is up for the calls in progress");
        shared.expired.cancel();
        let answered = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LINGER / 2, answered).await;
    }
}
