//! The far end of a sink: a FIFO, a pipe, or a small disk, which stops and goes on.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tempfile::TempDir;

use super::Sink;
use crate::{gateway::Gateway, upstream::Upstream};

/// How the fault begins when no disk can be made.
pub(super) const NO_DISK: &str = "NOT CHECKED: no tmpfs can be mounted";

/// The disk holds this much; all but a little of it is taken until there shall be room.
const DISK_KIB: usize = 4_096;
const FREE_KIB: usize = 64;

/// The far end of a sink.
pub(super) enum Output {
    Fifo { fifo: File, reader: Option<Reader>, _folder: TempDir },
    Stdout { reader: Option<Reader> },
    Stderr,
    Disk(Disk),
}

impl Output {
    /// A gateway that writes to a far end that has stopped.
    pub(super) async fn of(sink: Sink, upstream: &Upstream) -> Result<(Self, Gateway), String> {
        let start = async |audit: &str| Gateway::start(upstream.address, &["--audit", audit]).await;
        Ok(match sink {
            Sink::Fifo => {
                let folder = tempfile::tempdir().map_err(|fault| fault.to_string())?;
                let path = folder.path().join("audit");
                run("mkfifo", &[&path.display().to_string()])?;
                // Open for both, so that neither side waits for the other.
                let fifo = OpenOptions::new().read(true).write(true).open(&path).map_err(|fault| fault.to_string())?;
                let gateway = start(&path.display().to_string()).await;
                (Self::Fifo { fifo, reader: None, _folder: folder }, gateway)
            }
            Sink::Stdout => {
                let gateway = start("stdout").await;
                (Self::Stdout { reader: None }, gateway)
            }
            Sink::Stderr => (Self::Stderr, Gateway::start_unread(upstream.address, &[]).await),
            Sink::FullDisk => {
                let disk = Disk::new()?;
                let gateway = start(&disk.audit().display().to_string()).await;
                (Self::Disk(disk), gateway)
            }
        })
    }

    /// From now on it takes lines.
    pub(super) fn resume(&mut self, gateway: &mut Gateway) {
        match self {
            Self::Fifo { fifo, reader, .. } => {
                *reader = fifo.try_clone().ok().map(Reader::of);
            }
            Self::Stdout { reader } => {
                let stdout = gateway.take_stdout().and_then(|stdout| stdout.into_owned_fd().ok());
                *reader = stdout.map(|stdout| Reader::of(File::from(stdout)));
            }
            Self::Stderr => gateway.read_log(),
            Self::Disk(disk) => disk.make_room(),
        }
    }

    /// From now on it takes none again.
    pub(super) fn stop(&mut self) {
        match self {
            Self::Fifo { reader, .. } => {
                if let Some(reader) = reader {
                    reader.stopped.store(true, Ordering::Relaxed);
                }
            }
            Self::Disk(disk) => disk.fill(),
            Self::Stdout { .. } | Self::Stderr => {}
        }
    }

    /// How many whole lines have come.
    pub(super) fn written(&self, gateway: &Gateway) -> u64 {
        match self {
            Self::Fifo { reader, .. } | Self::Stdout { reader } => {
                reader.as_ref().map_or(0, |reader| reader.lines.load(Ordering::Relaxed))
            }
            Self::Stderr => gateway.calls_logged(),
            Self::Disk(disk) => {
                let file = File::open(disk.audit()).map(BufReader::new);
                let lines = file.into_iter().flat_map(std::io::BufRead::lines).map_while(Result::ok);
                lines.filter(|line| is_whole(line)).count() as u64
            }
        }
    }
}

/// Whether a line is an object, neither cut short nor run into another.
fn is_whole(line: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_ok()
}

/// Reads lines on a thread until it has to stop.
pub(super) struct Reader {
    lines: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl Reader {
    fn of(from: impl Read + Send + 'static) -> Self {
        let reader = Self { lines: Arc::default(), stopped: Arc::default() };
        let (lines, stopped) = (Arc::clone(&reader.lines), Arc::clone(&reader.stopped));
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                lines.fetch_add(u64::from(is_whole(&line)), Ordering::Relaxed);
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        reader
    }
}

/// A small disk, unmounted with the value.
pub(super) struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|fault| fault.to_string())?;
        let size = format!("size={DISK_KIB}k");
        run("mount", &["-t", "tmpfs", "-o", &size, "siege", &folder.path().display().to_string()])
            .map_err(|fault| format!("{NO_DISK}: {fault}"))?;
        let disk = Self { folder };
        disk.fill();
        Ok(disk)
    }

    fn audit(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    fn fill(&self) {
        // A write that fails for want of room has filled the disk, which is the aim.
        let taken = fs::metadata(self.audit()).map_or(0, |file| usize::try_from(file.len()).unwrap_or_default() / 1024);
        let _ = fs::write(self.filler(), vec![0; (DISK_KIB - FREE_KIB).saturating_sub(taken) * 1024]);
    }

    fn make_room(&self) {
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let path: &Path = self.folder.path();
        // A gateway may still have its file open.
        let _ = run("umount", &["-l", &path.display().to_string()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|fault| format!("{program}: {fault}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
