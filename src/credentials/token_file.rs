//! A token kept in a file and read again when the file changes. It never sees half a file, and keeps the token it has
//! when the file can't be read.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use http::HeaderValue;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::parse_token;
use crate::follow::follow;

/// A token that follows its file.
#[derive(Debug)]
pub(crate) struct TokenFile {
    file: Arc<File>,
    _watch: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    token: Mutex<HeaderValue>,
}

impl TokenFile {
    /// Follows a file whose token has been read already. Needs a runtime.
    pub(crate) fn follow(path: PathBuf, token: HeaderValue) -> Self {
        let file = Arc::new(File { path, token: Mutex::new(token) });
        let followed = Arc::clone(&file);
        let watch = follow(vec![file.path.clone()], move || followed.reload());
        Self { file, _watch: watch }
    }

    /// The token as last read.
    pub(crate) fn current(&self) -> HeaderValue {
        self.file.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the file now, and gives its token if it is another than the one that was refused.
    pub(crate) async fn newer_than(&self, refused: &HeaderValue) -> Option<HeaderValue> {
        let file = Arc::clone(&self.file);
        // A file on a slow volume must not hold up the other calls.
        let _ = tokio::task::spawn_blocking(move || file.reload()).await;
        Some(self.current()).filter(|token| token != refused)
    }
}

impl File {
    fn reload(&self) {
        match read(&self.path) {
            Ok(token) => {
                let mut current = self.token.lock().unwrap_or_else(PoisonError::into_inner);
                if *current != token {
                    *current = token;
                    info!(path = %self.path.display(), "token read again");
                }
            }
            Err(fault) => warn!(path = %self.path.display(), %fault, "token file can't be used; the old token stays"),
        }
    }
}

/// Reads a token from a file.
///
/// # Errors
///
/// The file can't be read, or holds no token; the text never quotes it.
pub(crate) fn read(path: &Path) -> Result<HeaderValue, String> {
    let text = fs::read_to_string(path).map_err(|fault| format!("can't be read: {fault}"))?;
    let text = zeroize::Zeroizing::new(text);
    parse_token(&text).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::LOOK_EVERY;

    fn token(text: &str) -> HeaderValue {
        parse_token(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_gives_the_new_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let file = TokenFile::follow(path.clone(), read(&path).unwrap());
        assert_eq!(file.current(), token("one"));
        // As Kubernetes does it: a new file in the old one's place.
        fs::write(folder.path().join("next"), "second\n").unwrap();
        fs::rename(folder.path().join("next"), &path).unwrap();
        let followed = async {
            while file.current() != token("second") {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(100 * LOOK_EVERY, followed).await.expect("the file is read again");
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_only_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one").unwrap();
        let file = TokenFile::follow(path.clone(), read(&path).unwrap());
        assert_eq!(file.newer_than(&token("one")).await, None);
        fs::write(&path, "two").unwrap();
        assert_eq!(file.newer_than(&token("one")).await, Some(token("two")));
    }

    #[tokio::test]
    async fn a_broken_file_leaves_the_old_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one").unwrap();
        let file = TokenFile::follow(path.clone(), read(&path).unwrap());
        fs::write(&path, "").unwrap();
        assert_eq!(file.newer_than(&token("one")).await, None);
        fs::remove_file(&path).unwrap();
        assert_eq!(file.newer_than(&token("one")).await, None);
        assert_eq!(file.current(), token("one"));
    }
}
