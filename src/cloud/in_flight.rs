//! One request on its way, until the head of its answer: when it left, and the report to the breaker, also when the call
//! ends first.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{debug, warn};

use super::{
    breaker::{Admission, Circuit},
    rate_limit::Slot,
};
use crate::{call::Progress, sync::Mutex, telemetry::Metrics, upstream::SendHook};

/// An unanswered request counts as a failure of the upstream once it has waited this long. Callers choose their deadlines,
/// so that a shorter wait says nothing.
const STALLED: Duration = Duration::from_secs(5);

/// Notes when a request leaves.
#[derive(Debug)]
pub(super) struct SendRecord {
    progress: Arc<Progress>,
    slot: Mutex<Option<Slot>>,
    sent_at: Mutex<Option<Instant>>,
}

impl SendRecord {
    pub(super) fn new(progress: &Arc<Progress>, slot: Option<Slot>) -> Arc<Self> {
        Arc::new(Self { progress: Arc::clone(progress), slot: Mutex::new(slot), sent_at: Mutex::new(None) })
    }
}

impl SendRecord {
    /// The time since the request left.
    fn sent_for(&self) -> Option<Duration> {
        self.sent_at.lock().unwrap_or_else(PoisonError::into_inner).map(|sent| sent.elapsed())
    }
}

impl SendHook for SendRecord {
    fn sent(&self) {
        {
            let mut sent_at = self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
            if sent_at.is_some() {
                return;
            }
            *sent_at = Some(Instant::now());
        }
        self.progress.sent();
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(slot) = slot {
            slot.sent(Instant::now());
        }
    }

    fn unsent(&self) {
        // A slot stays used: the rate counts times at which requests left, or nearly did.
        if self.sent_at.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            self.progress.unsent();
        }
    }
}

/// A request without an answer yet.
#[derive(Debug)]
pub(super) struct InFlight<'a> {
    /// `None` once the breaker has its report, and for a look-up, on which it gets none.
    admission: Option<Admission<'a>>,
    record: Arc<SendRecord>,
    metrics: &'a Metrics,
}

impl<'a> InFlight<'a> {
    pub(super) fn new(admission: Option<Admission<'a>>, record: Arc<SendRecord>, metrics: &'a Metrics) -> Self {
        if admission.as_ref().is_some_and(Admission::is_probe) {
            metrics.circuit.set(Circuit::HalfOpen as i64);
        }
        Self { admission, record, metrics }
    }

    /// The head of the answer is there, or there will be none.
    pub(super) fn end(mut self, failed: bool) {
        self.report(failed);
    }

    fn report(&mut self, failed: bool) {
        let Some(admission) = self.admission.take() else { return };
        let was_probe = admission.is_probe();
        if let Some(circuit) = admission.report(failed, Instant::now()) {
            self.metrics.circuit.set(circuit as i64);
            // While an outage lasts a probe fails every second: only its beginning and its end are news.
            if circuit == Circuit::Closed || !was_probe {
                warn!(?circuit, "the circuit to the upstream changed");
            } else {
                debug!(?circuit, "a probe of the upstream failed");
            }
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.record.sent_for() >= Some(STALLED) {
            self.report(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::breaker::Breaker, *};

    fn in_flight<'a>(breaker: &'a Breaker, metrics: &'a Metrics) -> InFlight<'a> {
        let record = SendRecord::new(&Arc::default(), None);
        InFlight::new(breaker.admit(Instant::now()).ok(), record, metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_long_wait_after_the_send_is_a_failure() {
        let (breaker, metrics) = (Breaker::new(2), Metrics::default());
        // Time before the send, such as a slow connection's, is not the upstream's.
        let late = in_flight(&breaker, &metrics);
        tokio::time::advance(STALLED * 2).await;
        late.record.sent();
        tokio::time::advance(STALLED.saturating_sub(Duration::from_millis(1))).await;
        drop(late);
        let never_sent = in_flight(&breaker, &metrics);
        tokio::time::advance(STALLED * 2).await;
        drop(never_sent);
        assert!(breaker.check(Instant::now()).is_ok());

        let stalled: Vec<_> = (0..2).map(|_| in_flight(&breaker, &metrics)).collect();
        for request in &stalled {
            request.record.sent();
        }
        tokio::time::advance(STALLED).await;
        // Between the two, a short wait neither counts nor starts the row anew.
        let short = in_flight(&breaker, &metrics);
        short.record.sent();
        let mut stalled = stalled.into_iter();
        drop(stalled.next());
        drop(short);
        assert!(breaker.check(Instant::now()).is_ok());
        drop(stalled.next());
        assert!(breaker.check(Instant::now()).is_err());
        assert_eq!(metrics.circuit.get(), Circuit::Open as i64);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_between_starts_the_row_anew() {
        let (breaker, metrics) = (Breaker::new(2), Metrics::default());
        for _ in 0..5 {
            let stalled = in_flight(&breaker, &metrics);
            stalled.record.sent();
            tokio::time::advance(STALLED).await;
            drop(stalled);
            in_flight(&breaker, &metrics).end(false);
        }
        assert!(breaker.check(Instant::now()).is_ok());
    }
}
