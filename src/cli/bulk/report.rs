//! The report of a run: a summary for people, an object for scripts, and the line to continue.

use std::{
    io::{self, Write as _},
    time::Instant,
};

use serde_json::{Value, json};

use super::{Action, Format, Group, journal::Outcome};
use crate::cli::{Failure, table::clean};

/// Most names of domains in the line of a failure.
const MOST_NAMED: usize = 3;

/// The domains of a run, counted by their ends.
#[derive(Debug)]
pub(in crate::cli) struct Report {
    action: Action,
    certificates: usize,
    domains: usize,
    began: Instant,
    /// By the calls of this run.
    pub(in crate::cli) done: usize,
    /// By the cloud's list.
    pub(in crate::cli) found: usize,
    /// In an earlier run.
    pub(in crate::cli) earlier: usize,
    failed: usize,
    unknown: usize,
    pub(in crate::cli) not_sent: usize,
    failures: Vec<Value>,
    /// The reason for an early end.
    pub(in crate::cli) stopped: Option<String>,
}

impl Report {
    pub(in crate::cli) fn new(action: Action, certificates: usize, domains: usize) -> Self {
        Self {
            action,
            certificates,
            domains,
            began: Instant::now(),
            done: 0,
            found: 0,
            earlier: 0,
            failed: 0,
            unknown: 0,
            not_sent: 0,
            failures: Vec::new(),
            stopped: None,
        }
    }

    pub(in crate::cli) fn domains(&self) -> usize {
        self.domains
    }

    /// Notes a failure, and returns its line.
    pub(in crate::cli) fn fail(&mut self, batch: &Group, outcome: Outcome, line: &str) -> String {
        let names: Vec<&str> = batch.entries.iter().map(|entry| entry.domain.as_str()).collect();
        let (counter, what) = match outcome {
            Outcome::Unknown => (&mut self.unknown, "unknown"),
            Outcome::Done | Outcome::Failed => (&mut self.failed, "failed"),
        };
        *counter += names.len();
        let first = names.get(..MOST_NAMED).unwrap_or(&names).join(", ");
        let more = match names.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        self.failures.push(json!({
            "certificateId": batch.certificate_id,
            "domains": names,
            "outcome": what,
            "reason": line,
        }));
        let text = if outcome == Outcome::Unknown { "outcome unknown" } else { "failed" };
        clean(&format!("{text}: {first}{more} on certificate {}: {line}", batch.certificate_id))
    }

    /// Whether everything was sent and every result is known.
    pub(in crate::cli) fn is_settled(&self) -> bool {
        self.unknown + self.not_sent == 0
    }

    fn is_success(&self) -> bool {
        self.is_settled() && self.failed == 0
    }

    /// Prints the report.
    ///
    /// # Errors
    ///
    /// The run has a failure or an early end, or standard output is closed.
    pub(in crate::cli) fn print(&self, output: Format) -> Result<(), Failure> {
        let mut out = io::stdout();
        match output {
            Format::Text => writeln!(out, "{}", self.text())?,
            Format::Json => writeln!(out, "{}", self.json())?,
        }
        if self.is_success() { Ok(()) } else { Err(Failure::Told) }
    }

    fn text(&self) -> String {
        let word = self.action.past_tense();
        let counts = [
            (self.done, word.to_owned()),
            (self.found, format!("found {word}")),
            (self.earlier, format!("{word} earlier")),
            (self.failed, "failed".to_owned()),
            (self.unknown, "with an unknown outcome".to_owned()),
            (self.not_sent, "not sent".to_owned()),
        ];
        let counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        format!(
            "{} domains of {} certificates in {:.1} s: {}{}",
            self.domains,
            self.certificates,
            self.began.elapsed().as_secs_f64(),
            counts.join(", "),
            ending(self.stopped.as_deref(), self.is_success()),
        )
    }

    fn json(&self) -> Value {
        let mut report = json!({
            "command": self.action.name(),
            "certificates": self.certificates,
            "domains": self.domains,
            "done": self.done,
            "found": self.found,
            "doneEarlier": self.earlier,
            "failed": self.failed,
            "unknown": self.unknown,
            "notSent": self.not_sent,
            "failures": self.failures,
        });
        if let (Some(why), Value::Object(report)) = (&self.stopped, &mut report) {
            report.insert("stopped".into(), why.as_str().into());
        }
        if let (false, Value::Object(report)) = (self.is_success(), &mut report) {
            report.insert("continue".into(), continue_line().into());
        }
        report
    }
}

/// The last lines of a report: the reason for an early end, and the line to continue.
pub(in crate::cli) fn ending(stopped: Option<&str>, is_success: bool) -> String {
    let why = stopped.map(|why| format!("\nstopped: {why}"));
    let line = (!is_success).then(|| format!("\nto continue: {}", continue_line()));
    why.into_iter().chain(line).collect()
}

/// The command line of this run, to continue it.
pub(in crate::cli) fn continue_line() -> String {
    const FLAG: &str = "--continue";
    let mut words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if !words.iter().any(|word| word == FLAG) {
        words.push(FLAG.to_owned());
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_to_continue_survives_the_shell() {
        assert_eq!(quoted("--from-file"), "--from-file");
        assert_eq!(quoted("my domains.csv"), "'my domains.csv'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert!(continue_line().ends_with(" --continue"));
    }
}
