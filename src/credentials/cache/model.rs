//! The cache in many orders of its steps: callers that ask and wait, credentials that are refused, fetches that end. It shares
//! no lock with other threads but that of `watch`, so that every interleaving is an order of whole steps, which a seed chooses
//! here on paused time.

use std::{
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::future::BoxFuture;
use http::HeaderValue;

use super::*;
use crate::telemetry::Metrics;

const ORDERS: u64 = 2_000;
const STEPS: usize = 40;

const TOGETHER: &str = "two fetches at once";
const RETIRED: &str = "a retired credential is given out";
const ASLEEP: &str = "a caller is not woken by the fetch that ends";

/// The cache as the scenario uses it.
trait Source: Send + Sync + 'static {
    fn new(cache: Cache) -> Self;
    fn cache(&self) -> &Cache;
    fn proof(self: Arc<Self>) -> BoxFuture<'static, Result<Proof, Missing>> {
        Box::pin(async move { self.cache().proof().await })
    }
    fn retire(&self, refused: &Proof) -> bool {
        self.cache().retire(refused)
    }
}

#[derive(Default)]
struct InFlight {
    now: AtomicUsize,
    /// The most fetches that another one has met.
    others: AtomicUsize,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Caller {
    asks: BoxFuture<'static, Result<Proof, Missing>>,
    woken: Arc<Woken>,
}

impl Caller {
    fn poll(&mut self) -> Poll<Result<Proof, Missing>> {
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        Pin::new(&mut self.asks).poll(&mut Context::from_waker(&waker))
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }
}

fn token(number: usize) -> Proof {
    Proof::Token(HeaderValue::from_str(&format!("token-{number}")).unwrap())
}

/// A cache before a service that takes half a second, and fails one time in four.
fn cache(in_flight: &Arc<InFlight>, rng: &Arc<Mutex<fastrand::Rng>>) -> Cache {
    let (in_flight, rng, number) = (Arc::clone(in_flight), Arc::clone(rng), Arc::new(AtomicUsize::new(0)));
    let fetch = move || {
        let (in_flight, rng, number) = (Arc::clone(&in_flight), Arc::clone(&rng), Arc::clone(&number));
        async move {
            // The task that fetches survives a panic, so that the scenario has to look at a number.
            let others = in_flight.now.fetch_add(1, Ordering::SeqCst);
            in_flight.others.fetch_max(others, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(500)).await;
            in_flight.now.fetch_sub(1, Ordering::SeqCst);
            if rng.lock().unwrap().u8(..4) == 0 {
                return Err(Failed::now("down".into()));
            }
            let proof = token(number.fetch_add(1, Ordering::SeqCst));
            Ok(Fresh { proof, life: Duration::from_secs(600) })
        }
    };
    Cache::start("a script", fetch, Metrics::default().credential("default"))
}

/// One order of steps.
async fn order<S: Source>(seed: u64) {
    let rng = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
    let in_flight = Arc::<InFlight>::default();
    let source = Arc::new(S::new(cache(&in_flight, &rng)));
    let mut callers: Vec<Caller> = Vec::new();
    let (mut given, mut retired): (Vec<Proof>, Vec<Proof>) = (Vec::new(), Vec::new());
    let choose = |range: usize| rng.lock().unwrap().usize(..range);
    for _ in 0..STEPS {
        match choose(6) {
            0 => {
                let asks = Arc::clone(&source).proof();
                callers.push(Caller { asks, woken: Arc::new(Woken(AtomicBool::new(true))) });
            }
            1 | 2 if !callers.is_empty() => {
                let at = choose(callers.len());
                if callers[at].is_woken()
                    && let Poll::Ready(answer) = callers[at].poll()
                {
                    drop(callers.swap_remove(at));
                    if let Ok(proof) = answer {
                        assert!(!retired.contains(&proof), "{RETIRED}");
                        given.push(proof);
                    }
                }
            }
            3 if !given.is_empty() => {
                let refused = given[choose(given.len())].clone();
                if source.retire(&refused) {
                    retired.push(refused);
                }
            }
            4 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(300) * u32::try_from(choose(20)).unwrap()).await,
        }
    }
    // The next fetches have ended by now, and one of them has succeeded or failed after each caller began to wait.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(in_flight.others.load(Ordering::SeqCst), 0, "{TOGETHER}");
    assert!(callers.iter().all(Caller::is_woken), "{ASLEEP}");
}

fn explore<S: Source>() {
    for seed in 0..ORDERS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(order::<S>(seed));
    }
}

fn finds<S: Source>(promise: &str) {
    let found = std::panic::catch_unwind(explore::<S>);
    let panic = found.expect_err("no order shows that the copy is broken");
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
    assert!(text.contains(promise), "the copy breaks something else: {text}");
}

struct Real(Cache);

impl Source for Real {
    fn new(cache: Cache) -> Self {
        Self(cache)
    }

    fn cache(&self) -> &Cache {
        &self.0
    }
}

#[test]
fn one_fetch_at_a_time_serves_all_callers_and_no_retired_credential() {
    explore::<Real>();
}

/// Asks for a fetch and leaves the refused credential in use until it ends.
struct Lenient(Cache);

impl Source for Lenient {
    fn new(cache: Cache) -> Self {
        Self(cache)
    }

    fn cache(&self) -> &Cache {
        &self.0
    }

    fn retire(&self, _: &Proof) -> bool {
        self.0.renew.notify_one();
        true
    }
}

#[test]
fn a_cache_that_leaves_a_refused_credential_in_use_is_found() {
    finds::<Lenient>(RETIRED);
}

/// Looks, and listens for changes only afterwards.
struct Deaf(Cache);

impl Source for Deaf {
    fn new(cache: Cache) -> Self {
        Self(cache)
    }

    fn cache(&self) -> &Cache {
        &self.0
    }

    fn proof(self: Arc<Self>) -> BoxFuture<'static, Result<Proof, Missing>> {
        Box::pin(async move {
            loop {
                let current = self.0.state.borrow().current.as_ref().map(|current| current.proof.clone());
                if let Some(proof) = current {
                    return Ok(proof);
                }
                // The fetch may end between the look and the subscription.
                tokio::task::yield_now().await;
                let _ = self.0.state.subscribe().changed().await;
            }
        })
    }
}

#[test]
fn a_cache_that_listens_after_it_looked_is_found() {
    finds::<Deaf>(ASLEEP);
}

/// Fetches on the caller's own time when it finds none.
struct Eager(Cache, AtomicUsize);

impl Source for Eager {
    fn new(cache: Cache) -> Self {
        Self(cache, AtomicUsize::new(0))
    }

    fn cache(&self) -> &Cache {
        &self.0
    }

    fn proof(self: Arc<Self>) -> BoxFuture<'static, Result<Proof, Missing>> {
        Box::pin(async move {
            if self.0.state.borrow().current.is_none() {
                assert_eq!(self.1.fetch_add(1, Ordering::SeqCst), 0, "{TOGETHER}");
                tokio::time::sleep(Duration::from_millis(500)).await;
                self.1.fetch_sub(1, Ordering::SeqCst);
            }
            self.0.proof().await
        })
    }
}

#[test]
fn a_cache_that_fetches_for_each_caller_is_found() {
    finds::<Eager>(TOGETHER);
}
