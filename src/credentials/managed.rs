//! One credential of the gateway: a token, a key pair, or a source to fetch them from. It can be replaced while calls use
//! it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::{
    Credential, CredentialError, Grant, Kind,
    cache::{Cache, Fetched},
    file::FollowedFile,
    fuse::{Decision, Position},
    signing_key::{KeyRing, Sent, SigningKey},
};
use crate::telemetry::Metrics;

/// A credential of the gateway.
#[derive(Debug)]
pub(crate) struct ManagedCredential {
    active: watch::Sender<Arc<Active>>,
    lineage: Arc<Lineage>,
    metrics: Arc<Metrics>,
    /// The watched file of the credential.
    file: Option<FollowedFile>,
}

/// The credential in use, with its state.
#[derive(Debug)]
enum Active {
    /// A credential that does not expire.
    Fixed(Credential),
    /// A credential that expires and is renewed.
    Fetched(Cache),
}

/// The successive key pairs of one identity.
#[derive(Debug)]
struct Lineage {
    /// The identity's name, for metrics.
    name: String,
    ring: Arc<KeyRing>,
    metrics: Arc<Metrics>,
    last: Mutex<Option<Arc<SigningKey>>>,
}

impl ManagedCredential {
    /// Starts watching or fetching the credential. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The HTTP client of a source can't be created.
    pub(crate) fn start(
        kind: Kind,
        name: &str,
        ring: &Arc<KeyRing>,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, String> {
        let (kind, file) = match kind {
            Kind::File(file) => (file.kind()?, Some(file)),
            kind => (kind, None),
        };
        let (ring, metrics) = (Arc::clone(ring), Arc::clone(metrics));
        let lineage = Lineage { name: name.to_owned(), ring, metrics: Arc::clone(&metrics), last: Mutex::default() };
        let lineage = Arc::new(lineage);
        let active = Active::start(kind, &lineage, &metrics)?;
        Ok(Arc::new_cyclic(|managed: &Weak<Self>| {
            let file = file.map(|file| {
                let managed = Weak::clone(managed);
                let reloads = metrics.file_reloads(file.setting());
                file.follow(reloads, move |kind| managed.upgrade().map_or(Ok(()), |managed| managed.replace(kind)))
            });
            Self { active: watch::Sender::new(Arc::new(active)), lineage, metrics, file }
        }))
    }

    /// Replaces the credential, as after a change of its file. Calls that wait for the old credential get the new one. State
    /// of the old one, such as a fetch, a backoff or an open fuse, is dropped. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The HTTP client of a source can't be created; the old credential stays in use.
    pub(crate) fn replace(&self, kind: Kind) -> Result<(), String> {
        let active = Active::start(kind, &self.lineage, &self.metrics)?;
        self.active.send_replace(Arc::new(active));
        Ok(())
    }

    /// The authorization of one request; `sent` is called when the request may be sent.
    ///
    /// # Errors
    ///
    /// Fetching failed, or the key pair's fuse is open.
    pub(super) async fn grant(&self, sent: &(impl Fn() -> Sent + Sync)) -> Result<Grant, CredentialError> {
        let mut active = self.active.subscribe();
        loop {
            let current = Arc::clone(&active.borrow_and_update());
            tokio::select! {
                grant = current.grant(sent) => return grant,
                // The sender lives in `self`.
                _ = active.changed() => {}
            }
        }
    }

    /// Stops using a refused credential, if it can be fetched again.
    pub(super) fn retire(&self, refused: &Credential) {
        if let Active::Fetched(cache) = &**self.active.borrow() {
            cache.retire(refused);
        }
    }

    /// Whether a refused credential has been replaced, so that a retry may succeed; waits for a fetch.
    ///
    /// # Errors
    ///
    /// The refused credential is retired, and fetching another one failed.
    pub(super) async fn is_replaced(&self, refused: &Credential) -> Result<bool, CredentialError> {
        if let Some(file) = self.file.as_ref().filter(|_| !refused.is_signature()) {
            file.reload_now().await;
        }
        let current = Arc::clone(&self.active.borrow());
        current.is_replaced(refused).await
    }

    /// Waits until the credential is replaced.
    pub(super) async fn replaced(&self) {
        // The sender lives in `self`.
        let _ = self.active.subscribe().changed().await;
    }

    /// Waits for the first valid credential.
    pub(crate) async fn ready(&self) {
        let mut active = self.active.subscribe();
        loop {
            let current = Arc::clone(&active.borrow_and_update());
            tokio::select! {
                () = current.ready() => return,
                _ = active.changed() => {}
            }
        }
    }
}

impl Active {
    fn start(kind: Kind, lineage: &Arc<Lineage>, metrics: &Arc<Metrics>) -> Result<Self, String> {
        Ok(match kind {
            Kind::Token(token) => {
                lineage.end();
                Self::Fixed(Credential::Token(token))
            }
            Kind::Keys(keys) => Self::Fixed(lineage.adopt(Credential::keys(keys), false)),
            Kind::File(file) => Self::start(file.kind()?, lineage, metrics)?,
            Kind::Fetched(source) => {
                let source = Arc::new(source.connect(metrics)?);
                let name_of_source = source.to_string();
                lineage.end();
                let renewals = metrics.credential(&lineage.name);
                let lineage = Arc::clone(lineage);
                let fetch = move || {
                    let (source, lineage) = (Arc::clone(&source), Arc::clone(&lineage));
                    async move {
                        let fetched = source.fetch().await?;
                        Ok(Fetched { credential: lineage.adopt(fetched.credential, true), ..fetched })
                    }
                };
                Self::Fetched(Cache::start(&name_of_source, fetch, renewals))
            }
        })
    }

    async fn credential(&self) -> Result<Credential, CredentialError> {
        match self {
            Self::Fixed(credential) => Ok(credential.clone()),
            Self::Fetched(cache) => cache.credential().await,
        }
    }

    async fn grant(&self, sent: &(impl Fn() -> Sent + Sync)) -> Result<Grant, CredentialError> {
        loop {
            let credential = self.credential().await?;
            let Credential::Keys(key) = &credential else { return Ok(credential.into()) };
            // Subscribes before asking, so that no change is missed.
            let mut changes = key.changes();
            match key.admit() {
                Decision::Admitted(pass) => {
                    let permit = Some(key.permit(pass, sent()));
                    return Ok(Grant { credential, permit });
                }
                Decision::Wait(None) => drop(changes.changed().await),
                Decision::Wait(Some(moment)) => tokio::select! {
                    _ = changes.changed() => {}
                    () = tokio::time::sleep_until(moment) => {}
                },
                Decision::Open(wait) => {
                    // If the pair can be fetched again, there is no need to wait for it.
                    let is_retired = matches!(self, Self::Fetched(cache) if cache.retire(&credential));
                    if !is_retired {
                        return Err(CredentialError::Suspended { code: key.last_code(), wait });
                    }
                }
            }
        }
    }

    async fn is_replaced(&self, refused: &Credential) -> Result<bool, CredentialError> {
        let current = match self {
            Self::Fixed(credential) => credential.clone(),
            Self::Fetched(_) => match self.credential().await {
                Ok(credential) => credential,
                Err(error @ CredentialError::Unavailable { .. }) => return Err(error),
                Err(_) => return Ok(false),
            },
        };
        Ok(!refused.is_signature() && current != *refused)
    }

    async fn ready(&self) {
        if let Self::Fetched(cache) = self {
            cache.first().await;
        }
    }
}

impl Lineage {
    /// Ends the lineage: the next credential is unrelated to the last.
    fn end(&self) {
        if let Some(last) = self.last.lock().unwrap_or_else(PoisonError::into_inner).take() {
            last.hide(&self.name);
            self.metrics.credential_fuse(&self.name).set(Position::Closed as i64);
        }
    }

    /// Makes a credential the identity's current one. A key pair that is in use already keeps its fuse. A pair fetched in
    /// place of a trusted pair is trusted too, because its source has issued valid pairs before.
    fn adopt(&self, credential: Credential, is_fetched: bool) -> Credential {
        let (credential, key) = match credential {
            Credential::Token(_) => (credential, None),
            Credential::Keys(key) => {
                let key = self.ring.share(key);
                (Credential::Keys(Arc::clone(&key)), Some(key))
            }
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = matches!((&key, &*last), (Some(key), Some(last)) if Arc::ptr_eq(key, last));
        if !is_same {
            if let Some(last) = &*last {
                last.hide(&self.name);
                self.metrics.credential_fuse(&self.name).set(Position::Closed as i64);
            }
            if let Some(key) = &key {
                if let Some(last) = last.as_ref().filter(|_| is_fetched) {
                    key.succeed(last);
                }
                key.show_as(&self.name, self.metrics.credential_fuse(&self.name));
            }
            *last = key;
        }
        credential
    }
}

#[cfg(test)]
mod tests;
