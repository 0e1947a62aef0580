//! What a check found, and the lines that say so.

use std::time::Duration;

/// One check: its figures, and what was wrong.
#[derive(Debug)]
pub(crate) struct Check {
    name: String,
    figures: Vec<String>,
    faults: Vec<String>,
    /// The most memory that a gateway held, in MiB.
    memory: Option<u64>,
    /// Why it could not be made.
    skipped: Option<String>,
}

impl Check {
    pub(crate) fn of(name: impl Into<String>) -> Self {
        Self { name: name.into(), figures: Vec::new(), faults: Vec::new(), memory: None, skipped: None }
    }

    /// It can't be made on this machine, which the report says loudly.
    pub(crate) fn skipped(&mut self, reason: String) {
        self.skipped = Some(reason);
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }

    pub(crate) fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// Holds a gateway's peak of memory to a limit.
    pub(crate) fn hold_memory(&mut self, mib: u64, limit: u64) {
        self.memory = Some(mib);
        self.require(mib <= limit, || format!("{mib} MiB of memory, more than {limit}"));
    }

    /// Something worth reading whatever the outcome.
    pub(crate) fn figure(&mut self, text: impl Into<String>) {
        self.figures.push(text.into());
    }

    /// What must be true; `fault` says what is wrong when it is not.
    pub(crate) fn require(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    /// Things that should not have happened: the first few and their number.
    pub(crate) fn none(&mut self, what: &str, faults: &[String]) {
        self.require(faults.is_empty(), || {
            let first: Vec<&str> = faults.iter().take(3).map(String::as_str).collect();
            format!("{} {what}: {}", faults.len(), first.join(" | "))
        });
    }
}

/// All checks so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
}

impl Report {
    /// Prints the check's line.
    pub(crate) fn add(&mut self, check: &Check) {
        let figures = check.figures.join(", ");
        if let Some(reason) = &check.skipped {
            println!("!!! {}: {reason}", check.name);
            self.skipped.push(check.name.clone());
        } else if check.faults.is_empty() {
            self.passed += 1;
            println!("ok - {}: {figures}", check.name);
        } else {
            self.failed += 1;
            println!("FAILED - {}: {}; {figures}", check.name, check.faults.join("; "));
        }
    }

    /// Prints the last line; says whether all is well.
    pub(crate) fn end(&self) -> bool {
        for name in &self.skipped {
            println!("!!! NOT CHECKED: {name}");
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        self.failed == 0 && self.passed > 0
    }
}

/// The time that this share of them does not exceed.
pub(crate) fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let at = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// `p50/p99` of some times.
pub(crate) fn spread(times: &[Duration]) -> String {
    format!("{}/{} ms", millis(percentile(times, 0.5)), millis(percentile(times, 0.99)))
}

pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
