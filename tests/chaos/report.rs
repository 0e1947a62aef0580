//! What was checked and how it came out: a line for each check, and the count at the end.

use std::{cell::Cell, time::Duration};

/// The checks so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: Cell<u32>,
    failed: Cell<u32>,
}

impl Report {
    /// Notes a check: what was found, or what is wrong.
    pub(crate) fn check(&self, name: &str, found: Result<String, String>) {
        match found {
            Ok(note) => {
                self.passed.set(self.passed.get() + 1);
                println!("ok    {name}: {note}");
            }
            Err(wrong) => {
                self.failed.set(self.failed.get() + 1);
                println!("WRONG {name}: {wrong}");
            }
        }
    }

    /// The last line; whether all is well.
    pub(crate) fn end(&self) -> bool {
        println!("{} passed, {} failed", self.passed.get(), self.failed.get());
        self.failed.get() == 0
    }
}

/// The spread of some times: half of them, 99 in a hundred, all.
pub(crate) fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    match (at(50), at(99), times.last()) {
        (Some(half), Some(most), Some(all)) => format!("p50 {half:.1?}, p99 {most:.1?}, max {all:.1?}"),
        _ => "none".to_owned(),
    }
}
