//! Gauges that count values while they live.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

use super::Shared;

/// One more in a gauge for as long as it lives.
pub(super) struct Counted<F: Fn(&Shared) -> &Gauge> {
    shared: Arc<Shared>,
    gauge: F,
}

impl<F: Fn(&Shared) -> &Gauge> Counted<F> {
    pub(super) fn new(shared: Arc<Shared>, gauge: F) -> Self {
        gauge(&shared).inc();
        Self { shared, gauge }
    }
}

impl<F: Fn(&Shared) -> &Gauge> Drop for Counted<F> {
    fn drop(&mut self) {
        (self.gauge)(&self.shared).dec();
    }
}
