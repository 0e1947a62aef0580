//! The plan and the report of a rotation, for people and scripts.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::plan::Fault;
use crate::{
    cli::{
        Failure,
        attached::yes_or_no,
        bulk::{Action, Bindings, Entry, continue_line, ending},
        output::Format,
        table::{self, clean},
    },
    log,
};

/// Most faults that are printed one by one.
const MOST_FAULTS: usize = 20;

/// The end of a rotation.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Bindings of the plan: a domain with one verification of clients, on its instances.
    pub(super) bindings: usize,
    /// Those that were on the new certificate before this run.
    pub(super) already: usize,
    /// Those that are not on the new certificate with their flag, and why.
    pub(super) failed: Vec<(Entry, String)>,
    /// Rows of the old certificate's list; `None` if it can't be read.
    pub(super) left_on_old: Option<usize>,
    pub(super) stopped: Option<String>,
}

impl Moved {
    pub(super) fn is_success(&self) -> bool {
        self.failed.is_empty()
    }

    pub(super) fn stopped_by(self, stopped: Option<String>) -> Self {
        Self { stopped, ..self }
    }

    /// Prints the report.
    ///
    /// # Errors
    ///
    /// A binding is not where it should be, or standard output is closed.
    pub(super) fn print(&self, output: Format) -> Result<(), Failure> {
        let mut out = io::stdout();
        match output {
            Format::Json => writeln!(out, "{}", self.json())?,
            Format::Text => {
                if !self.is_success() {
                    let row = |(entry, reason): &(Entry, String)| {
                        vec![entry.domain.clone(), entry.instance_ids.join(" "), reason.clone()]
                    };
                    table::print(&["NOT MOVED", "INSTANCES", "REASON"], self.failed.iter().map(row).collect())?;
                }
                writeln!(out, "{}", self.text())?;
            }
        }
        if self.is_success() { Ok(()) } else { Err(Failure::Told) }
    }

    fn text(&self) -> String {
        if self.bindings == 0 {
            return "nothing to move: the old certificate is bound nowhere".into();
        }
        let on_new = self.bindings - self.failed.len();
        let already = (self.already > 0).then(|| format!(", {} were before", self.already));
        let left = self.left_on_old.filter(|left| *left > 0);
        let left = left.map(|left| format!("; the old certificate is still listed {left} times"));
        format!(
            "{on_new} of {} bindings are on the new certificate{}{}{}",
            self.bindings,
            already.unwrap_or_default(),
            left.unwrap_or_default(),
            ending(self.stopped.as_deref(), self.is_success()),
        )
    }

    fn json(&self) -> Value {
        let failed = self.failed.iter().map(
            |(entry, reason)| json!({ "domain": entry.domain, "instanceIds": entry.instance_ids, "reason": reason }),
        );
        let mut report = json!({
            "command": "rotate",
            "bindings": self.bindings,
            "already": self.already,
            "notMoved": failed.collect::<Vec<_>>(),
            "leftOnOld": self.left_on_old,
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

/// Prints the reasons against a rotation; nothing has been changed.
///
/// # Errors
///
/// Always.
pub(super) fn show_faults(to: &str, faults: &[Fault], output: Format) -> Result<(), Failure> {
    if output == Format::Json {
        let object = |fault: &Fault| json!({ "domain": fault.domain, "reason": fault.reason });
        let faults: Vec<Value> = faults.iter().map(object).collect();
        writeln!(io::stdout(), "{}", json!({ "command": "rotate", "faults": faults }))?;
        return Err(Failure::Told);
    }
    for Fault { domain, reason } in faults.iter().take(MOST_FAULTS) {
        let what = domain.as_deref().map_or_else(|| format!("certificate {to}"), str::to_owned);
        log::say(&clean(&format!("{what}: {reason}")));
    }
    if faults.len() > MOST_FAULTS {
        log::say(&format!("and {} more", faults.len() - MOST_FAULTS));
    }
    Err(Failure::Other("nothing was changed".into()))
}

/// Prints the bindings that a rotation would move.
pub(super) fn show_plan(entries: &[Entry], on_new: &Bindings, output: Format) -> io::Result<()> {
    let is_moved = |entry: &Entry| on_new.confirm(Action::Attach, entry);
    let open = entries.iter().filter(|entry| !is_moved(entry)).count();
    if output == Format::Json {
        let object = |entry: &Entry| {
            json!({
                "domain": entry.domain,
                "instanceIds": entry.instance_ids,
                "verifiedClientCertificateEnabled": entry.verified_client_certificate_enabled,
                "already": is_moved(entry),
            })
        };
        let plan: Vec<Value> = entries.iter().map(object).collect();
        return writeln!(io::stdout(), "{}", json!({ "dryRun": true, "command": "rotate", "plan": plan }));
    }
    let row = |entry: &Entry| {
        let state = if is_moved(entry) { "there already" } else { "to move" };
        let flag = yes_or_no(entry.verified_client_certificate_enabled);
        vec![entry.domain.clone(), entry.instance_ids.join(" "), flag, state.to_owned()]
    };
    table::print(&["DOMAIN", "INSTANCES", "VERIFIES", "STATE"], entries.iter().map(row).collect())?;
    writeln!(io::stdout(), "would move {open} of {} bindings; nothing was changed", entries.len())
}
