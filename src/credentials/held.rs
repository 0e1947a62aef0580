//! One credential that the gateway holds: a token, keys, or a source to fetch them from. It can be replaced while calls
//! use it.

use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::{Kind, Missing, Proof, cache::Cache, file::FollowedFile};
use crate::telemetry::Metrics;

/// A credential that the gateway holds.
#[derive(Debug)]
pub(crate) struct Held {
    /// The identity's name, for metrics.
    name: String,
    metrics: Arc<Metrics>,
    active: watch::Sender<Arc<Active>>,
    /// The file that it comes from.
    file: Option<FollowedFile>,
}

/// The credential in use, with the state that ends with it.
#[derive(Debug)]
enum Active {
    /// One that stays as it is.
    Fixed(Proof),
    /// One that ends and is fetched anew.
    Fetched(Cache),
}

impl Held {
    /// Begins to follow or to fetch it. Needs a runtime.
    ///
    /// # Errors
    ///
    /// A client for a source can't be set up.
    pub(crate) fn start(kind: Kind, name: &str, metrics: &Arc<Metrics>) -> Result<Arc<Self>, String> {
        let (kind, file) = match kind {
            Kind::File(file) => (file.kind()?, Some(file)),
            kind => (kind, None),
        };
        let active = Active::start(kind, name, metrics)?;
        Ok(Arc::new_cyclic(|held: &Weak<Self>| {
            let file = file.map(|file| {
                let held = Weak::clone(held);
                let reloads = metrics.file_reloads(file.setting());
                file.follow(reloads, move |kind| held.upgrade().map_or(Ok(()), |held| held.replace(kind)))
            });
            Self {
                name: name.to_owned(),
                metrics: Arc::clone(metrics),
                active: watch::Sender::new(Arc::new(active)),
                file,
            }
        }))
    }

    /// Puts another credential in its place, as when the files that held it have changed. Calls that wait for the old one
    /// get the new one; state tied to the old one, such as a fetch or a back-off, ends with it. Needs a runtime.
    ///
    /// # Errors
    ///
    /// A client for a source can't be set up; the old credential stays.
    pub(crate) fn replace(&self, kind: Kind) -> Result<(), String> {
        let active = Active::start(kind, &self.name, &self.metrics)?;
        self.active.send_replace(Arc::new(active));
        Ok(())
    }

    /// The credential for a request.
    ///
    /// # Errors
    ///
    /// None can be fetched now.
    pub(crate) async fn proof(&self) -> Result<Proof, Missing> {
        let mut active = self.active.subscribe();
        loop {
            let current = Arc::clone(&active.borrow_and_update());
            tokio::select! {
                proof = current.proof() => return proof,
                // The sender lives in `self`.
                _ = active.changed() => {}
            }
        }
    }

    /// Another in place of one that the cloud refused, if there is one by now.
    pub(crate) async fn replacement(&self, refused: &Proof) -> Option<Proof> {
        if let Some(file) = self.file.as_ref().filter(|_| !refused.is_signature()) {
            file.reload_now().await;
        }
        let current = Arc::clone(&self.active.borrow());
        current.replacement(refused).await
    }

    /// Waits for the first.
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
    fn start(kind: Kind, name: &str, metrics: &Arc<Metrics>) -> Result<Self, String> {
        Ok(match kind {
            Kind::Token(token) => Self::Fixed(Proof::Token(token)),
            Kind::Keys(keys) => Self::Fixed(Proof::Keys(Arc::new(keys))),
            Kind::File(file) => Self::start(file.kind()?, name, metrics)?,
            Kind::Fetched(source) => {
                let source = Arc::new(source.connect(metrics)?);
                let name_of_source = source.to_string();
                let fetch = move || {
                    let source = Arc::clone(&source);
                    async move { source.fetch().await }
                };
                Self::Fetched(Cache::start(name_of_source, fetch, metrics.credential(name)))
            }
        })
    }

    async fn proof(&self) -> Result<Proof, Missing> {
        match self {
            Self::Fixed(proof) => Ok(proof.clone()),
            Self::Fetched(cache) => cache.proof().await,
        }
    }

    async fn replacement(&self, refused: &Proof) -> Option<Proof> {
        match (self, refused) {
            (Self::Fixed(proof), _) if !refused.is_signature() => Some(proof.clone()).filter(|proof| proof != refused),
            (Self::Fetched(cache), _) => {
                cache.retire(refused);
                if refused.is_signature() {
                    return None;
                }
                cache.proof().await.ok().filter(|proof| proof != refused)
            }
            _ => None,
        }
    }

    async fn ready(&self) {
        if let Self::Fetched(cache) = self {
            cache.first().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn a_replaced_credential_serves_from_then_on() {
        let token = |text: &'static str| HeaderValue::from_static(text);
        let held = Held::start(Kind::Token(token("one")), "default", &Arc::default()).unwrap();
        let old = held.proof().await.unwrap();
        assert_eq!(held.replacement(&old).await, None);
        held.replace(Kind::Token(token("two"))).unwrap();
        assert_eq!(held.proof().await, Ok(Proof::Token(token("two"))));
        assert_eq!(held.replacement(&old).await, Some(Proof::Token(token("two"))));
    }
}
