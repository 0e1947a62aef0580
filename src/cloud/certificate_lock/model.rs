use std::{
    future::Future,
    pin::Pin,
    sync::{
        Mutex as Log,
        atomic::{AtomicUsize, Ordering},
    },
};

use shuttle::future::{block_on, spawn, yield_now};

use super::*;
use crate::model::{explore, finds, poll_once};

const TOGETHER: &str = "two calls change one certificate at once";
const LEAKED: &str = "an entry is left behind";
const OVERTAKEN: &str = "a later call comes first";
const TOO_LONG: &str = "more calls wait than may";

/// Calls of one caller, which may fill the queue.
const ALONE: Waiter = Waiter { caller: 1, share: LONGEST_QUEUE };

type Job = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The locks as the scenarios use them.
trait Lock: Send + Sync + 'static {
    fn new() -> Self;
    /// Runs the work under the certificate's lock; `false` if the queue is full.
    fn hold(self: Arc<Self>, key: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Job;
    fn entries(&self) -> usize;
}

impl Lock for CertificateLocks {
    fn new() -> Self {
        Self::default()
    }

    fn hold(self: Arc<Self>, key: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Job {
        Box::pin(async move {
            let Ok(_lock) = self.take("p", &key.split('+').collect::<Vec<_>>(), ALONE).await else { return false };
            work.await;
            true
        })
    }

    fn entries(&self) -> usize {
        self.queues.lock().unwrap().len()
    }
}

/// Work that finds out whether another call is at work on the same certificate.
async fn alone(inside: Arc<AtomicUsize>) {
    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "{TOGETHER}");
    yield_now().await;
    inside.fetch_sub(1, Ordering::SeqCst);
}

/// Calls on one certificate and on another; two of them leave while they wait or work.
fn exclusion<L: Lock>() {
    block_on(async {
        let locks = Arc::new(L::new());
        let inside = Arc::new(AtomicUsize::new(0));
        let elsewhere = Arc::new(AtomicUsize::new(0));
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(spawn(Arc::clone(&locks).hold("one", alone(Arc::clone(&inside)))));
        }
        calls.push(spawn(Arc::clone(&locks).hold("other", alone(elsewhere))));
        for _ in 0..2 {
            let mut leaves = Arc::clone(&locks).hold("one", std::future::pending());
            calls.push(spawn(async move {
                let _ = poll_once(&mut leaves);
                yield_now().await;
                true
            }));
        }
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(locks.entries(), 0, "{LEAKED}");
    });
}

/// Calls that wait in a known order, beside one that comes and goes.
fn order<L: Lock>() {
    block_on(async {
        let locks = Arc::new(L::new());
        let log = Arc::new(Log::new(Vec::new()));
        let open = Arc::new(Semaphore::new(0));
        let first = {
            let open = Arc::clone(&open);
            async move { drop(open.acquire().await) }
        };
        let mut first = Arc::clone(&locks).hold("one", first);
        assert!(poll_once(&mut first).is_pending());
        let mut calls = vec![spawn(first)];
        for number in [1, 2] {
            let log = Arc::clone(&log);
            let mut waits = Arc::clone(&locks).hold("one", async move { log.lock().unwrap().push(number) });
            assert!(poll_once(&mut waits).is_pending());
            calls.push(spawn(waits));
        }
        let mut leaves = Arc::clone(&locks).hold("one", std::future::pending());
        calls.push(spawn(async move {
            let _ = poll_once(&mut leaves);
            true
        }));
        open.add_permits(1);
        for call in calls {
            assert!(call.await.unwrap(), "there is room for all");
        }
        assert_eq!(*log.lock().unwrap(), [1, 2], "{OVERTAKEN}");
        assert_eq!(locks.entries(), 0, "{LEAKED}");
    });
}

/// More calls than may wait, all at once.
fn bound<L: Lock>() {
    block_on(async {
        let locks = Arc::new(L::new());
        let open = Arc::new(Semaphore::new(0));
        let (refused, waiting) = (Arc::new(AtomicUsize::new(0)), LONGEST_QUEUE + 3);
        let calls: Vec<_> = (0..waiting)
            .map(|_| {
                let (locks, open, refused) = (Arc::clone(&locks), Arc::clone(&open), Arc::clone(&refused));
                spawn(async move {
                    let work = async move { drop(open.acquire().await) };
                    if !locks.hold("one", work).await {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        while refused.load(Ordering::SeqCst) < 2 {
            yield_now().await;
        }
        open.add_permits(1);
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(refused.load(Ordering::SeqCst), 2, "{TOO_LONG}, or fewer");
        assert_eq!(locks.entries(), 0, "{LEAKED}");
    });
}

/// Calls on several certificates in different orders, one of which leaves: all others end.
fn several<L: Lock>() {
    block_on(async {
        let locks = Arc::new(L::new());
        let inside = Arc::new(AtomicUsize::new(0));
        let mut calls = Vec::new();
        for key in ["one+other", "other+one", "one"] {
            // "one" is in each of them.
            calls.push(spawn(Arc::clone(&locks).hold(key, alone(Arc::clone(&inside)))));
        }
        let mut leaves = Arc::clone(&locks).hold("other+one", std::future::pending());
        calls.push(spawn(async move {
            let _ = poll_once(&mut leaves);
            true
        }));
        for call in calls {
            assert!(call.await.unwrap(), "there is room for all");
        }
        assert_eq!(locks.entries(), 0, "{LEAKED}");
    });
}

#[test]
fn calls_on_several_certificates_never_wait_for_each_other() {
    explore(several::<CertificateLocks>);
}

#[test]
fn one_call_at_a_time_changes_a_certificate() {
    explore(exclusion::<CertificateLocks>);
}

#[test]
fn calls_on_one_certificate_keep_their_order() {
    explore(order::<CertificateLocks>);
}

#[test]
fn a_queue_holds_no_more_than_it_may() {
    explore(bound::<CertificateLocks>);
}

/// Removes a certificate's entry with the call that holds the lock, although others wait.
#[derive(Default)]
struct RemovesEarly(CertificateLocks);

impl Lock for RemovesEarly {
    fn new() -> Self {
        Self::default()
    }

    fn hold(self: Arc<Self>, key: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Job {
        Box::pin(async move {
            let Ok(_lock) = self.0.take("p", &[key], ALONE).await else { return false };
            work.await;
            self.0.queues.lock().unwrap().remove(&self.0.hasher.hash_one(("p", key)));
            true
        })
    }

    fn entries(&self) -> usize {
        self.0.entries()
    }
}

#[test]
fn locks_that_forget_waiting_calls_are_found() {
    finds(TOGETHER, exclusion::<RemovesEarly>);
}

/// Gives a place back only if its call had its turn.
#[derive(Default)]
struct Leaks(CertificateLocks);

impl Lock for Leaks {
    fn new() -> Self {
        Self::default()
    }

    fn hold(self: Arc<Self>, key: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Job {
        Box::pin(async move {
            let key = self.0.hasher.hash_one(("p", key));
            let Ok((entry, certificate_lock)) = self.0.enter(key, ALONE) else { return false };
            let entry = std::mem::ManuallyDrop::new(entry);
            let permit = certificate_lock.acquire_owned().await.unwrap();
            work.await;
            drop(permit);
            drop(std::mem::ManuallyDrop::into_inner(entry));
            true
        })
    }

    fn entries(&self) -> usize {
        self.0.entries()
    }
}

#[test]
fn locks_that_keep_the_places_of_calls_that_left_are_found() {
    finds(LEAKED, exclusion::<Leaks>);
}

/// Tries again and again in place of a queue.
#[derive(Default)]
struct Spins(Mutex<bool>);

struct ManagedCredential<'a>(&'a Mutex<bool>);

impl Drop for ManagedCredential<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = false;
    }
}

impl Lock for Spins {
    fn new() -> Self {
        Self::default()
    }

    fn hold(self: Arc<Self>, _: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Job {
        Box::pin(async move {
            while std::mem::replace(&mut *self.0.lock().unwrap(), true) {
                yield_now().await;
            }
            let _held = ManagedCredential(&self.0);
            work.await;
            true
        })
    }

    fn entries(&self) -> usize {
        0
    }
}

#[test]
fn locks_without_an_order_are_found() {
    finds(OVERTAKEN, order::<Spins>);
}

/// Counts the calls and enters in two steps.
#[derive(Default)]
struct CountsFirst(CertificateLocks);

impl Lock for CountsFirst {
    fn new() -> Self {
        Self::default()
    }

    fn hold(self: Arc<Self>, key: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Job {
        Box::pin(async move {
            let key = self.0.hasher.hash_one(key);
            if self.0.queues.lock().unwrap().get(&key).is_some_and(|queue| queue.calls > LONGEST_QUEUE) {
                return false;
            }
            let certificate_lock = {
                let mut queues = self.0.queues.lock().unwrap();
                let queue = queues.entry(key).or_insert_with(|| Queue {
                    certificate_lock: Arc::new(Semaphore::new(1)),
                    calls: 0,
                    by_caller: Vec::new(),
                });
                queue.calls += 1;
                assert!(queue.calls <= LONGEST_QUEUE + 1, "{TOO_LONG}");
                Arc::clone(&queue.certificate_lock)
            };
            let _entry = QueueEntry { locks: &self.0, key, caller: None };
            let _permit = certificate_lock.acquire_owned().await.unwrap();
            work.await;
            true
        })
    }

    fn entries(&self) -> usize {
        self.0.entries()
    }
}

#[test]
fn locks_that_count_before_they_enter_are_found() {
    finds(TOO_LONG, bound::<CountsFirst>);
}
