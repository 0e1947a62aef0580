//! The journal of a run: a line before a batch is sent, on disk before the batch leaves, and a line after it. A run that
//! continues reads which batches are finished and which ones have to be looked up.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{
    Action,
    input::{Entry, Group},
};
use crate::cli::Failure;

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// The first one.
    Run(Run),
    /// The bindings to move, of a rotation.
    Plan { domains: Vec<Entry> },
    /// A batch that is about to be sent.
    Begin { number: u64, action: Action, certificate_id: String, domains: Vec<Entry> },
    /// The result of a batch.
    End {
        number: u64,
        result: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Domains of an unfinished batch that the cloud lists as asked.
    Found { action: Action, certificate_id: String, domains: Vec<Entry> },
    /// The last one: everything was sent, and every result is known.
    Complete,
}

/// The run that a journal is of. It can be continued by the same command alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Run {
    pub(in crate::cli) version: u32,
    pub(in crate::cli) command: String,
    pub(in crate::cli) project_id: String,
    /// The certificates of a rotation: the old and the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) certificates: Option<(String, String)>,
}

impl Run {
    pub(in crate::cli) fn of(command: &str, project_id: &str) -> Self {
        Self { version: 1, command: command.to_owned(), project_id: project_id.to_owned(), certificates: None }
    }
}

/// The result of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Outcome {
    Done,
    /// Nothing was changed.
    Failed,
    /// It may have been changed.
    Unknown,
}

/// The state of a domain after earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum State {
    /// It is not sent again.
    Done,
    /// It is looked up before it is sent again.
    Unfinished,
    /// It has not been sent, or was refused.
    Open,
}

/// The earlier runs of a journal.
#[derive(Debug, Default)]
pub(in crate::cli) struct Past {
    states: HashMap<(Action, String, Entry), State>,
    /// The bindings to move, of a rotation.
    pub(in crate::cli) plan: Option<Vec<Entry>>,
    /// Whether a new run may replace the journal: nothing was changed, or every result is known.
    is_settled: bool,
}

/// An open journal.
#[derive(Debug)]
pub(in crate::cli) struct Journal {
    /// `None`: the input is standard input, and no journal was asked for.
    file: Option<File>,
    number: u64,
}

impl Past {
    pub(in crate::cli) fn state(&self, action: Action, certificate_id: &str, entry: &Entry) -> State {
        let key = (action, certificate_id.to_owned(), entry.clone());
        self.states.get(&key).copied().unwrap_or(State::Open)
    }

    fn set(&mut self, action: Action, certificate_id: &str, domains: &[Entry], state: State) {
        for entry in domains {
            self.states.insert((action, certificate_id.to_owned(), entry.clone()), state);
        }
    }

    /// Reads whole lines. Returns the past and the highest number of a batch.
    fn read(text: &str, run: &Run) -> Result<(Self, u64), String> {
        let (mut past, mut begun, mut highest) = (Self::default(), BTreeMap::new(), 0);
        let mut is_complete = false;
        for (text, number) in text.lines().zip(1_u64..) {
            let line = serde_json::from_str(text).map_err(|_| format!("line {number} is not one of a journal"))?;
            if number == 1 && !matches!(line, Line::Run(_)) {
                return Err("does not begin with its run".into());
            }
            is_complete = line == Line::Complete;
            match line {
                Line::Run(known) if known == *run => {}
                Line::Run(known) => {
                    return Err(format!("is of another run: {}", describe(&known)));
                }
                Line::Plan { domains } => past.plan = Some(domains),
                Line::Begin { number, action, certificate_id, domains } => {
                    past.set(action, &certificate_id, &domains, State::Unfinished);
                    begun.insert(number, (action, certificate_id, domains));
                    highest = highest.max(number);
                }
                Line::End { number, result, .. } => {
                    let (action, certificate_id, domains) =
                        begun.remove(&number).ok_or_else(|| format!("has no beginning of batch {number}"))?;
                    let state = match result {
                        Outcome::Done => State::Done,
                        Outcome::Failed => State::Open,
                        Outcome::Unknown => State::Unfinished,
                    };
                    past.set(action, &certificate_id, &domains, state);
                }
                Line::Found { action, certificate_id, domains } => {
                    past.set(action, &certificate_id, &domains, State::Done);
                }
                Line::Complete => {}
            }
        }
        past.is_settled = is_complete || past.states.values().all(|state| *state == State::Open);
        Ok((past, highest))
    }
}

/// The run that a journal begins with.
fn run_of(text: &str) -> Option<Run> {
    match serde_json::from_str(text.lines().next()?).ok()? {
        Line::Run(run) => Some(run),
        _ => None,
    }
}

fn describe(run: &Run) -> String {
    match &run.certificates {
        Some((from, to)) => format!("{} --from {from} --to {to}", run.command),
        None => format!("{} in project {:?}", run.command, run.project_id),
    }
}

/// The default place of a journal: beside the file.
pub(in crate::cli) fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".journal");
    PathBuf::from(name)
}

/// Reads the past of a run without changing the journal, for `--dry-run`.
///
/// # Errors
///
/// The journal can't be read, or is of another run.
pub(in crate::cli) fn peek(path: Option<&Path>, run: &Run, go_on: bool) -> Result<Past, Failure> {
    let Some(path) = path.filter(|_| go_on) else { return Ok(Past::default()) };
    match std::fs::read(path) {
        Ok(bytes) => Ok(Past::read(&whole_lines(&bytes), run).map_err(|what| named(path, &what))?.0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Past::default()),
        Err(error) => Err(named(path, &error)),
    }
}

/// The text up to the last line feed: a line that a crash has torn was never acted on.
fn whole_lines(bytes: &[u8]) -> String {
    let length = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned()
}

/// Whether a file without a whole line is the torn first line of a journal, and not another file.
fn is_torn_start(bytes: &[u8]) -> bool {
    const START: &[u8] = br#"{"line":"run","#;
    bytes.starts_with(START) || START.starts_with(bytes)
}

fn named(path: &Path, what: &dyn std::fmt::Display) -> Failure {
    Failure::Usage(format!("journal {}: {what}", path.display()))
}

impl Journal {
    /// Opens a journal: of a new run, or of one that goes on.
    ///
    /// # Errors
    ///
    /// It can't be opened or read, another process has it, or it is of another run; or a new run would replace the
    /// journal of one that has not ended.
    pub(in crate::cli) fn open(path: Option<&Path>, run: &Run, go_on: bool) -> Result<(Self, Past), Failure> {
        let Some(path) = path else { return Ok((Self { file: None, number: 0 }, Past::default())) };
        let fault = |error: &dyn std::fmt::Display| named(path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| fault(&error))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| fault(&"another run uses it"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| fault(&error))?;
        let text = whole_lines(&bytes);
        let past = if text.is_empty() && !is_torn_start(&bytes) {
            Err("is not a journal".to_owned())
        } else {
            Past::read(&text, run)
        };
        if go_on {
            let (past, number) = past.map_err(|what| fault(&what))?;
            // The torn line goes, so that the next one is whole.
            file.set_len(text.len() as u64).map_err(|error| fault(&error))?;
            file.seek(SeekFrom::End(0)).map_err(|error| fault(&error))?;
            let mut journal = Self { file: Some(file), number };
            if text.is_empty() {
                journal.start(path, run).map_err(|error| fault(&error))?;
            }
            return Ok((journal, past));
        }
        // Any run that is settled gives way, also one of another command.
        match run_of(&text).map_or(past, |known| Past::read(&text, &known)) {
            Ok((past, _)) if past.is_settled => {}
            Err(what) => return Err(fault(&what)),
            Ok(_) => return Err(fault(&"is of a run that has not ended: --continue goes on with it, or remove it")),
        }
        file.set_len(0).map_err(|error| fault(&error))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| fault(&error))?;
        let mut journal = Self { file: Some(file), number: 0 };
        journal.start(path, run).map_err(|error| fault(&error))?;
        Ok((journal, Past::default()))
    }

    fn start(&mut self, path: &Path, run: &Run) -> io::Result<()> {
        self.write(&Line::Run(run.clone()))?;
        self.sync()?;
        // The name of a new file survives a loss of power only after this.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }

    /// Notes the bindings that a rotation moves.
    pub(in crate::cli) fn plan(&mut self, domains: &[Entry]) -> io::Result<()> {
        self.write(&Line::Plan { domains: domains.to_vec() })?;
        self.sync()
    }

    /// Notes a batch; it may be sent after this. The call blocks: a batch must not leave before its line is on disk.
    pub(in crate::cli) fn begin(&mut self, action: Action, batch: &Group) -> io::Result<u64> {
        self.number += 1;
        let Group { certificate_id, entries } = batch.clone();
        self.write(&Line::Begin { number: self.number, action, certificate_id, domains: entries })?;
        self.sync()?;
        Ok(self.number)
    }

    /// Notes the result of a batch. If it is lost with the power, the batch is looked up.
    pub(in crate::cli) fn end(&mut self, number: u64, result: Outcome, reason: Option<&str>) -> io::Result<()> {
        self.write(&Line::End { number, result, reason: reason.map(str::to_owned) })
    }

    /// Notes domains that a look-up has found as asked.
    pub(in crate::cli) fn found(&mut self, action: Action, batch: Group) -> io::Result<()> {
        let Group { certificate_id, entries } = batch;
        self.write(&Line::Found { action, certificate_id, domains: entries })
    }

    /// Notes that everything was sent, and every result is known.
    pub(in crate::cli) fn complete(&mut self) -> io::Result<()> {
        self.write(&Line::Complete)?;
        self.sync()
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        // One write for the whole line, so that a crash tears the last line alone.
        file.write_all((serde_json::to_string(line)? + "\n").as_bytes())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

#[cfg(test)]
mod tests;
