//! What a check found, and the lines that say so.

use std::time::Duration;

/// One check: its figures, and what was wrong.
#[derive(Debug)]
pub(crate) struct Check {
    name: String,
    figures: Vec<String>,
    faults: Vec<String>,
}

impl Check {
    pub(crate) fn of(name: impl Into<String>) -> Self {
        Self { name: name.into(), figures: Vec::new(), faults: Vec::new() }
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
}

impl Report {
    /// Prints the check's line.
    pub(crate) fn add(&mut self, check: &Check) {
        let figures = check.figures.join(", ");
        if check.faults.is_empty() {
            self.passed += 1;
            println!("ok - {}: {figures}", check.name);
        } else {
            self.failed += 1;
            println!("FAILED - {}: {}; {figures}", check.name, check.faults.join("; "));
        }
    }

    /// Prints the last line; says whether all is well.
    pub(crate) fn end(&self) -> bool {
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
