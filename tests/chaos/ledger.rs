//! Reconciles the gateway's audit log with the ends of all calls and with the requests at the upstream.

use std::collections::HashMap;

use serde_json::Value;
use tonic::Code;

use super::{
    driver::{CallEnd, Record},
    fault::{Outcome, Verdict},
    gateway::knows,
    request::{id, number_of},
    scene::Scene,
};

/// The file that the log is written to.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: tempfile::TempDir,
}

impl Ledger {
    /// `None` when the gateway keeps none.
    pub(crate) fn create() -> Option<Self> {
        knows("audit").then(|| Self { folder: tempfile::tempdir().unwrap() })
    }

    pub(crate) fn path(&self) -> String {
        self.folder.path().join("audit").to_str().unwrap().to_owned()
    }

    /// The codes of the lines of each call.
    pub(crate) fn codes(&self) -> Result<HashMap<u64, Vec<String>>, String> {
        let text = std::fs::read_to_string(self.path()).map_err(|error| error.to_string())?;
        let mut codes: HashMap<u64, Vec<String>> = HashMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
            let (Some(number), Some(code)) = (line["request_id"].as_str().and_then(number_of), line["code"].as_str())
            else {
                return Err(format!("a line without a call or a code: {line}"));
            };
            codes.entry(number).or_default().push(code.to_owned());
        }
        Ok(codes)
    }

    /// Holds each call's lines against its end and its attempts.
    pub(crate) fn reconcile(&self, records: &[Record], scene: &Scene) -> Result<String, String> {
        let text = std::fs::read_to_string(self.path()).map_err(|error| error.to_string())?;
        let mut lines: HashMap<String, Vec<Value>> = HashMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
            lines.entry(line["request_id"].as_str().unwrap_or_default().to_owned()).or_default().push(line);
        }
        let (mut counted, mut unread) = (0, 0);
        for record in records {
            let number = record.number;
            let ours = lines.remove(&id(number)).unwrap_or_default();
            let seen = scene.of(number).len() as u64;
            let sent: u64 = ours.iter().map(|line| line["attempts"].as_u64().unwrap_or_default()).sum();
            let complain =
                |fault: &str| Err(format!("call {number} {fault}: {:?}, {seen} requests, {ours:?}", record.end));
            // A call that was rejected or not read in time names nothing to audit.
            if ours.is_empty() && seen > 0 {
                return complain("made requests and left no line");
            }
            let is_unknown = ours.iter().any(|line| line["outcome"] == "unknown");
            if sent < seen || sent > seen && !is_unknown {
                return complain("has the wrong number of attempts");
            }
            unread += sent - seen;
            if let (CallEnd::Responded { verdict, .. }, Some(last)) = (&record.end, ours.last()) {
                let expected = match verdict {
                    Verdict { code: Code::Ok, .. } => "applied",
                    Verdict { outcome: Outcome::Unknown, .. } => "unknown",
                    Verdict { outcome: Outcome::NotSent, .. } => "not_sent",
                    Verdict { outcome: Outcome::Plain, .. } => "refused",
                };
                if last["outcome"] != expected {
                    return complain("has another outcome");
                }
            }
            counted += ours.len();
        }
        match lines.keys().next() {
            Some(stray) => Err(format!("a line of {stray}, which nobody has called")),
            None => Ok(format!("{counted} lines of {} calls, {unread} requests of unknown end unread", records.len())),
        }
    }
}
