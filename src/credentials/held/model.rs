//! The turns of a key pair: the real `Held` with its fuse, and broken copies.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use shuttle::{future::block_on, thread};

use super::*;
use crate::{
    credentials::{Keys, Verdict},
    model::{explore, finds},
};

const TOGETHER: &str = "two signatures of an unproven pair at once";
const THIRD: &str = "a third signature after two refusals";
/// The checker's own word for tasks that wait for ever.
const WEDGED: &str = "deadlock";

/// A key pair without an accepted signature, as the scenarios use it.
trait Pair: Send + Sync + 'static {
    type Turn: Send;

    fn new() -> Self;
    /// Waits for the turn to sign; `None` once signing has stopped.
    fn turn(&self) -> BoxFuture<'_, Option<Self::Turn>>;
    fn settle(&self, turn: Self::Turn, verdict: Verdict);
    /// The caller leaves before its answer.
    fn abandon(&self, turn: Self::Turn);
}

struct Real(Arc<Held>);

impl Pair for Real {
    type Turn = Grant;

    fn new() -> Self {
        let kind = Kind::Keys(Keys::new("AKEXAMPLE", "secret", None).unwrap());
        Self(Held::start(kind, "default", &Arc::default(), &Arc::default()).unwrap())
    }

    fn turn(&self) -> BoxFuture<'_, Option<Grant>> {
        Box::pin(async { self.0.grant(&|| Sent::Unknown).await.ok() })
    }

    fn settle(&self, turn: Grant, verdict: Verdict) {
        turn.settle(verdict, None);
    }

    fn abandon(&self, turn: Grant) {
        drop(turn);
    }
}

/// Four callers, two calls each, and every signature is refused.
fn refusals<P: Pair>() {
    let pair = Arc::new(P::new());
    let (in_flight, sent) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (pair, in_flight, sent) = (Arc::clone(&pair), Arc::clone(&in_flight), Arc::clone(&sent));
            thread::spawn(move || {
                for _ in 0..2 {
                    let Some(turn) = block_on(pair.turn()) else { return };
                    assert_eq!(in_flight.fetch_add(1, Ordering::SeqCst), 0, "{TOGETHER}");
                    assert!(sent.fetch_add(1, Ordering::SeqCst) < 2, "{THIRD}");
                    thread::yield_now();
                    in_flight.fetch_sub(1, Ordering::SeqCst);
                    pair.settle(turn, Verdict::Refused);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
}

/// Two callers leave before their answers, two are accepted, and all come to their turn.
fn departures<P: Pair>() {
    let pair = Arc::new(P::new());
    let callers: Vec<_> = [true, true, false, false]
        .into_iter()
        .map(|leaves| {
            let pair = Arc::clone(&pair);
            thread::spawn(move || {
                let turn = block_on(pair.turn()).expect("nothing was refused");
                thread::yield_now();
                if leaves {
                    pair.abandon(turn);
                } else {
                    pair.settle(turn, Verdict::Accepted);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn an_unproven_pair_signs_one_by_one_and_stops_after_two_refusals() {
    explore(refusals::<Real>);
}

#[test]
fn a_caller_that_leaves_passes_the_turn_on() {
    explore(departures::<Real>);
}

/// A turn of its own making, with the two faults that a turn can have.
#[derive(Default)]
struct Copy<const LOOKS_FIRST: bool> {
    is_taken: AtomicBool,
    refusals: AtomicU32,
}

impl<const LOOKS_FIRST: bool> Pair for Copy<LOOKS_FIRST> {
    type Turn = ();

    fn new() -> Self {
        Self::default()
    }

    fn turn(&self) -> BoxFuture<'_, Option<()>> {
        Box::pin(async {
            loop {
                if self.refusals.load(Ordering::SeqCst) >= 2 {
                    return None;
                }
                if LOOKS_FIRST {
                    // Another caller may look before this one takes.
                    if !self.is_taken.load(Ordering::SeqCst) {
                        thread::yield_now();
                        self.is_taken.store(true, Ordering::SeqCst);
                        return Some(());
                    }
                } else if !self.is_taken.swap(true, Ordering::SeqCst) {
                    return Some(());
                }
                thread::yield_now();
            }
        })
    }

    fn settle(&self, (): (), verdict: Verdict) {
        // The turn is free before the refusal counts.
        self.is_taken.store(false, Ordering::SeqCst);
        thread::yield_now();
        if verdict == Verdict::Refused {
            self.refusals.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn abandon(&self, (): ()) {
        self.is_taken.store(false, Ordering::SeqCst);
    }
}

#[test]
fn a_pair_that_looks_before_it_takes_a_turn_is_found() {
    finds(TOGETHER, refusals::<Copy<true>>);
}

#[test]
fn a_pair_that_counts_a_refusal_late_is_found() {
    finds(THIRD, refusals::<Copy<false>>);
}

/// Keeps the turn of a caller that left.
struct Keeps(Real);

impl Pair for Keeps {
    type Turn = Grant;

    fn new() -> Self {
        Self(Real::new())
    }

    fn turn(&self) -> BoxFuture<'_, Option<Grant>> {
        self.0.turn()
    }

    fn settle(&self, turn: Grant, verdict: Verdict) {
        self.0.settle(turn, verdict);
    }

    fn abandon(&self, turn: Grant) {
        std::mem::forget(turn);
    }
}

#[test]
fn a_turn_that_a_departed_caller_keeps_is_found() {
    finds(WEDGED, departures::<Keeps>);
}
