//! How late everything is, this process and the gateway: what a test of time must allow on a machine that has other work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The longest delay so far: of a timer of ours, or of an answer that the gateway has at hand.
#[derive(Debug, Default)]
pub(crate) struct Lag(AtomicU64);

impl Lag {
    /// Sleeps a little, again and again, and notes how much too long it took.
    pub(crate) async fn watch(self: Arc<Self>) {
        const TICK: Duration = Duration::from_millis(5);
        loop {
            let began = Instant::now();
            tokio::time::sleep(TICK).await;
            self.note(began.elapsed().saturating_sub(TICK));
        }
    }

    /// Notes a delay that was seen.
    pub(crate) fn note(&self, late: Duration) {
        self.0.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Forgets what was.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The longest delay since.
    pub(crate) fn worst(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// What a bound on time is given on top: the gateway waits for the same processors as we do.
    pub(crate) fn allowance(&self) -> Duration {
        Duration::from_millis(250) + 2 * self.worst()
    }
}
