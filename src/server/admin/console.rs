//! The state that the admin port shows: fixed facts of the configuration, and snapshots of the rest.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::super::{
    Address, Settings, Shared,
    recent::{Counts, Failure, Samples},
};
use crate::{
    admission,
    cloud::{Client, Usage, Vitals},
    telemetry::{Metrics, Snapshot},
};

/// Facts that do not change while the program runs. None of them is a secret.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The configuration as `check` shows it.
    pub(crate) description: String,
    pub(crate) credentials: &'static str,
    /// The gRPC port.
    pub(crate) listen: String,
    /// The base URL of the cloud's API, which has no user in it.
    pub(crate) upstream: String,
    /// The URL of the proxy, without its user.
    pub(crate) proxy: Option<String>,
    pub(crate) api_family: &'static str,
    pub(crate) timeout: Duration,
    max_connections: usize,
}

impl Facts {
    pub(crate) fn of(settings: &Settings, listen: &Address) -> Self {
        Self {
            description: settings.description.clone(),
            credentials: settings.credentials_kind,
            listen: listen.to_string(),
            upstream: settings.upstream.base.to_string(),
            proxy: settings.upstream.proxy.as_ref().map(|proxy| proxy.url().to_string()),
            api_family: settings.cloud.family,
            timeout: settings.timeout,
            max_connections: settings.max_connections,
        }
    }
}

/// All that the admin port shows.
#[derive(Debug)]
pub(crate) struct Console {
    facts: Facts,
    cloud: Client,
    shared: Arc<Shared>,
    samples: Samples,
}

/// The state at one moment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) snapshot: Snapshot,
    pub(super) admission: admission::Usage,
    pub(super) cloud: Vitals,
    pub(super) ended: Counts,
    /// The age of the oldest sample, and the counts of that time.
    pub(super) sample: Option<(Duration, Counts)>,
    /// Newest first.
    pub(super) failures: Vec<Failure>,
}

impl Console {
    pub(crate) fn new(facts: Facts, cloud: Client, shared: Arc<Shared>) -> Self {
        Self { facts, cloud, shared, samples: Samples::default() }
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(super) fn vitals(&self) -> Vitals {
        self.cloud.vitals()
    }

    /// Takes a sample of the counters.
    pub(super) fn sample(&self) {
        self.samples.take(Instant::now(), &self.metrics().ended());
    }

    /// The state of this moment.
    pub(super) fn state(&self) -> State {
        let shared = &self.shared;
        let (admission, cloud) = (shared.admission.usage(), self.vitals());
        let Usage { waiting, totals, .. } = cloud.rate_limit.unwrap_or_default();
        let snapshot = Snapshot {
            is_ready: shared.is_ready(),
            is_draining: shared.draining.is_cancelled(),
            handshakes: shared.handshakes.len(),
            active_connections: admission.active,
            max_connections: self.facts.max_connections,
            buffered_bytes: admission.memory,
            max_buffered_bytes: admission.limits.memory,
            permits: admission.running,
            max_permits: admission.limits.concurrency,
            retry_budget: cloud.retry_budget,
            retry_budget_limit: cloud.retry_budget_limit,
            rate_limit_waiting: waiting,
            rate_limit_delayed: totals.delayed,
            rate_limit_rejected: totals.rejected,
            rate_limit_delay: totals.delay,
        };
        State {
            snapshot,
            admission,
            cloud,
            ended: self.metrics().ended(),
            sample: self.samples.oldest(Instant::now()),
            failures: shared.failures.list(),
        }
    }

    /// The metrics as text.
    pub(super) fn metrics_text(&self) -> String {
        self.metrics().set(&self.state().snapshot);
        self.metrics().text()
    }
}
