//! The delay of this process and of the gateway on a machine with other work, which bounds on time have to allow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The longest delay so far: of a timer of ours, or of a response that the gateway has at hand.
#[derive(Debug, Default)]
pub(crate) struct Lag(AtomicU64);

impl Lag {
    /// Sleeps a little, again and again, and notes the delay.
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

    /// Forgets all delays so far.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The longest delay since.
    pub(crate) fn worst(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// The addition to a bound on time: the gateway waits for the same processors as this process.
    pub(crate) fn allowance(&self) -> Duration {
        Duration::from_millis(250) + 2 * self.worst()
    }
}
