//! File watcher: reloads files when one of them has changed, and on SIGHUP. The caller's `reload` function reads the files
//! and applies their content.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::telemetry::FileReloads;

/// The polling interval. Mounted secrets are swapped through symbolic links, which no single inotify watch covers, so the
/// files are polled.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Interval between two warnings about the same files.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Polls that may find the files changing before they are loaded nevertheless: a file that is rewritten continuously must
/// not keep its first content in use for ever.
const UNSTABLE_LOOKS: u32 = 4;

/// Identifies one state of a file. Rewriting a file in place changes at least its ctime, which no program can set back;
/// replacing it changes its inode or its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    is_pipe: bool,
}

/// The fingerprints of all files of a watcher; `None` for a file without metadata, as when it does not exist.
type Look = Vec<Option<Fingerprint>>;

/// Decides when files are loaded, and when a failure is reported.
#[derive(Debug, Default)]
struct Schedule {
    /// The last look.
    seen: Option<Look>,
    /// The look before the last successful load; `None` after a failure, so that each look tries again.
    loaded: Option<Look>,
    /// Looks in a row that differed from the previous one.
    unstable: u32,
    /// The look before the last load, if that failed.
    failed: Option<Look>,
    /// The time of the last warning.
    warned: Option<Instant>,
}

/// Watches files until the handle is dropped. `reload` runs on a thread that may block, and returns whether the content
/// has changed. After a failure it runs again at each look until it succeeds. Needs a runtime.
pub(crate) fn watch(
    paths: Vec<PathBuf>,
    reloads: FileReloads,
    reload: impl Fn() -> Result<bool, String> + Send + Sync + 'static,
) -> AbortOnDropHandle<()> {
    // The files may have changed since the configuration was read, so the first stable look loads them again.
    AbortOnDropHandle::new(tokio::spawn(run(paths.into(), reloads, Arc::new(reload))))
}

async fn run(paths: Arc<[PathBuf]>, reloads: FileReloads, reload: Arc<dyn Fn() -> Result<bool, String> + Send + Sync>) {
    let mut schedule = Schedule::default();
    let mut hangup = signal(SignalKind::hangup()).ok();
    loop {
        let is_forced = tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => false,
            () = hung_up(&mut hangup) => true,
        };
        let looked = Arc::clone(&paths);
        let look = move || looked.iter().map(|path| Fingerprint::of(path)).collect::<Look>();
        let Ok(look) = tokio::task::spawn_blocking(look).await else { continue };
        // A pipe, as of a shell's process substitution, can be read once; reading it again could block for ever.
        let has_pipe = look.iter().flatten().any(|file| file.is_pipe);
        if has_pipe || !schedule.is_due(&look, is_forced) {
            continue;
        }
        let reload = Arc::clone(&reload);
        let result = tokio::task::spawn_blocking(move || reload()).await;
        match result.unwrap_or_else(|_| Err("loading panicked".into())) {
            Ok(is_changed) => {
                let had_failed = schedule.succeeded(look);
                if had_failed {
                    reloads.failing.dec();
                }
                if is_changed {
                    reloads.loaded.inc();
                }
                if is_changed || had_failed {
                    info!(setting = reloads.setting, is_changed, "file reloaded");
                }
            }
            Err(error) => {
                let report = schedule.failed(look, Instant::now());
                if report.is_first {
                    reloads.failing.inc();
                }
                if report.is_counted {
                    reloads.failed.inc();
                }
                if report.is_warned {
                    warn!(setting = reloads.setting, %error, "file can't be loaded; the previous content stays in use");
                }
            }
        }
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    let received = match hangup {
        Some(hangup) => hangup.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending::<()>().await;
    }
}

/// How a failed load shows in metrics and log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    /// The load before succeeded.
    is_first: bool,
    is_counted: bool,
    is_warned: bool,
}

impl Schedule {
    /// Whether to load the files now. Files that are being written differ from one look to the next.
    fn is_due(&mut self, look: &Look, is_forced: bool) -> bool {
        let is_stable = self.seen.as_ref() == Some(look);
        self.unstable = if is_stable { 0 } else { self.unstable + 1 };
        self.seen = Some(look.clone());
        let is_new = self.loaded.as_ref() != Some(look);
        let is_due = is_forced || (is_new && (is_stable || self.unstable >= UNSTABLE_LOOKS));
        if is_due {
            self.unstable = 0;
        }
        is_due
    }

    /// Records a successful load; returns whether the previous load had failed.
    fn succeeded(&mut self, look: Look) -> bool {
        self.loaded = Some(look);
        self.failed.take().is_some()
    }

    /// Records a failed load. A failure counts when it begins, when the files have changed, and with each warning.
    fn failed(&mut self, look: Look, now: Instant) -> Report {
        self.loaded = None;
        let is_warned = self.warned.is_none_or(|warned| now.duration_since(warned) >= WARN_EVERY);
        if is_warned {
            self.warned = Some(now);
        }
        let before = self.failed.replace(look);
        let is_counted = is_warned || before != self.failed;
        Report { is_first: before.is_none(), is_counted, is_warned }
    }
}

impl Fingerprint {
    fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self {
            device: data.dev(),
            inode: data.ino(),
            length: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
            is_pipe: data.file_type().is_fifo(),
        })
    }
}

#[cfg(test)]
mod tests;
