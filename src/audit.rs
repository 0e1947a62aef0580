//! The audit log: one JSON line for each call that may change something at the cloud, on its own file or on standard
//! output. It never holds a secret, and a line that can't be written there goes to the program's log instead. No call waits
//! for it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

use crate::{
    resources::{Kind, Resources},
    sink::{self, Outlet, Sink},
    telemetry::Metrics,
};

/// Lines a second for calls without a valid message, in the whole process.
const REFUSED_PER_SECOND: f64 = 10.0;

/// How many such lines may come at once.
const REFUSED_AT_ONCE: f64 = 100.0;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    File(PathBuf),
}

impl Destination {
    /// Reads `off`, `stdout` or a path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => None,
            "stdout" => Some(Self::Stdout),
            path => Some(Self::File(path.into())),
        }
    }
}

/// The resources that a call was to change, as far as its message has been understood.
#[derive(Debug, Serialize)]
pub(crate) struct Subject {
    project_id: String,
    /// The certificate, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_id: Option<String>,
    /// The certificates, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificate_ids: Vec<String>,
    domains: Vec<String>,
    /// Instances that are not named beside a domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    instance_ids: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    api_group_ids: Vec<String>,
    /// Domains that are named by their ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    domain_ids: Vec<String>,
}

impl Subject {
    pub(crate) fn of(resources: &Resources<'_>) -> Self {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let others = |kind| {
            let ids = resources.others.iter().filter(move |(other, _)| *other == kind);
            ids.map(|(_, id)| (*id).to_owned()).collect()
        };
        let certificate = resources.certificate();
        Self {
            project_id: resources.project.to_owned(),
            certificate_id: certificate.map(str::to_owned),
            certificate_ids: if certificate.is_some() { Vec::new() } else { owned(&resources.certificates) },
            domains: resources.domains.iter().map(|domain| domain.name.to_owned()).collect(),
            instance_ids: owned(&resources.instances),
            api_group_ids: others(Kind::ApiGroup),
            domain_ids: others(Kind::DomainId),
        }
    }
}

/// A call that is over.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    pub(crate) time: String,
    pub(crate) caller: String,
    pub(crate) peer: Option<String>,
    pub(crate) method: &'a str,
    /// `None` if the call ended before its message was valid.
    #[serde(flatten)]
    pub(crate) subject: Option<&'a Subject>,
    /// `applied`, `refused` by the cloud, `not_sent`, or `unknown`.
    pub(crate) outcome: &'a str,
    pub(crate) code: &'a str,
    pub(crate) reason: Option<&'a str>,
    pub(crate) request_id: &'a str,
    pub(crate) apig_request_id: Option<&'a str>,
    /// Requests that left for the cloud.
    pub(crate) attempts: u32,
    pub(crate) milliseconds: f64,
    /// Lines of such calls that were left out since the last line.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) suppressed: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Now, as entries have it.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// An open audit log. Dropped, it writes the lines that it has and ends.
#[derive(Debug)]
pub(crate) struct Audit {
    sink: Arc<Sink>,
    refused: Mutex<Refused>,
    metrics: Arc<Metrics>,
    _hangup: AbortOnDropHandle<()>,
}

/// How many lines of calls without a valid message may still be written: every peer that can connect can make such calls.
#[derive(Debug)]
struct Refused {
    tokens: f64,
    at: Instant,
    /// Lines that were left out and not yet told.
    suppressed: u64,
}

impl Audit {
    /// Opens the destination. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The file can't be opened for appending, or no thread can be started.
    pub(crate) fn open(destination: Destination, metrics: Arc<Metrics>) -> io::Result<Self> {
        let sink = Arc::new(Sink::start(destination, metrics.audit_lines_not_written.clone())?);
        let reopened = Arc::clone(&sink);
        let hangup = AbortOnDropHandle::new(tokio::spawn(async move {
            let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
            while hangup.recv().await.is_some() {
                reopened.reopen();
            }
        }));
        let refused = Mutex::new(Refused::new(Instant::now()));
        Ok(Self { sink, refused, metrics, _hangup: hangup })
    }

    /// Writes an entry, soon. One without a subject may be left out, when there are many of them.
    pub(crate) fn note(&self, mut entry: Entry<'_>) {
        {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if entry.subject.is_none() && !refused.take(Instant::now()) {
                self.metrics.audit_lines_suppressed.inc();
                return;
            }
            entry.suppressed = std::mem::take(&mut refused.suppressed);
        }
        let mut line = serde_json::to_vec(&entry).expect("an entry is strings and numbers");
        line.push(b'\n');
        if !self.sink.append(&line) {
            to_log(&line, &"the reader of the audit log is too slow");
        }
    }
}

impl Refused {
    fn new(now: Instant) -> Self {
        Self { tokens: REFUSED_AT_ONCE, at: now, suppressed: 0 }
    }

    /// Whether one more may be written; counts one that may not.
    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * REFUSED_PER_SECOND;
        self.tokens = (self.tokens + gained).min(REFUSED_AT_ONCE);
        self.at = now;
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        } else {
            self.suppressed += 1;
        }
        may
    }
}

impl Outlet for Destination {
    const NAME: &'static str = "audit log";
    const LIMIT: usize = 4 * 1024 * 1024;
    const LINGER: Duration = Duration::ZERO;

    fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => sink::duplicate(io::stdout().as_fd()),
            Self::File(path) => append_to(path),
        }
    }

    fn failed(&self, line: &[u8], fault: &io::Error) {
        to_log(line, fault);
    }

    // Each lost line is in the log already.
    fn report(&self, _lines: u64) {}
}

/// For the owner alone: the lines name callers and their changes.
fn append_to(path: &Path) -> io::Result<File> {
    // Opening a FIFO for writing alone waits for a reader, and writing without one fails. With both ends open the lines
    // wait in it for a reader that comes, or comes back.
    let is_fifo = path.metadata().is_ok_and(|data| data.file_type().is_fifo());
    OpenOptions::new().append(true).read(is_fifo).create(!is_fifo).mode(0o600).open(path)
}

/// A line that can't be written in the audit log is not lost for a reader of the program's log.
fn to_log(line: &[u8], fault: &dyn std::fmt::Display) {
    let line = String::from_utf8_lossy(line);
    error!(error = %fault, line = line.trim_end(), "an audit line could not be written where it belongs");
}

/// A time as entries have it.
pub(crate) fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A bound on waiting for a thread.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn entry(subject: Option<&Subject>) -> Entry<'_> {
        Entry {
            time: now(),
            caller: "nobody".into(),
            peer: None,
            method: "m",
            subject,
            outcome: "applied",
            code: "OK",
            reason: None,
            request_id: "r",
            apig_request_id: None,
            attempts: 1,
            milliseconds: 0.5,
            suppressed: 0,
        }
    }

    fn subject(domain: &str) -> Subject {
        Subject {
            project_id: "p".into(),
            certificate_id: Some("c".into()),
            certificate_ids: vec![],
            domains: vec![domain.into()],
            instance_ids: vec![],
            api_group_ids: vec![],
            domain_ids: vec![],
        }
    }

    fn read(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn every_line_is_there_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let audit = Audit::open(Destination::File(path.clone()), Arc::default()).unwrap();
        for number in 0..10_000 {
            audit.note(entry(Some(&subject(&format!("{number}\n\"quoted\".example")))));
        }
        assert!(audit.sink.flush(PATIENCE));
        let lines = read(&path);
        assert_eq!(lines.len(), 10_000);
        assert_eq!(lines[9_999]["domains"][0], "9999\n\"quoted\".example");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_line_that_can_not_be_written_is_counted() {
        // The one file on which every write fails.
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let metrics = Arc::new(Metrics::default());
        let audit = Audit::open(Destination::File(full.into()), Arc::clone(&metrics)).unwrap();
        audit.note(entry(Some(&subject("d"))));
        assert!(audit.sink.flush(PATIENCE));
        assert_eq!(metrics.audit_lines_not_written.get(), 1);
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_opened_is_a_fault_at_the_start() {
        assert!(Audit::open(Destination::File("/no/such/folder/audit".into()), Arc::default()).is_err());
    }

    #[test]
    fn lines_of_refused_calls_have_a_rate_and_the_others_have_none() {
        let start = Instant::now();
        let mut refused = Refused::new(start);
        assert_eq!((0..150).filter(|_| refused.take(start)).count(), 100);
        assert_eq!(refused.suppressed, 50);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..10).filter(|_| refused.take(later)).count(), 5);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..150).filter(|_| refused.take(much_later)).count(), 100, "no more than at the start");
    }

    #[tokio::test]
    async fn the_next_line_says_how_many_were_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let metrics = Arc::new(Metrics::default());
        let audit = Audit::open(Destination::File(path.clone()), Arc::clone(&metrics)).unwrap();
        for _ in 0..5_000 {
            audit.note(entry(None));
        }
        audit.note(entry(Some(&subject("d"))));
        audit.note(entry(Some(&subject("d"))));
        assert!(audit.sink.flush(PATIENCE));
        let lines = read(&path);
        let (refused, whole): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.get("domains").is_none());
        assert_eq!(whole.len(), 2);
        assert!(whole[1].get("suppressed").is_none());
        let suppressed: u64 = lines.iter().filter_map(|line| line["suppressed"].as_u64()).sum();
        assert_eq!(refused.len() as u64 + suppressed, 5_000);
        assert_eq!(metrics.audit_lines_suppressed.get(), suppressed);
        assert!(refused.iter().all(|line| line.get("certificate_id").is_none() && line["request_id"] == "r"));
    }
}
