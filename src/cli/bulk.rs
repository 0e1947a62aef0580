//! `attach --from-file` and `detach --from-file`: many domains of many certificates, in batches, with a journal.

mod bindings;
mod input;
mod journal;
mod progress;
mod report;
mod send;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, value_parser};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(super) use self::{
    bindings::{Bindings, comparable},
    input::{Entry, Group},
    journal::{Journal, Outcome, Past, Run, State, peek},
    report::{Report, continue_line, ending},
    send::{Delivery, Sender, Stop},
};
use super::{Failure, client, output::Format, table};
use crate::{config::Environment, log};

/// A change of bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    Attach,
    Detach,
}

impl Action {
    /// The name of the command.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Detach => "detach",
        }
    }

    /// As in "12 attached".
    fn past_tense(self) -> &'static str {
        match self {
            Self::Attach => "attached",
            Self::Detach => "detached",
        }
    }
}

/// The options of runs in batches.
#[derive(Debug, Args)]
pub(super) struct RunOptions {
    /// File that notes each batch before it is sent and after it [default: beside the file, .journal; of a rotation
    /// rotate-FROM-TO.journal]
    #[arg(long, value_name = "PATH")]
    pub(super) journal: Option<PathBuf>,
    /// Go on with the run of the journal: finished batches are not sent again, unfinished ones are looked up first
    #[arg(long = "continue")]
    pub(super) go_on: bool,
    /// Calls at once, each on another certificate [default: 8]
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,
    /// Most domains of one call [default: 50]
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u32).range(1..=100_000))]
    batch_size: Option<u32>,
    /// Show the plan and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl RunOptions {
    /// Whether there is one that a single call does not have.
    pub(super) fn is_given(&self) -> bool {
        self.journal.is_some() || self.go_on || self.concurrency.is_some() || self.batch_size.is_some() || self.dry_run
    }

    pub(super) fn concurrency(&self) -> usize {
        self.concurrency.unwrap_or(8).into()
    }

    pub(super) fn batch_size(&self) -> usize {
        usize::try_from(self.batch_size.unwrap_or(50)).unwrap_or(usize::MAX)
    }
}

/// A run from a file.
pub(super) struct FromFile<'a> {
    pub(super) action: Action,
    pub(super) file: &'a Path,
    pub(super) gateway: &'a client::GatewayOptions,
    pub(super) options: &'a RunOptions,
    pub(super) output: Format,
}

pub(super) async fn run(this: FromFile<'_>, environment: Environment<'_>) -> Result<(), Failure> {
    let FromFile { action, file, gateway, options, output } = this;
    let is_stdin = file == Path::new("-");
    let groups = read(file, is_stdin, action)?;
    let run = Run::of(action.name(), gateway.project_id());
    let journal = match (&options.journal, is_stdin) {
        (Some(path), _) => Some(path.clone()),
        (None, false) => Some(journal::beside(file)),
        (None, true) => None,
    };
    if options.dry_run {
        let past = peek(journal.as_deref(), &run, options.go_on)?;
        return Ok(show_plan(action, &groups, &past, options.batch_size(), output)?);
    }
    // First the gateway: without one nothing is begun.
    let gateway = gateway.connect(environment).await?;
    let (journal, past) = Journal::open(journal.as_deref(), &run, options.go_on)?;
    if is_stdin && options.journal.is_none() {
        log::say("no journal: after an interruption this run can't be continued (--journal PATH)");
    }
    let domains = groups.iter().map(|group| group.entries.len()).sum();
    let report = Report::new(action, groups.len(), domains);
    let sender = Sender::new(gateway, journal, report, options.batch_size());
    sender.until_interrupted(sender.groups(action, groups, &past, options.concurrency())).await?;
    sender.finish(Report::is_settled).print(output)
}

fn read(file: &Path, is_stdin: bool, action: Action) -> Result<Vec<Group>, Failure> {
    let fault = |what: String| {
        Failure::Usage(format!("{}: {what}", if is_stdin { "-".into() } else { file.display().to_string() }))
    };
    let mut text = Vec::new();
    if is_stdin {
        io::stdin().lock().read_to_end(&mut text).map_err(|error| fault(format!("can't be read: {error}")))?;
    } else {
        text = fs::read(file).map_err(|error| fault(format!("can't be read: {error}")))?;
    }
    input::read(&text, file, action).map_err(fault)
}

/// Prints the plan of a run.
fn show_plan(action: Action, groups: &[Group], past: &Past, batch_size: usize, output: Format) -> io::Result<()> {
    let mut out = io::stdout();
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    let (mut domains, mut calls) = (0, 0);
    for group in groups {
        let count = |state| {
            group.entries.iter().filter(|entry| past.state(action, &group.certificate_id, entry) == state).count()
        };
        let (done, unfinished, open) = (count(State::Done), count(State::Unfinished), count(State::Open));
        // At most: domains that are found as asked need no call.
        let of_group = (unfinished + open).div_ceil(batch_size);
        domains += unfinished + open;
        calls += of_group;
        let numbers = [unfinished + open, of_group, done, unfinished].map(|number| number.to_string());
        rows.push([group.certificate_id.clone()].into_iter().chain(numbers).collect());
        objects.push(json!({
            "certificateId": group.certificate_id,
            "domains": unfinished + open,
            "calls": of_group,
            "doneEarlier": done,
            "toLookUp": unfinished,
        }));
    }
    match output {
        Format::Json => writeln!(
            out,
            "{}",
            json!({ "dryRun": true, "command": action.name(), "domains": domains, "calls": calls, "plan": objects })
        ),
        Format::Text => {
            table::print(&["CERTIFICATE", "DOMAINS", "CALLS", "DONE EARLIER", "TO LOOK UP"], rows)?;
            writeln!(
                out,
                "would {} {domains} domains of {} certificates in {calls} calls; nothing was sent",
                action.name(),
                groups.len()
            )
        }
    }
}
