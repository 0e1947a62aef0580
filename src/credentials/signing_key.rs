//! An access key pair in use: the keys with their fuse, which every identity and every request that signs with them
//! shares.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info, warn};

use super::{
    fuse::{Admission, Fuse, Pass, Position, Verdict},
    keys::Keys,
};
use crate::{call::Progress, sync::preemption_point};

/// A key pair that signs requests. Two are equal when their keys are.
#[derive(Debug)]
pub(crate) struct SigningKey {
    keys: Keys,
    fuse: watch::Sender<Fuse>,
    /// The cloud's error code of the last refusal.
    code: Mutex<Option<String>>,
    /// The identities that sign with it, and their gauges.
    gauges: Mutex<Vec<(String, Gauge)>>,
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl Eq for SigningKey {}

/// The right to send one request signed with a key pair. Dropped without a verdict, it counts as abandoned if the request
/// has left.
#[derive(Debug)]
pub(crate) struct Permit {
    key: Arc<SigningKey>,
    pass: Pass,
    sent: Sent,
}

/// Tells whether the request of a permit has left.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Once more attempts have left than these.
    After(Arc<Progress>, u32),
    /// It has to be assumed.
    Unknown,
}

impl Sent {
    /// For the next attempt of a call.
    pub(crate) fn after(progress: &Arc<Progress>) -> Self {
        Self::After(Arc::clone(progress), progress.attempts())
    }

    fn may_have_left(&self) -> bool {
        match self {
            Self::After(progress, before) => progress.attempts() > *before,
            Self::Unknown => true,
        }
    }
}

impl SigningKey {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, fuse: watch::Sender::new(Fuse::default()), code: Mutex::default(), gauges: Mutex::default() }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Asks to sign one request.
    pub(crate) fn admit(&self) -> Admission {
        preemption_point();
        // The usual case takes no exclusive lock.
        if self.fuse.borrow().is_trusted() {
            return Admission::Admitted(Pass::Shared);
        }
        preemption_point();
        let mut admission = Admission::Wait(None);
        self.fuse.send_if_modified(|fuse| {
            let before = fuse.position();
            admission = fuse.admit(Instant::now());
            if before != fuse.position() {
                self.show(fuse.position());
            }
            // Requests that wait have nothing to hear of: another one has gone first.
            false
        });
        admission
    }

    /// A permit for a pass of [`admit`](Self::admit).
    pub(crate) fn permit(self: &Arc<Self>, pass: Pass, sent: Sent) -> Permit {
        Permit { key: Arc::clone(self), pass, sent }
    }

    /// Hears of each change after which a request that waits should ask again.
    pub(crate) fn changes(&self) -> watch::Receiver<Fuse> {
        self.fuse.subscribe()
    }

    /// Trusts the pair as its predecessor from the same source was trusted.
    pub(crate) fn succeed(&self, predecessor: &Self) {
        if predecessor.fuse.borrow().is_trusted() {
            self.change(Fuse::trust);
        }
    }

    /// The cloud's error code of the last refusal.
    pub(crate) fn last_code(&self) -> Option<String> {
        self.code.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn settle(&self, pass: Pass, verdict: Verdict) {
        if pass == Pass::Shared && verdict != Verdict::Refused {
            // Nothing changes for a trusted pair, and many requests end at once.
            let is_news = verdict == Verdict::Accepted && !self.fuse.borrow().is_trusted();
            if !is_news {
                return;
            }
        }
        preemption_point();
        self.change(|fuse| fuse.settle(pass, verdict, Instant::now()));
    }

    fn change(&self, change: impl FnOnce(&mut Fuse)) {
        let mut moved = None;
        self.fuse.send_modify(|fuse| {
            let before = fuse.position();
            change(fuse);
            let after = fuse.position();
            if before != after {
                moved = Some((before, after));
                // Under the lock, so that the last change is the one that shows.
                self.show(after);
            }
        });
        let Some(moved) = moved else { return };
        let identities = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        let identities: Vec<&str> = identities.iter().map(|(name, _)| name.as_str()).collect();
        match moved {
            (_, Position::Closed) => info!(?identities, "the cloud accepts the key pair's signatures again"),
            (Position::Closed, _) => warn!(?identities, "the cloud refuses the key pair's signatures; signing stops"),
            // While an outage lasts, each call may probe: only its beginning and its end are news.
            _ => debug!(?identities, "a probe did not close the key pair's fuse"),
        }
    }

    fn show(&self, position: Position) {
        for (_, gauge) in &*self.gauges.lock().unwrap_or_else(PoisonError::into_inner) {
            gauge.set(position as i64);
        }
    }

    /// Shows the fuse's position as that of an identity.
    pub(crate) fn show_as(&self, identity: &str, gauge: Gauge) {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.retain(|(name, _)| name != identity);
        gauges.push((identity.to_owned(), gauge));
        drop(gauges);
        self.show(self.fuse.borrow().position());
    }

    /// Ends [`show_as`](Self::show_as): the identity has another credential.
    pub(crate) fn hide(&self, identity: &str) {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, _)| name != identity);
    }
}

impl Permit {
    /// Gives it back with the outcome of its request; `code` is the cloud's error code.
    pub(crate) fn settle(mut self, verdict: Verdict, code: Option<&str>) {
        if verdict == Verdict::Refused {
            *self.key.code.lock().unwrap_or_else(PoisonError::into_inner) = code.map(str::to_owned);
        }
        self.give_back(verdict);
        // Nothing is left to give back.
        self.pass = Pass::Shared;
    }

    fn give_back(&self, verdict: Verdict) {
        self.key.settle(self.pass, verdict);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.pass != Pass::Shared {
            self.give_back(if self.sent.may_have_left() { Verdict::Abandoned } else { Verdict::Unproven });
        }
    }
}

/// The key pairs in use, so that a pair that comes twice has one fuse.
#[derive(Debug, Default)]
pub(crate) struct KeyRing(Mutex<Vec<Weak<SigningKey>>>);

impl KeyRing {
    /// The pair itself, or the equal one that is in use already.
    pub(crate) fn share(&self, key: Arc<SigningKey>) -> Arc<SigningKey> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|key| key.strong_count() > 0);
        if let Some(known) = keys.iter().filter_map(Weak::upgrade).find(|known| *known == key) {
            return known;
        }
        keys.push(Arc::downgrade(&key));
        key
    }
}

#[cfg(test)]
#[cfg(feature = "model")]
mod model;
