//! Counts what fails in a row, and shuts for a while when it is too much. It does not know what fails.

use std::time::{Duration, SystemTime};

/// Open until it has counted too much.
#[derive(Debug, Default)]
pub(super) struct Lock {
    failures: u32,
    until: Option<SystemTime>,
}

impl Lock {
    pub(super) fn is_shut(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|end| end > now)
    }

    /// The next row begins.
    pub(super) fn open(&mut self) {
        *self = Self::default();
    }

    /// More than `most` in a row shut it for so long.
    pub(super) fn count_failure(&mut self, now: SystemTime, most: u32, shut_for: Duration) {
        self.failures += 1;
        if self.failures > most {
            *self = Self { failures: 0, until: Some(now + shut_for) };
        }
    }
}
