//! One change of a certificate at a time: calls on the same certificate take turns, in the order in which they came.
//! Calls on different certificates never meet. A call on several certificates takes their locks in one order that all calls
//! share, so that no two calls wait for each other.
//!
//! The cloud answers `APIG.3500` or `APIG.9999` when two changes touch one certificate at once.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::Mutex;

/// As many calls as may wait for one certificate.
pub(super) const LONGEST_QUEUE: usize = if cfg!(all(test, feature = "model")) { 3 } else { 256 };

/// The queues, one for each certificate that is being changed.
#[derive(Debug, Default)]
pub(crate) struct CertificateLocks {
    /// By the hash of their certificate: two that have the same one would only wait for each other.
    queues: Mutex<HashMap<u64, Queue>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Queue {
    certificate_lock: Arc<Semaphore>,
    /// Calls that hold the turn or wait for it.
    calls: usize,
    /// Those of them that found others in the queue, by caller. A queue of one call allocates nothing for it.
    by_caller: Vec<(u64, usize)>,
}

/// The caller of a call, and the calls that it may have in one queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) caller: u64,
    pub(super) share: usize,
}

/// Too many calls wait for the certificate already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockQueueFull {
    pub(crate) limit: usize,
    /// The limit is the share of one caller.
    pub(crate) is_share: bool,
}

/// The right to change some certificates, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    _first: Option<CertificateLock<'a>>,
    _more: Vec<CertificateLock<'a>>,
}

/// The right to change a certificate, for as long as it lives.
#[derive(Debug)]
struct CertificateLock<'a> {
    _permit: OwnedSemaphorePermit,
    _entry: QueueEntry<'a>,
}

/// A place in a queue, given back also when its call gives up waiting.
#[derive(Debug)]
struct QueueEntry<'a> {
    locks: &'a CertificateLocks,
    key: u64,
    /// The caller, if its call is counted.
    caller: Option<u64>,
}

impl CertificateLocks {
    /// Waits for the turn on each of the certificates. A dropped future leaves every queue.
    ///
    /// # Errors
    ///
    /// [`LockQueueFull`], at once.
    pub(super) async fn take(
        &self,
        project: &str,
        certificates: &[&str],
        waiter: Waiter,
    ) -> Result<Locked<'_>, LockQueueFull> {
        let key = |certificate: &&str| self.hasher.hash_one((project, certificate));
        if let [certificate] = certificates {
            let first = Some(self.take_one(key(certificate), waiter).await?);
            return Ok(Locked { _first: first, _more: Vec::new() });
        }
        let mut keys: Vec<u64> = certificates.iter().map(key).collect();
        keys.sort_unstable();
        // A certificate that is named twice is locked once.
        keys.dedup();
        let mut more = Vec::with_capacity(keys.len());
        for key in keys {
            more.push(self.take_one(key, waiter).await?);
        }
        Ok(Locked { _first: None, _more: more })
    }

    async fn take_one(&self, key: u64, waiter: Waiter) -> Result<CertificateLock<'_>, LockQueueFull> {
        let (entry, certificate_lock) = self.enter(key, waiter)?;
        let full = |_| LockQueueFull { limit: LONGEST_QUEUE, is_share: false };
        let permit = certificate_lock.acquire_owned().await.map_err(full)?;
        Ok(CertificateLock { _permit: permit, _entry: entry })
    }

    fn enter(&self, key: u64, waiter: Waiter) -> Result<(QueueEntry<'_>, Arc<Semaphore>), LockQueueFull> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Queue { certificate_lock: Arc::new(Semaphore::new(1)), calls: 0, by_caller: Vec::new() };
        let queue = queues.entry(key).or_insert_with(new);
        if queue.calls > LONGEST_QUEUE {
            return Err(LockQueueFull { limit: LONGEST_QUEUE, is_share: false });
        }
        let caller = (queue.calls > 0).then_some(waiter.caller);
        if let Some(caller) = caller {
            match queue.by_caller.iter_mut().find(|(known, _)| *known == caller) {
                Some((_, calls)) if *calls >= waiter.share => {
                    return Err(LockQueueFull { limit: waiter.share, is_share: waiter.share < LONGEST_QUEUE });
                }
                Some((_, calls)) => *calls += 1,
                None => queue.by_caller.push((caller, 1)),
            }
        }
        queue.calls += 1;
        Ok((QueueEntry { locks: self, key, caller }, Arc::clone(&queue.certificate_lock)))
    }
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        let mut queues = self.locks.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get_mut(&self.key) {
            queue.calls -= 1;
            if let Some(at) = queue.by_caller.iter().position(|(known, _)| Some(*known) == self.caller)
                && let Some((_, calls)) = queue.by_caller.get_mut(at)
            {
                *calls -= 1;
                if *calls == 0 {
                    queue.by_caller.swap_remove(at);
                }
            }
            if queue.calls == 0 {
                queues.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "model")]
mod model;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const ALONE: Waiter = Waiter { caller: 1, share: LONGEST_QUEUE };

    #[tokio::test]
    async fn one_holds_the_turn_and_others_wait_in_order() {
        let locks = CertificateLocks::default();
        let first = locks.take("p", &["c1"], ALONE).await.unwrap();
        let mut second = Box::pin(locks.take("p", &["c1"], ALONE));
        let mut third = Box::pin(locks.take("p", &["c1"], ALONE));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(locks.take("p", &["c2"], ALONE).now_or_never().is_some(), "another certificate does not wait");
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "not before the second");
        let managed = second.await.unwrap();
        drop(managed);
        third.await.unwrap();
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let locks = CertificateLocks::default();
        let first = locks.take("p", &["c"], ALONE).await.unwrap();
        for _ in 0..10 {
            assert!(locks.take("p", &["c"], ALONE).now_or_never().is_none());
        }
        drop(first);
        assert!(locks.queues.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_call_on_several_certificates_waits_for_each_and_no_two_calls_for_each_other() {
        let locks = CertificateLocks::default();
        let both = locks.take("p", &["c1", "c2", "c1"], ALONE).await.unwrap();
        let mut one = Box::pin(locks.take("p", &["c1"], ALONE));
        let mut other = Box::pin(locks.take("p", &["c2"], ALONE));
        let mut reversed = Box::pin(locks.take("p", &["c2", "c1"], ALONE));
        let mut same = Box::pin(locks.take("p", &["c1", "c2"], ALONE));
        for waits in [&mut one, &mut other, &mut reversed, &mut same] {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        assert!(locks.take("q", &["c1", "c2"], ALONE).now_or_never().is_some(), "another project does not wait");
        drop(both);
        drop((one.await.unwrap(), other.await.unwrap()));
        tokio::join!(async { drop(reversed.await.unwrap()) }, async { drop(same.await.unwrap()) });
        assert!(locks.take("p", &[], ALONE).now_or_never().is_some(), "without a certificate there is no wait");
        assert!(locks.queues.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_queue_has_an_end() {
        let locks = CertificateLocks::default();
        let first = locks.take("p", &["c"], ALONE).await.unwrap();
        let mut waiting: Vec<_> = (0..LONGEST_QUEUE).map(|_| Box::pin(locks.take("p", &["c"], ALONE))).collect();
        for waits in &mut waiting {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        let full = LockQueueFull { limit: LONGEST_QUEUE, is_share: false };
        assert_eq!(locks.take("p", &["c"], ALONE).await.unwrap_err(), full);
        drop(waiting);
        drop(first);
        assert!(locks.queues.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_caller_has_its_share_of_a_queue_and_others_the_rest() {
        let share = LONGEST_QUEUE - LONGEST_QUEUE / 4;
        let waiter = |caller| Waiter { caller, share };
        let locks = CertificateLocks::default();
        let first = locks.take("p", &["c"], waiter(1)).await.unwrap();
        let mut waiting: Vec<_> = (0..share).map(|_| Box::pin(locks.take("p", &["c"], waiter(1)))).collect();
        for waits in &mut waiting {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        let full = LockQueueFull { limit: share, is_share: true };
        assert_eq!(locks.take("p", &["c"], waiter(1)).await.unwrap_err(), full);
        for caller in 2..10 {
            let mut other = Box::pin(locks.take("p", &["c"], waiter(caller)));
            assert!(other.as_mut().now_or_never().is_none(), "another caller waits");
        }
        // A call that leaves makes room for one more of its caller.
        waiting.pop();
        assert!(locks.take("p", &["c"], waiter(1)).now_or_never().is_none());
        drop(waiting);
        drop(first);
        assert!(locks.queues.lock().unwrap().is_empty());
    }
}
