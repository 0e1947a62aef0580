//! Model checking, for `just model`: runs a scenario in thousands of interleavings of its threads and tasks. The scenarios are
//! beside the code that they check, in modules named `model`.
//!
//! A scenario checks the invariants of one type. It runs with the type itself, where every interleaving has to keep them, and
//! with broken copies of the type, where the checker has to find a violation: otherwise the scenario proves nothing.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    scheduler::{PctScheduler, RandomScheduler},
};
use tokio::time::Instant;

/// Interleavings of each scenario and each scheduler.
const ITERATIONS: usize = 2_000;

/// A fixed seed, for the same interleavings in each run. A failure prints its schedule, for `shuttle::replay`.
const SEED: u64 = 0x5eed;

/// Preemptions at chosen places in one interleaving. Most races need one or two.
const PCT_DEPTH: usize = 3;

/// Runs a scenario in many interleavings; panics if one violates an invariant.
pub(crate) fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    run(&Arc::new(scenario), FailurePersistence::Print);
}

/// Runs a scenario with a broken copy.
///
/// # Panics
///
/// No interleaving violates the invariant, or another panic comes first.
pub(crate) fn finds(promise: &str, scenario: impl Fn() + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    let found = catch_unwind(AssertUnwindSafe(|| run(&scenario, FailurePersistence::None)));
    let panic = found.expect_err("no interleaving shows that the copy is broken");
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    assert!(text.contains(promise), "the copy breaks something else: {text}");
}

fn run(scenario: &Arc<impl Fn() + Send + Sync + 'static>, failures: FailurePersistence) {
    let mut config = Config::new();
    config.stack_size = 0x20_000;
    config.failure_persistence = failures;
    config.max_steps = MaxSteps::FailAfter(20_000);
    let random = Arc::clone(scenario);
    Runner::new(RandomScheduler::new_from_seed(SEED, ITERATIONS), config.clone()).run(move || random());
    let pct = Arc::clone(scenario);
    Runner::new(PctScheduler::new_from_seed(SEED, PCT_DEPTH, ITERATIONS), config).run(move || pct());
}

/// Polls a future once, as a runtime does first.
pub(crate) fn poll_once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// A clock that a scenario advances. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Time(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: Instant,
    sleepers: Vec<(Instant, Waker)>,
}

impl Time {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { now: Instant::now(), sleepers: Vec::new() })))
    }

    /// The current time. Reading it is a separate step, between two steps of other threads.
    pub(crate) fn now(&self) -> Instant {
        shuttle::thread::yield_now();
        self.lock().now
    }

    /// Advances the time and wakes the sleepers that are due.
    pub(crate) fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.now += by;
        let now = state.now;
        let due: Vec<_> = state.sleepers.extract_if(.., |(until, _)| *until <= now).collect();
        drop(state);
        for (_, waker) in due {
            waker.wake();
        }
    }

    pub(crate) async fn sleep(&self, delay: Duration) {
        let until = self.lock().now + delay;
        poll_fn(|context| {
            let mut state = self.lock();
            if state.now >= until {
                return Poll::Ready(());
            }
            state.sleepers.push((until, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// A lock that no other thread can contend: there is no switching point while it is held.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
