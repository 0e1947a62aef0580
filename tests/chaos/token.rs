//! A file with the gateway's token, replaced by a new one again and again, as a secret's volume does it.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use super::request::TOKEN;

/// How long a token is the newest.
const EVERY: Duration = Duration::from_millis(40);

/// The file, and the task that replaces it.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: String,
    _folder: TempDir,
    _replacing: AbortOnDropHandle<()>,
}

impl TokenFile {
    pub(crate) fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        put(&path, 0);
        let replaced = path.clone();
        let replacing = tokio::spawn(async move {
            for number in 1u64.. {
                tokio::time::sleep(EVERY).await;
                // A slow disk must not delay the callers on the same thread.
                let path = replaced.clone();
                let _ = tokio::task::spawn_blocking(move || put(&path, number)).await;
            }
        });
        let path = path.to_str().unwrap().to_owned();
        Self { path, _folder: folder, _replacing: AbortOnDropHandle::new(replacing) }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// Replaces the file at once, never half.
fn put(path: &Path, number: u64) {
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{TOKEN}-{number}\n")).unwrap();
    std::fs::rename(new, path).unwrap();
}
