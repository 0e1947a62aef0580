//! An access key pair with its fuse, shared by all identities and requests that sign with it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info, warn};

use super::{
    fuse::{Decision, Fuse, Pass, Position, Verdict},
    keys::Keys,
};
use crate::{call::Progress, sync::preemption_point};

/// A key pair that signs requests. Compared by its keys.
#[derive(Debug)]
pub(crate) struct SigningKey {
    keys: Keys,
    fuse: watch::Sender<Fuse>,
    /// The cloud's error code of the last refusal.
    code: Mutex<Option<String>>,
    /// The identities that sign with the pair, and their gauges.
    gauges: Mutex<Vec<(String, Gauge)>>,
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl Eq for SigningKey {}

/// The right to send one request signed with a key pair. Dropping it without a verdict counts the request as abandoned if it
/// was sent.
#[derive(Debug)]
pub(crate) struct SigningPermit {
    key: Arc<SigningKey>,
    pass: Pass,
    sent: Sent,
}

/// Tells whether the request of a permit was sent.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Sent once the call has made more than this number of attempts.
    After(Arc<Progress>, u32),
    /// Assumed to be sent.
    Unknown,
}

impl Sent {
    /// For the next attempt of a call.
    pub(crate) fn after(progress: &Arc<Progress>) -> Self {
        Self::After(Arc::clone(progress), progress.attempts())
    }

    fn may_be_sent(&self) -> bool {
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

    /// Asks the fuse for a pass for one request.
    pub(crate) fn admit(&self) -> Decision {
        preemption_point();
        // Fast path without an exclusive lock.
        if self.fuse.borrow().is_trusted() {
            return Decision::Admitted(Pass::Shared);
        }
        preemption_point();
        let mut decision = Decision::Wait(None);
        self.fuse.send_if_modified(|fuse| {
            let before = fuse.position();
            decision = fuse.admit(Instant::now());
            if before != fuse.position() {
                self.show(fuse.position());
            }
            // No wake-up: waiting requests still have to wait for the admitted one.
            false
        });
        decision
    }

    /// A permit for a pass of [`admit`](Self::admit).
    pub(crate) fn permit(self: &Arc<Self>, pass: Pass, sent: Sent) -> SigningPermit {
        SigningPermit { key: Arc::clone(self), pass, sent }
    }

    /// Subscribes to changes after which a waiting request should ask again.
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
            // The state of a trusted pair does not change; skipping the lock matters because many requests end at once.
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
                // Under the lock, so that the gauge shows the last change.
                self.show(after);
            }
        });
        let Some(moved) = moved else { return };
        let identities = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        let identities: Vec<&str> = identities.iter().map(|(name, _)| name.as_str()).collect();
        match moved {
            (_, Position::Closed) => info!(?identities, "the cloud accepts the key pair's signatures again"),
            (Position::Closed, _) => {
                warn!(?identities, "the cloud refused the key pair's signatures; signing is suspended");
            }
            // At debug level, because during an outage each call may probe.
            _ => debug!(?identities, "a probe did not close the key pair's fuse"),
        }
    }

    fn show(&self, position: Position) {
        for (_, gauge) in &*self.gauges.lock().unwrap_or_else(PoisonError::into_inner) {
            gauge.set(position as i64);
        }
    }

    /// Shows the fuse's position in the gauge of an identity.
    pub(crate) fn show_as(&self, identity: &str, gauge: Gauge) {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.retain(|(name, _)| name != identity);
        gauges.push((identity.to_owned(), gauge));
        drop(gauges);
        self.show(self.fuse.borrow().position());
    }

    /// Undoes [`show_as`](Self::show_as) when the identity gets another credential.
    pub(crate) fn hide(&self, identity: &str) {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, _)| name != identity);
    }
}

impl SigningPermit {
    /// Returns the permit with the outcome of its request; `code` is the cloud's error code.
    pub(crate) fn settle(mut self, verdict: Verdict, code: Option<&str>) {
        if verdict == Verdict::Refused {
            *self.key.code.lock().unwrap_or_else(PoisonError::into_inner) = code.map(str::to_owned);
        }
        self.give_back(verdict);
        // Dropping a shared pass has no effect.
        self.pass = Pass::Shared;
    }

    fn give_back(&self, verdict: Verdict) {
        self.key.settle(self.pass, verdict);
    }
}

impl Drop for SigningPermit {
    fn drop(&mut self) {
        if self.pass != Pass::Shared {
            self.give_back(if self.sent.may_be_sent() { Verdict::Abandoned } else { Verdict::Unproven });
        }
    }
}

/// The key pairs in use. Equal pairs share one fuse.
#[derive(Debug, Default)]
pub(crate) struct KeyRing(Mutex<Vec<Weak<SigningKey>>>);

impl KeyRing {
    /// The equal pair in use, or else the given one.
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
