//! Follows files: says when one has changed, so that its owner reads it again. It knows nothing of what they hold.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

/// How often files are looked at. Mounted secrets are swapped through symbolic links, which no single watch covers.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// Has the files read again, on a thread that may block, when one of them has changed and on SIGHUP, until the handle is
/// dropped. Needs a runtime.
pub(crate) fn follow(paths: Vec<PathBuf>, reload: impl Fn() + Send + Sync + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(watch(paths.into(), Arc::new(reload))))
}

async fn watch(paths: Arc<[PathBuf]>, reload: Arc<dyn Fn() + Send + Sync>) {
    // The files may have changed since they were read for the configuration, so the first look reads them again.
    let mut loaded = None;
    let mut before = None;
    let mut hangup = signal(SignalKind::hangup()).ok();
    loop {
        let asked = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let read_again = {
            let reload = Arc::clone(&reload);
            move || tokio::task::spawn_blocking(move || reload())
        };
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = asked => {
                let _ = read_again().await;
                continue;
            }
        }
        let looked = Arc::clone(&paths);
        let look = move || looked.iter().map(|path| Fingerprint::of(path)).collect::<Vec<_>>();
        let Ok(now) = tokio::task::spawn_blocking(look).await else { continue };
        // A file still being written changes between two looks.
        if before.as_ref() == Some(&now) && loaded.as_ref() != Some(&now) {
            let _ = read_again().await;
            loaded = Some(now.clone());
        }
        before = Some(now);
    }
}

impl Fingerprint {
    /// `None`: there is no such file, or nobody may look.
    fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self { inode: data.ino(), length: data.len(), modified: (data.mtime(), data.mtime_nsec()) })
    }
}
