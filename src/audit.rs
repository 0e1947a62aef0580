//! The audit log: one JSON line for each call that may change something at the cloud, on its own file or on standard
//! output. It never holds a secret, and a line that can't be written there goes to the program's log instead.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use crate::telemetry::Metrics;

/// Lines that wait for the disk, at most; past it, calls wait too.
const QUEUE: usize = 8192;

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

/// What a call was to change, as far as it has been understood.
#[derive(Debug, Serialize)]
pub(crate) struct Subject {
    pub(crate) project_id: String,
    pub(crate) certificate_id: String,
    pub(crate) domains: Vec<String>,
}

/// A call that is over.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    pub(crate) time: String,
    pub(crate) caller: String,
    pub(crate) peer: Option<String>,
    pub(crate) method: &'a str,
    #[serde(flatten)]
    pub(crate) subject: &'a Subject,
    /// `applied`, `refused` by the cloud, `not_sent`, or `unknown`.
    pub(crate) outcome: &'a str,
    pub(crate) code: &'a str,
    pub(crate) reason: Option<&'a str>,
    pub(crate) request_id: &'a str,
    pub(crate) apig_request_id: Option<&'a str>,
    /// Requests that left for the cloud.
    pub(crate) attempts: u32,
    pub(crate) milliseconds: f64,
}

/// Now, as entries have it.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

enum Message {
    Line(Vec<u8>),
    /// The file was moved away.
    Reopen,
    /// There will be no more.
    End,
}

/// An open audit log. Dropped, it writes what it has and ends.
#[derive(Debug)]
pub(crate) struct Audit {
    queue: mpsc::SyncSender<Message>,
    /// `None` only while it ends.
    writer: Option<JoinHandle<()>>,
    _hangup: AbortOnDropHandle<()>,
}

impl Audit {
    /// Opens the destination. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The file can't be opened for appending, or no thread can be started.
    pub(crate) fn open(destination: Destination, metrics: Arc<Metrics>) -> io::Result<Self> {
        let sink = Sink::open(&destination)?;
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        // Not the thread that serves: a slow disk must not hold up calls before the queue is full.
        let writer = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || write(sink, &destination, &messages, &metrics))?;
        let reopen = queue.clone();
        let hangup = AbortOnDropHandle::new(tokio::spawn(async move {
            let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
            while hangup.recv().await.is_some() {
                let _ = reopen.try_send(Message::Reopen);
            }
        }));
        Ok(Self { queue, writer: Some(writer), _hangup: hangup })
    }

    /// Writes an entry, soon.
    pub(crate) fn note(&self, entry: &Entry<'_>) {
        let mut line = serde_json::to_vec(entry).expect("an entry is strings and numbers");
        line.push(b'\n');
        // Waits when the queue is full: an entry is worth more than the call's time.
        let _ = self.queue.send(Message::Line(line));
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let _ = self.queue.send(Message::End);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

enum Sink {
    Stdout(io::Stdout),
    File(File),
}

impl Sink {
    fn open(destination: &Destination) -> io::Result<Self> {
        Ok(match destination {
            Destination::Stdout => Self::Stdout(io::stdout()),
            Destination::File(path) => Self::File(append_to(path)?),
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => {
                stdout.write_all(line)?;
                stdout.flush()
            }
            // One write for each line: lines of two processes don't mix.
            Self::File(file) => file.write_all(line),
        }
    }
}

/// For the owner alone: it says who changes what.
fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Writes until it is told to end.
fn write(mut sink: Sink, destination: &Destination, messages: &mpsc::Receiver<Message>, metrics: &Metrics) {
    while let Ok(message) = messages.recv() {
        match message {
            Message::Line(line) => {
                if let Err(fault) = sink.write(&line) {
                    metrics.audit_lines_not_written.inc();
                    // Nothing is lost: whoever reads the log has it.
                    let line = String::from_utf8_lossy(&line);
                    error!(%fault, line = line.trim_end(), "an audit line could not be written where it belongs");
                }
            }
            Message::End => return,
            Message::Reopen => match Sink::open(destination) {
                Ok(opened) => {
                    sink = opened;
                    info!("audit log opened again");
                }
                Err(fault) => error!(%fault, "the audit log can't be opened again; the old file is written on"),
            },
        }
    }
}

/// A time as entries have it.
pub(crate) fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn entry(subject: &Subject) -> Entry<'_> {
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
        }
    }

    fn subject(domain: &str) -> Subject {
        Subject { project_id: "p".into(), certificate_id: "c".into(), domains: vec![domain.into()] }
    }

    #[tokio::test]
    async fn every_line_is_there_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let audit = Audit::open(Destination::File(path.clone()), Arc::default()).unwrap();
        for number in 0..10_000 {
            audit.note(&entry(&subject(&format!("{number}\n\"quoted\".example"))));
        }
        drop(audit);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 10_000);
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["domains"][0], "9999\n\"quoted\".example");
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
        audit.note(&entry(&subject("d")));
        drop(audit);
        assert_eq!(metrics.audit_lines_not_written.get(), 1);
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_opened_is_a_fault_at_the_start() {
        assert!(Audit::open(Destination::File("/no/such/folder/audit".into()), Arc::default()).is_err());
    }
}
