//! A limit on requests a second towards the cloud, for accounts with a low quota. Time comes as an argument.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Spaces requests evenly; after a pause a second's worth may go at once.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// When the next request would go if all went evenly.
    next: Mutex<Option<Instant>>,
}

/// The next free moment is further away than the caller can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFar(pub(crate) Duration);

impl Pace {
    /// At most this many a second.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(None) }
    }

    /// Reserves the next moment; gives the pause until then.
    ///
    /// # Errors
    ///
    /// [`TooFar`]: it lies beyond the deadline, and nothing is reserved.
    pub(crate) fn reserve(&self, now: Instant, deadline: Instant) -> Result<Duration, TooFar> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let burst = Duration::from_secs(1).saturating_sub(self.interval);
        let slot = next.unwrap_or(now).max(now.checked_sub(burst).unwrap_or(now));
        let pause = slot.saturating_duration_since(now);
        if now + pause >= deadline {
            return Err(TooFar(pause));
        }
        *next = Some(slot + self.interval);
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_no_more_than_its_number() {
        let pace = Pace::new(10);
        let now = Instant::now();
        let far = now + Duration::from_secs(3600);
        // The first one sets the beat: as if it had idled before, nine more may follow at once.
        let _ = pace.reserve(now, far);
        let later = now + Duration::from_secs(10);
        let pauses: Vec<_> = (0..30).map(|_| pace.reserve(later, far).unwrap()).collect();
        let within = |span: u64| pauses.iter().filter(|pause| **pause < Duration::from_secs(span)).count();
        assert_eq!((within(1), within(2)), (19, 29), "{pauses:?}");
        assert_eq!(pauses.iter().filter(|pause| pause.is_zero()).count(), 10);
    }

    #[test]
    fn a_moment_past_the_deadline_is_refused_and_not_reserved() {
        let pace = Pace::new(1);
        let now = Instant::now();
        assert_eq!(pace.reserve(now, now + Duration::from_millis(1)), Ok(Duration::ZERO));
        for _ in 0..3 {
            let refused = pace.reserve(now, now + Duration::from_millis(500)).unwrap_err();
            assert_eq!(refused, TooFar(Duration::from_secs(1)));
        }
        assert_eq!(pace.reserve(now, now + Duration::from_secs(2)), Ok(Duration::from_secs(1)));
    }
}
