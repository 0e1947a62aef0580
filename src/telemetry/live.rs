//! Metrics of state that exists anyway: they are set when the metrics are read, so that calls do not pay for them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    labels::{BuildLabels, RateLimitLabels},
    process::Figures,
    table::register,
};
use crate::build_info;

type Float = Gauge<f64, AtomicU64>;
type FloatCounter = Counter<f64, AtomicU64>;

/// The state of the gateway at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshot {
    pub(crate) is_ready: bool,
    pub(crate) is_draining: bool,
    pub(crate) handshakes: usize,
    /// Connections with a call or a stream.
    pub(crate) active_connections: usize,
    pub(crate) max_connections: usize,
    pub(crate) buffered_bytes: usize,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) permits: usize,
    pub(crate) max_permits: usize,
    pub(crate) retry_budget: f64,
    pub(crate) retry_budget_limit: f64,
    /// Requests that wait for a slot of the rate limit.
    pub(crate) rate_limit_waiting: usize,
    pub(crate) rate_limit_delayed: u64,
    pub(crate) rate_limit_rejected: u64,
    pub(crate) rate_limit_delay: Duration,
}

/// The metrics that are made of a [`Snapshot`].
#[derive(Debug, Default)]
pub(super) struct Live {
    build: Family<BuildLabels, Gauge>,
    ready: Gauge,
    draining: Gauge,
    handshakes: Gauge,
    active_connections: Gauge,
    max_connections: Gauge,
    buffered_bytes: Gauge,
    max_buffered_bytes: Gauge,
    permits: Gauge,
    max_permits: Gauge,
    retry_budget: Float,
    retry_budget_limit: Float,
    rate_limit_waiting: Gauge,
    rate_limited: Family<RateLimitLabels, Counter>,
    rate_limit_delay: FloatCounter,
    resident_bytes: Gauge,
    cpu_seconds: FloatCounter,
    open_files: Gauge,
    max_files: Gauge,
    start_seconds: Float,
}

impl Live {
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, "apig_gateway_build_info", self.build.clone());
        register(registry, "apig_gateway_ready", self.ready.clone());
        register(registry, "apig_gateway_draining", self.draining.clone());
        register(registry, "apig_gateway_connections_in_handshake", self.handshakes.clone());
        register(registry, "apig_gateway_connections_active", self.active_connections.clone());
        register(registry, "apig_gateway_connections_limit", self.max_connections.clone());
        register(registry, "apig_gateway_buffered", self.buffered_bytes.clone());
        register(registry, "apig_gateway_buffered_limit", self.max_buffered_bytes.clone());
        register(registry, "apig_gateway_concurrency_permits", self.permits.clone());
        register(registry, "apig_gateway_concurrency_permits_limit", self.max_permits.clone());
        register(registry, "apig_gateway_retry_budget", self.retry_budget.clone());
        register(registry, "apig_gateway_retry_budget_limit", self.retry_budget_limit.clone());
        register(registry, "apig_gateway_rate_limit_waiting", self.rate_limit_waiting.clone());
        register(registry, "apig_gateway_rate_limited", self.rate_limited.clone());
        register(registry, "apig_gateway_rate_limit_delay", self.rate_limit_delay.clone());
        register(registry, "process_resident_memory", self.resident_bytes.clone());
        register(registry, "process_cpu", self.cpu_seconds.clone());
        register(registry, "process_open_fds", self.open_files.clone());
        register(registry, "process_max_fds", self.max_files.clone());
        register(registry, "process_start_time", self.start_seconds.clone());
        let build = BuildLabels {
            version: build_info::VERSION,
            commit: build_info::COMMIT.unwrap_or("unknown"),
            rustc: build_info::RUSTC,
        };
        self.build.get_or_create(&build).set(1);
    }

    pub(super) fn set(&self, snapshot: &Snapshot) {
        self.ready.set(snapshot.is_ready.into());
        self.draining.set(snapshot.is_draining.into());
        self.handshakes.set(signed(snapshot.handshakes));
        self.active_connections.set(signed(snapshot.active_connections));
        self.max_connections.set(signed(snapshot.max_connections));
        self.buffered_bytes.set(signed(snapshot.buffered_bytes));
        self.max_buffered_bytes.set(signed(snapshot.max_buffered_bytes));
        self.permits.set(signed(snapshot.permits));
        self.max_permits.set(signed(snapshot.max_permits));
        self.retry_budget.set(snapshot.retry_budget);
        self.retry_budget_limit.set(snapshot.retry_budget_limit);
        self.rate_limit_waiting.set(signed(snapshot.rate_limit_waiting));
        for (result, count) in [("delayed", snapshot.rate_limit_delayed), ("rejected", snapshot.rate_limit_rejected)] {
            self.rate_limited.get_or_create(&RateLimitLabels { result }).inner().store(count, Ordering::Relaxed);
        }
        store(&self.rate_limit_delay, snapshot.rate_limit_delay.as_secs_f64());
        let process = Figures::now();
        self.resident_bytes.set(signed(process.resident_bytes));
        store(&self.cpu_seconds, process.cpu_seconds);
        self.open_files.set(signed(process.open_files));
        self.max_files.set(signed(process.max_files));
        self.start_seconds.set(process.start_seconds);
    }
}

fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn store(counter: &FloatCounter, value: f64) {
    counter.inner().store(value.to_bits(), Ordering::Relaxed);
}
