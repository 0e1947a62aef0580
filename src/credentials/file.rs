//! Credentials from a watched file, in whole or in part. A changed file replaces the credential; while the file is invalid,
//! the previous credential stays in use.

use std::{
    fmt, fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::Kind;
use crate::{file_watcher, secret::Secret, telemetry::FileReloads};

/// The maximum file size. A token has a few kilobytes.
const MAX_SIZE: u64 = 1024 * 1024;

type Make = Arc<dyn Fn(&str) -> Result<Kind, String> + Send + Sync>;

/// A file that was read once, with the function that makes a credential of its text.
#[derive(Clone)]
pub(crate) struct CredentialFile {
    setting: &'static str,
    path: PathBuf,
    text: Secret,
    make: Make,
}

impl CredentialFile {
    /// Reads the file and makes the credential once.
    ///
    /// # Errors
    ///
    /// The file can't be read, or its text is not a valid credential. The error quotes no part of the text.
    pub(crate) fn load(
        setting: &'static str,
        path: PathBuf,
        make: impl Fn(&str) -> Result<Kind, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let text = read(&path)?;
        make(text.expose())?;
        Ok(Self { setting, path, text, make: Arc::new(make) })
    }

    /// The credential in the text.
    ///
    /// # Errors
    ///
    /// None after a successful [`load`](Self::load).
    pub(crate) fn kind(&self) -> Result<Kind, String> {
        (self.make)(self.text.expose())
    }

    /// The setting that names the file.
    pub(super) fn setting(&self) -> &'static str {
        self.setting
    }

    /// Watches the file and passes each new credential to `replace`, until the result is dropped. Needs a runtime.
    pub(super) fn follow(
        self,
        reloads: FileReloads,
        replace: impl Fn(Kind) -> Result<(), String> + Send + Sync + 'static,
    ) -> FollowedFile {
        let path = self.path.clone();
        let counted = reloads.clone();
        let file = Arc::new(State {
            path: self.path,
            text: Mutex::new(self.text),
            make: self.make,
            replace: Box::new(replace),
        });
        let followed = Arc::clone(&file);
        let watch = file_watcher::watch(vec![path], reloads, move || followed.reload());
        FollowedFile { file, reloads: counted, _watch: watch }
    }
}

impl fmt::Debug for CredentialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialFile")
            .field("setting", &self.setting)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A file that replaces a credential when it changes.
#[derive(Debug)]
pub(super) struct FollowedFile {
    file: Arc<State>,
    reloads: FileReloads,
    _watch: AbortOnDropHandle<()>,
}

struct State {
    path: PathBuf,
    /// The text of the credential in use.
    text: Mutex<Secret>,
    make: Make,
    replace: Box<dyn Fn(Kind) -> Result<(), String> + Send + Sync>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FollowedFile {
    /// Reloads the file at once, as after a refusal of its credential. The watcher reports failures.
    pub(super) async fn reload_now(&self) {
        let file = Arc::clone(&self.file);
        // A slow volume must not block other calls.
        if let Ok(Ok(true)) = tokio::task::spawn_blocking(move || file.reload()).await {
            self.reloads.loaded.inc();
            info!(setting = self.reloads.setting, "file reloaded");
        }
    }
}

impl State {
    fn reload(&self) -> Result<bool, String> {
        let about = |error| format!("{} {error}", self.path.display());
        // Locked during the whole reload: a slower reload must not restore an older credential.
        let mut current = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let text = read(&self.path).map_err(about)?;
        if *current == text {
            return Ok(false);
        }
        (self.replace)((self.make)(text.expose()).map_err(about)?)?;
        *current = text;
        Ok(true)
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| {
        // Reserves the full size: a reallocation would leave an unwiped copy.
        text.reserve(usize::try_from(file.metadata()?.len().min(MAX_SIZE)).unwrap_or_default() + 64);
        file.take(MAX_SIZE + 1).read_to_string(&mut text)
    });
    let text: Secret = Secret::new(text);
    match read {
        Err(error) => Err(format!("can't be read: {error}")),
        Ok(_) if text.expose().len() as u64 > MAX_SIZE => Err("is larger than 1 MiB".to_owned()),
        Ok(_) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credentials::{Credential, ManagedCredential, Sent, parse_token},
        file_watcher::LOOK_EVERY,
        telemetry::Metrics,
    };

    fn load(path: &Path) -> Result<CredentialFile, String> {
        let make = |text: &str| parse_token(text).map(Kind::Token).map_err(Into::into);
        CredentialFile::load("token-file", path.to_owned(), make)
    }

    /// A managed token from a file, with its metrics.
    fn managed(path: &Path) -> (Arc<ManagedCredential>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        let managed = ManagedCredential::start(Kind::File(load(path).unwrap()), "default", &Arc::default(), &metrics);
        (managed.unwrap(), metrics)
    }

    async fn credential(managed: &ManagedCredential) -> Credential {
        managed.grant(&|| Sent::Unknown).await.unwrap().credential
    }

    fn token(text: &str) -> Credential {
        Credential::Token(parse_token(text).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_replaces_the_credential_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let (managed, metrics) = managed(&path);
        let failed = |number: u32| {
            let line =
                format!("apig_gateway_file_reloads_total{{setting=\"token-file\",result=\"failed\"}} {number}\n");
            metrics.text().contains(&line)
        };
        let until = async |done: &dyn Fn() -> bool| {
            let waited = async {
                while !done() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            tokio::time::timeout(100 * LOOK_EVERY, waited).await.expect("it happens within some looks");
        };
        let broken: [&[u8]; 4] = [b"", b"two words", b"\xff", &vec![b'x'; 1024 * 1024 + 1]];
        for (index, content) in broken.into_iter().enumerate() {
            fs::write(&path, content).unwrap();
            until(&|| failed(u32::try_from(index).unwrap() + 1)).await;
            assert_eq!(credential(&managed).await, token("one"));
        }
        // A new file that replaces the old one.
        fs::write(folder.path().join("next"), "second\n").unwrap();
        fs::rename(folder.path().join("next"), &path).unwrap();
        until(&|| metrics.text().contains("apig_gateway_file_reload_failing{setting=\"token-file\"} 0")).await;
        assert_eq!(credential(&managed).await, token("second"));
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_at_once_and_only_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one").unwrap();
        let (managed, _) = managed(&path);
        assert_eq!(managed.is_replaced(&token("one")).await, Ok(false));
        fs::write(&path, "two").unwrap();
        assert_eq!(managed.is_replaced(&token("one")).await, Ok(true));
        fs::write(&path, "").unwrap();
        assert_eq!(managed.is_replaced(&token("two")).await, Ok(false));
        fs::remove_file(&path).unwrap();
        assert_eq!(managed.is_replaced(&token("two")).await, Ok(false));
        assert_eq!(credential(&managed).await, token("two"));
    }

    #[test]
    fn a_file_never_shows_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "canary").unwrap();
        assert!(!format!("{:?}", load(&path).unwrap()).contains("canary"));
        fs::write(&path, "canary bird").unwrap();
        assert!(!load(&path).unwrap_err().contains("canary"));
    }
}
