//! Locks out a credential for a while after too many failures in a row.

use std::time::{Duration, SystemTime};

/// The lockout state of one credential.
#[derive(Debug, Default)]
pub(super) struct Lock {
    failures: u32,
    until: Option<SystemTime>,
}

impl Lock {
    pub(super) fn is_shut(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|end| end > now)
    }

    /// Resets the count after a success.
    pub(super) fn open(&mut self) {
        *self = Self::default();
    }

    /// Counts a failure; more than `most` in a row lock for `shut_for`.
    pub(super) fn count_failure(&mut self, now: SystemTime, most: u32, shut_for: Duration) {
        self.failures += 1;
        if self.failures > most {
            *self = Self { failures: 0, until: Some(now + shut_for) };
        }
    }
}
