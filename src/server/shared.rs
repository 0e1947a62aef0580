//! The state of the whole process: metrics, limits, logs, and the way to its end.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Settings, eviction::Evictable, recent::Failures};
use crate::{
    admission::{self, Admission},
    audit::Audit,
    log::AccessLog,
    telemetry::{Abort, Metrics},
    trace::Tracer,
};

/// Concurrent handshakes in the whole process. Each may buffer a TLS record of 16 KiB.
const MAX_HANDSHAKES: usize = 256;

/// The age before which a handshake is not evicted for a new connection: some round trips of a distant caller.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(50);

/// The state shared by all connections and calls.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) metrics: Arc<Metrics>,
    pub(super) access_log: AccessLog,
    pub(super) audit: Option<Audit>,
    /// The last calls that failed.
    pub(super) failures: Failures,
    /// `None`: no traces.
    pub(super) tracer: Option<Tracer>,
    /// Memory, permits and shares of all calls.
    pub(super) admission: Arc<Admission>,
    /// A permit for each connection that has completed its handshake, in the whole process.
    pub(super) connections: Semaphore,
    /// Connections in their handshake.
    pub(super) handshakes: Arc<Evictable>,
    pub(super) max_message_size: usize,
    pub(super) timeout: Duration,
    /// Cancelled when the gateway is ready to serve calls.
    pub(super) ready: CancellationToken,
    pub(super) draining: CancellationToken,
    /// Cancelled when the drain timeout has passed: calls in progress are aborted.
    pub(super) expired: CancellationToken,
}

impl Shared {
    /// Calls in progress, without the streams of health and reflection.
    pub(super) fn calls_in_progress(&self) -> usize {
        self.admission.started()
    }

    /// Whether new calls are wanted.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_cancelled() && !self.draining.is_cancelled()
    }

    pub(super) fn new(
        metrics: Arc<Metrics>,
        audit: Option<Audit>,
        tracer: Option<Tracer>,
        settings: &Settings,
    ) -> Self {
        let limits =
            admission::Limits::new(settings.max_concurrency, settings.max_buffered_bytes, settings.max_message_size);
        Self {
            access_log: settings.access_log,
            audit,
            failures: Failures::default(),
            tracer,
            admission: Arc::new(Admission::new(limits)),
            connections: Semaphore::new(settings.max_connections),
            handshakes: Arc::new(handshakes(&metrics)),
            max_message_size: limits.message,
            timeout: settings.timeout,
            ready: CancellationToken::new(),
            draining: CancellationToken::new(),
            expired: CancellationToken::new(),
            metrics,
        }
    }
}

/// The bounded set of connections in their handshake. It leaves most file descriptors to other uses.
fn handshakes(metrics: &Metrics) -> Evictable {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let descriptors = descriptors.and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX);
    let limit = MAX_HANDSHAKES.min(descriptors / 4).max(1);
    Evictable::new(limit, HANDSHAKE_GRACE, metrics.handshakes_aborted(Abort::Evicted))
}
