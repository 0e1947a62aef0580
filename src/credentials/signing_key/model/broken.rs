//! Broken copies, in which the checker has to find the violation.

use tokio::sync::Notify;

use super::*;
use crate::{model::finds, sync::AtomicBool};

/// The bare pair, for copies with different waiting or ending.
struct Alone(Arc<SigningKey>);

impl Alone {
    fn new() -> Self {
        Self(Arc::new(SigningKey::new(keys())))
    }

    async fn ask(&self, sent: fn() -> Sent) -> Option<SigningPermit> {
        loop {
            let mut changes = self.0.changes();
            match self.0.admit() {
                Decision::Admitted(pass) => return Some(self.0.permit(pass, sent())),
                Decision::Wait(_) => drop(changes.changed().await),
                Decision::Open(_) => return None,
            }
        }
    }
}

/// Checks whether a request is in flight, and takes the pass in a second step.
struct LooksFirst(Alone, AtomicBool);

impl Sign for LooksFirst {
    fn new() -> Self {
        Self(Alone::new(), AtomicBool::new(false))
    }

    fn key(&self) -> &Arc<SigningKey> {
        &self.0.0
    }

    fn ask(self: Arc<Self>, sent: fn() -> Sent) -> Asked {
        Box::pin(async move {
            while self.1.load(Ordering::SeqCst) {
                yield_now().await;
            }
            self.1.store(true, Ordering::SeqCst);
            Some(self.key().permit(Pass::Single, sent()))
        })
    }

    fn end(&self, permit: SigningPermit, _: Option<Verdict>) {
        drop(permit);
        self.1.store(false, Ordering::SeqCst);
    }
}

#[test]
fn a_pair_that_looks_before_it_admits_is_found() {
    finds(TOGETHER, nothing_proven::<LooksFirst>);
}

/// Returns the pass, and counts the refusal in a second step.
struct CountsLate(Alone);

impl Sign for CountsLate {
    fn new() -> Self {
        Self(Alone::new())
    }

    fn key(&self) -> &Arc<SigningKey> {
        &self.0.0
    }

    fn ask(self: Arc<Self>, sent: fn() -> Sent) -> Asked {
        Box::pin(async move { self.0.ask(sent).await })
    }

    fn end(&self, permit: SigningPermit, verdict: Option<Verdict>) {
        match verdict {
            Some(Verdict::Refused) => {
                permit.settle(Verdict::Unproven, None);
                self.key().settle(Pass::Shared, Verdict::Refused);
            }
            Some(verdict) => permit.settle(verdict, None),
            None => drop(permit),
        }
    }
}

#[test]
fn a_pair_that_counts_refusals_late_is_found() {
    finds(A_THIRD, wrong_secret::<CountsLate>);
    finds(A_THIRD, suspect_pair::<CountsLate>);
}

/// Checks the fuse of a trusted pair once, and trusts it from then on.
struct Trusting(Alone, AtomicBool);

impl Sign for Trusting {
    fn new() -> Self {
        Self(Alone::new(), AtomicBool::new(false))
    }

    fn key(&self) -> &Arc<SigningKey> {
        &self.0.0
    }

    fn ask(self: Arc<Self>, sent: fn() -> Sent) -> Asked {
        Box::pin(async move {
            if self.1.load(Ordering::SeqCst) {
                return Some(self.key().permit(Pass::Shared, sent()));
            }
            let permit = self.0.ask(sent).await;
            // No task switch is allowed while the fuse is borrowed.
            let is_trusted = self.key().fuse.borrow().is_trusted();
            self.1.store(is_trusted, Ordering::SeqCst);
            permit
        })
    }
}

#[test]
fn a_pair_that_stays_trusted_is_found() {
    finds(A_THIRD, trusted_pair::<Trusting>);
}

/// Subscribes to changes only after being told to wait.
struct ListensLate(Alone);

impl Sign for ListensLate {
    fn new() -> Self {
        Self(Alone::new())
    }

    fn key(&self) -> &Arc<SigningKey> {
        &self.0.0
    }

    fn ask(self: Arc<Self>, sent: fn() -> Sent) -> Asked {
        Box::pin(async move {
            loop {
                match self.key().admit() {
                    Decision::Admitted(pass) => return Some(self.key().permit(pass, sent())),
                    Decision::Wait(_) => {
                        preemption_point();
                        drop(self.key().changes().changed().await);
                    }
                    Decision::Open(_) => return None,
                }
            }
        })
    }
}

#[test]
fn a_pair_that_misses_a_change_is_found() {
    finds(WEDGED, nothing_proven::<ListensLate>);
}

/// Keeps the pass of a cancelled call.
struct Keeps(Alone);

impl Sign for Keeps {
    fn new() -> Self {
        Self(Alone::new())
    }

    fn key(&self) -> &Arc<SigningKey> {
        &self.0.0
    }

    fn ask(self: Arc<Self>, sent: fn() -> Sent) -> Asked {
        Box::pin(async move { self.0.ask(sent).await })
    }

    fn end(&self, mut permit: SigningPermit, verdict: Option<Verdict>) {
        match verdict {
            Some(verdict) => permit.settle(verdict, None),
            None => permit.pass = Pass::Shared,
        }
    }
}

#[test]
fn a_pair_that_keeps_the_passes_of_callers_that_left_is_found() {
    finds(WEDGED, nothing_proven::<Keeps>);
}

/// Notifies one waiting call of a change, not all.
struct TellsOne(Alone, Notify);

impl Sign for TellsOne {
    fn new() -> Self {
        Self(Alone::new(), Notify::new())
    }

    fn key(&self) -> &Arc<SigningKey> {
        &self.0.0
    }

    fn ask(self: Arc<Self>, sent: fn() -> Sent) -> Asked {
        Box::pin(async move {
            loop {
                match self.key().admit() {
                    Decision::Admitted(pass) => return Some(self.key().permit(pass, sent())),
                    Decision::Wait(_) => self.1.notified().await,
                    Decision::Open(_) => return None,
                }
            }
        })
    }

    fn end(&self, permit: SigningPermit, verdict: Option<Verdict>) {
        match verdict {
            Some(verdict) => permit.settle(verdict, None),
            None => drop(permit),
        }
        self.1.notify_one();
    }
}

#[test]
fn a_pair_that_releases_one_call_is_found() {
    finds(WEDGED, release::<TellsOne>);
}
