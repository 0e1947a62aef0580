//! The state of circuit, retry budget and rate limiter at one moment, for metrics and for the admin port.

use std::time::Duration;

use tokio::time::Instant;

use super::{Client, breaker::Circuit, rate_limit::Usage, retry::Budget};

/// The state that all calls to the cloud share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vitals {
    pub(crate) circuit: Circuit,
    /// The time until a probe may start, while the circuit is not closed.
    pub(crate) probe_in: Option<Duration>,
    pub(crate) retry_budget: f64,
    pub(crate) retry_budget_limit: f64,
    /// `None`: there is no limit.
    pub(crate) rate_limit: Option<Usage>,
}

impl Client {
    /// The state at this moment.
    pub(crate) fn vitals(&self) -> Vitals {
        let now = Instant::now();
        let (circuit, probe_in) = self.breaker.circuit(now);
        Vitals {
            circuit,
            probe_in,
            retry_budget: self.budget.amount(now),
            retry_budget_limit: Budget::MOST,
            rate_limit: self.rate_limiter.as_ref().map(|limiter| limiter.usage()),
        }
    }
}
