use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{Mutex, atomic::Ordering},
};

use http::HeaderValue;
use shuttle::future::{JoinHandle, block_on, spawn, yield_now};
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::{
    model::{explore, finds, poll_once},
    sync::AtomicUsize,
    telemetry::Metrics,
};

const TOGETHER: &str = "two fetches are in flight";
const AGAIN: &str = "a retired credential is handed out again";
/// The checker's message for a deadlock.
const NOT_WOKEN: &str = "deadlock";

/// Longer than any scenario.
const LIFE: Duration = Duration::from_secs(1_000_000);

/// Old enough to be retired after any number of early refusals.
const OLD: Duration = Duration::from_secs(600);

type Asked = Pin<Box<dyn Future<Output = Result<Credential, CredentialError>> + Send>>;

/// A source of numbered tokens that must not be called concurrently.
#[derive(Default)]
struct Iam {
    in_flight: AtomicUsize,
    fetches: AtomicUsize,
}

impl Iam {
    async fn fetch(&self) -> Fetched {
        assert_eq!(self.in_flight.fetch_add(1, Ordering::SeqCst), 0, "{TOGETHER}");
        let number = self.fetches.fetch_add(1, Ordering::SeqCst);
        yield_now().await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        let credential = Credential::Token(HeaderValue::from_str(&format!("token-{number}")).unwrap());
        Fetched { credential, life: LIFE }
    }
}

/// The operations of a cache in the scenarios.
trait Provide: Send + Sync + 'static {
    fn new(cache: Cache, iam: Arc<Iam>) -> Self;
    fn ask(self: Arc<Self>) -> Asked;
    fn retire(&self, refused: &Credential) -> bool;
}

impl Provide for Cache {
    fn new(cache: Cache, _: Arc<Iam>) -> Self {
        cache
    }

    fn ask(self: Arc<Self>) -> Asked {
        Box::pin(async move { self.credential().await })
    }

    fn retire(&self, refused: &Credential) -> bool {
        self.retire(refused)
    }
}

/// A cache with its fetching task as a task of the checker. The runtime only provides a paused clock.
struct Scene<P> {
    cache: Arc<P>,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl<P: Provide> Scene<P> {
    /// Starts the task. If the source is down, each fetch fails.
    fn begin(runtime: &Runtime, is_down: bool) -> Self {
        let (state, renew, stop) = (watch::Sender::new(State::default()), Arc::default(), Arc::new(Notify::new()));
        let renewal = Renewal {
            source: "a model".into(),
            state: state.clone(),
            renew: Arc::clone(&renew),
            renewals: Metrics::default().credential("default"),
        };
        let (iam, stopped) = (Arc::new(Iam::default()), Arc::clone(&stop));
        let asked = Arc::clone(&iam);
        let fetch = move || {
            let iam = Arc::clone(&asked);
            async move {
                let fresh = iam.fetch().await;
                if is_down { Err(Failed::temporary("down".into())) } else { Ok(fresh) }
            }
        };
        let task = spawn(async move {
            tokio::select! {
                () = renewal.run(&fetch) => {}
                () = stopped.notified() => {}
            }
        });
        let cache = Cache { state, renew, _renewing: AbortOnDropHandle::new(runtime.spawn(pending())) };
        Self { cache: Arc::new(P::new(cache, iam)), stop, task }
    }

    async fn end(self) {
        self.stop.notify_one();
        self.task.await.unwrap();
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Callers that arrive before the first fetch has ended. Each gets its result.
fn first<P: Provide>(is_down: bool) {
    let runtime = runtime();
    let _clock = runtime.enter();
    block_on(async {
        let scene = Scene::<P>::begin(&runtime, is_down);
        let callers: Vec<_> = (0..3).map(|_| spawn(Arc::clone(&scene.cache).ask())).collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap().is_err(), is_down);
        }
        scene.end().await;
    });
}

/// Callers that see their credentials refused, again and again.
fn refused<P: Provide>() {
    let runtime = runtime();
    let _clock = runtime.enter();
    block_on(async {
        let scene = Scene::<P>::begin(&runtime, false);
        let retired = Arc::new(Mutex::new(Vec::new()));
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (cache, retired) = (Arc::clone(&scene.cache), Arc::clone(&retired));
                spawn(async move {
                    for _ in 0..2 {
                        let before = retired.lock().unwrap().clone();
                        let credential = Arc::clone(&cache).ask().await.unwrap();
                        assert!(!before.contains(&credential), "{AGAIN}");
                        assert!(poll_once(&mut Box::pin(tokio::time::advance(OLD))).is_pending());
                        yield_now().await;
                        if cache.retire(&credential) {
                            retired.lock().unwrap().push(credential);
                        }
                    }
                    // The last retired credential has a successor too.
                    Arc::clone(&cache).ask().await.unwrap();
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        scene.end().await;
    });
}

#[test]
fn callers_wait_for_one_fetch_and_hear_of_its_end() {
    explore(|| first::<Cache>(false));
}

#[test]
fn callers_hear_of_a_fetch_that_failed() {
    explore(|| first::<Cache>(true));
}

#[test]
fn a_retired_credential_is_replaced_and_never_handed_out_again() {
    explore(refused::<Cache>);
}

/// Fetches for each caller that finds no credential.
struct FetchesItself(Cache, Arc<Iam>);

impl Provide for FetchesItself {
    fn new(cache: Cache, iam: Arc<Iam>) -> Self {
        Self(cache, iam)
    }

    fn ask(self: Arc<Self>) -> Asked {
        Box::pin(async move {
            let current = self.0.state.borrow().current.as_ref().map(|current| current.credential.clone());
            match current {
                Some(credential) => Ok(credential),
                None => Ok(self.1.fetch().await.credential),
            }
        })
    }

    fn retire(&self, refused: &Credential) -> bool {
        self.0.retire(refused)
    }
}

#[test]
fn a_cache_that_fetches_for_each_caller_is_found() {
    finds(TOGETHER, || first::<FetchesItself>(false));
}

/// Keeps a second copy of the credential for callers.
struct Remembers(Cache, Mutex<Option<Credential>>);

impl Provide for Remembers {
    fn new(cache: Cache, _: Arc<Iam>) -> Self {
        Self(cache, Mutex::default())
    }

    fn ask(self: Arc<Self>) -> Asked {
        Box::pin(async move {
            let last = self.1.lock().unwrap().clone();
            if let Some(credential) = last {
                return Ok(credential);
            }
            let credential = self.0.credential().await?;
            preemption_point();
            *self.1.lock().unwrap() = Some(credential.clone());
            Ok(credential)
        })
    }

    fn retire(&self, refused: &Credential) -> bool {
        self.1.lock().unwrap().take_if(|last| last == refused);
        self.0.retire(refused)
    }
}

#[test]
fn a_cache_that_remembers_a_retired_credential_is_found() {
    finds(AGAIN, refused::<Remembers>);
}

/// Subscribes to the end of a fetch only after finding no credential.
struct ListensLate(Cache);

impl Provide for ListensLate {
    fn new(cache: Cache, _: Arc<Iam>) -> Self {
        Self(cache)
    }

    fn ask(self: Arc<Self>) -> Asked {
        Box::pin(async move {
            loop {
                let current = self.0.state.borrow().current.as_ref().map(|current| current.credential.clone());
                if let Some(credential) = current {
                    return Ok(credential);
                }
                preemption_point();
                let _ = self.0.state.subscribe().changed().await;
            }
        })
    }

    fn retire(&self, refused: &Credential) -> bool {
        self.0.retire(refused)
    }
}

#[test]
fn a_cache_that_misses_the_end_of_a_fetch_is_found() {
    finds(NOT_WOKEN, || first::<ListensLate>(false));
}

/// Notifies the task of a retired credential only if the task is waiting at that moment.
struct TellsOnlyWaiting(Cache);

impl Provide for TellsOnlyWaiting {
    fn new(cache: Cache, _: Arc<Iam>) -> Self {
        Self(cache)
    }

    fn ask(self: Arc<Self>) -> Asked {
        Box::pin(async move { self.0.credential().await })
    }

    fn retire(&self, refused: &Credential) -> bool {
        let is_current = |state: &mut State| state.current.take_if(|current| current.credential == *refused).is_some();
        let is_retired = self.0.state.send_if_modified(is_current);
        if is_retired {
            self.0.renew.notify_waiters();
        }
        is_retired
    }
}

#[test]
fn a_cache_with_a_task_that_misses_a_retired_credential_is_found() {
    finds(NOT_WOKEN, refused::<TellsOnlyWaiting>);
}
