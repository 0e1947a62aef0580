//! Checks and their results: a line for each, and the count at the end.

use std::{cell::RefCell, time::Duration};

/// One check: its figures and its faults.
#[derive(Debug)]
pub struct Check {
    name: String,
    figures: Vec<String>,
    faults: Vec<String>,
    /// The most memory that a gateway held, in MiB.
    memory: Option<u64>,
    /// The reason for which it could not be made.
    skipped: Option<String>,
}

impl Check {
    /// A check without findings yet.
    pub fn of(name: impl Into<String>) -> Self {
        Self { name: name.into(), figures: Vec::new(), faults: Vec::new(), memory: None, skipped: None }
    }

    /// Marks a check that can't be made on this machine; the report says so at its end too.
    pub fn skipped(&mut self, reason: String) {
        self.skipped = Some(reason);
    }

    /// Whether nothing is wrong so far.
    pub fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }

    /// The most memory that a gateway held, in MiB.
    pub fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// Holds a gateway's peak of memory to a limit.
    pub fn hold_memory(&mut self, mib: u64, limit: u64) {
        self.memory = Some(mib);
        self.require(mib <= limit, || format!("{mib} MiB of memory, more than {limit}"));
    }

    /// Adds a figure, printed with either outcome.
    pub fn figure(&mut self, text: impl Into<String>) {
        self.figures.push(text.into());
    }

    /// Adds a fault unless the condition holds.
    pub fn require(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    /// Adds a fault if there are any events of this kind, which must not happen: their number and the first few.
    pub fn none(&mut self, kind: &str, faults: &[String]) {
        self.require(faults.is_empty(), || {
            let first: Vec<&str> = faults.iter().take(3).map(String::as_str).collect();
            format!("{} {kind}: {}", faults.len(), first.join(" | "))
        });
    }
}

/// All checks so far.
#[derive(Debug, Default)]
pub struct Report(RefCell<Counts>);

#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
}

impl Report {
    /// Prints the line of a check.
    pub fn add(&self, check: &Check) {
        let mut counts = self.0.borrow_mut();
        let figures = check.figures.join(", ");
        if let Some(reason) = &check.skipped {
            println!("!!! {}: {reason}", check.name);
            counts.skipped.push(check.name.clone());
        } else if check.faults.is_empty() {
            counts.passed += 1;
            println!("ok - {}: {figures}", check.name);
        } else {
            counts.failed += 1;
            let faults = check.faults.iter().chain(&check.figures);
            println!("FAILED - {}: {}", check.name, faults.map(String::as_str).collect::<Vec<_>>().join("; "));
        }
    }

    /// Prints the line of a check with one figure or one fault.
    pub fn check(&self, name: &str, found: Result<String, String>) {
        let mut check = Check::of(name);
        match found {
            Ok(figure) => check.figure(figure),
            Err(fault) => check.require(false, || fault),
        }
        self.add(&check);
    }

    /// Prints the last line, and returns whether all is well.
    pub fn end(&self) -> bool {
        let counts = self.0.borrow();
        for name in &counts.skipped {
            println!("!!! NOT CHECKED: {name}");
        }
        println!("{} passed, {} failed", counts.passed, counts.failed);
        counts.failed == 0 && counts.passed > 0
    }
}

/// The time that this share of them does not exceed.
pub fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let at = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// Median, 99th percentile and maximum of some times.
pub fn spread(times: &[Duration]) -> String {
    let [half, most, all] = [0.5, 0.99, 1.0].map(|share| millis(percentile(times, share)));
    format!("p50/p99/max {half}/{most}/{all} ms")
}

/// A time in milliseconds, with one decimal.
pub fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_of_the_list() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.99), Duration::from_millis(198));
        assert_eq!(spread(&times), "p50/p99/max 100.0/198.0/200.0 ms");
        assert_eq!(spread(&[]), "p50/p99/max 0.0/0.0/0.0 ms");
    }

    #[test]
    fn a_report_is_well_if_something_passed_and_nothing_failed() {
        let report = Report::default();
        assert!(!report.end(), "nothing was checked");
        report.check("first", Ok("found".into()));
        let mut skipped = Check::of("second");
        skipped.skipped("no disk".into());
        report.add(&skipped);
        assert!(report.end());
        report.check("third", Err("wrong".into()));
        assert!(!report.end());
    }
}
