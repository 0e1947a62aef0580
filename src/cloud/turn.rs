//! One change of a certificate at a time: calls on the same certificate take turns, in the order in which they came.
//! Calls on different certificates never meet.
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
pub(crate) struct Turns {
    /// By the hash of their certificate: two that have the same one would only wait for each other.
    queues: Mutex<HashMap<u64, Queue>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Queue {
    turn: Arc<Semaphore>,
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
pub(crate) struct QueueFull {
    pub(crate) limit: usize,
    /// The limit is the share of one caller.
    pub(crate) is_share: bool,
}

/// The right to change a certificate, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _permit: OwnedSemaphorePermit,
    _place: Place<'a>,
}

/// A place in a queue, given back also when its call gives up waiting.
#[derive(Debug)]
struct Place<'a> {
    turns: &'a Turns,
    key: u64,
    /// The caller, if its call is counted.
    caller: Option<u64>,
}

impl Turns {
    /// Waits for the turn. Whoever drops the future leaves the queue.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], at once.
    pub(super) async fn take(&self, key: &str, waiter: Waiter) -> Result<Turn<'_>, QueueFull> {
        let (place, turn) = self.enter(key, waiter)?;
        let full = |_| QueueFull { limit: LONGEST_QUEUE, is_share: false };
        let permit = turn.acquire_owned().await.map_err(full)?;
        Ok(Turn { _permit: permit, _place: place })
    }

    fn enter(&self, key: &str, waiter: Waiter) -> Result<(Place<'_>, Arc<Semaphore>), QueueFull> {
        let key = self.hasher.hash_one(key);
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Queue { turn: Arc::new(Semaphore::new(1)), calls: 0, by_caller: Vec::new() };
        let queue = queues.entry(key).or_insert_with(new);
        if queue.calls > LONGEST_QUEUE {
            return Err(QueueFull { limit: LONGEST_QUEUE, is_share: false });
        }
        let caller = (queue.calls > 0).then_some(waiter.caller);
        if let Some(caller) = caller {
            match queue.by_caller.iter_mut().find(|(known, _)| *known == caller) {
                Some((_, calls)) if *calls >= waiter.share => {
                    return Err(QueueFull { limit: waiter.share, is_share: waiter.share < LONGEST_QUEUE });
                }
                Some((_, calls)) => *calls += 1,
                None => queue.by_caller.push((caller, 1)),
            }
        }
        queue.calls += 1;
        Ok((Place { turns: self, key, caller }, Arc::clone(&queue.turn)))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.turns.queues.lock().unwrap_or_else(PoisonError::into_inner);
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
        let turns = Turns::default();
        let first = turns.take("c1", ALONE).await.unwrap();
        let mut second = Box::pin(turns.take("c1", ALONE));
        let mut third = Box::pin(turns.take("c1", ALONE));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(turns.take("c2", ALONE).now_or_never().is_some(), "another certificate does not wait");
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "not before the second");
        let held = second.await.unwrap();
        drop(held);
        third.await.unwrap();
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let turns = Turns::default();
        let first = turns.take("c", ALONE).await.unwrap();
        for _ in 0..10 {
            assert!(turns.take("c", ALONE).now_or_never().is_none());
        }
        drop(first);
        assert!(turns.queues.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_queue_has_an_end() {
        let turns = Turns::default();
        let first = turns.take("c", ALONE).await.unwrap();
        let mut waiting: Vec<_> = (0..LONGEST_QUEUE).map(|_| Box::pin(turns.take("c", ALONE))).collect();
        for waits in &mut waiting {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        let full = QueueFull { limit: LONGEST_QUEUE, is_share: false };
        assert_eq!(turns.take("c", ALONE).await.unwrap_err(), full);
        drop(waiting);
        drop(first);
        assert!(turns.queues.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_caller_has_its_share_of_a_queue_and_others_the_rest() {
        let share = LONGEST_QUEUE - LONGEST_QUEUE / 4;
        let waiter = |caller| Waiter { caller, share };
        let turns = Turns::default();
        let first = turns.take("c", waiter(1)).await.unwrap();
        let mut waiting: Vec<_> = (0..share).map(|_| Box::pin(turns.take("c", waiter(1)))).collect();
        for waits in &mut waiting {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        let full = QueueFull { limit: share, is_share: true };
        assert_eq!(turns.take("c", waiter(1)).await.unwrap_err(), full);
        for caller in 2..10 {
            let mut other = Box::pin(turns.take("c", waiter(caller)));
            assert!(other.as_mut().now_or_never().is_none(), "another caller waits");
        }
        // A call that leaves makes room for one more of its caller.
        waiting.pop();
        assert!(turns.take("c", waiter(1)).now_or_never().is_none());
        drop(waiting);
        drop(first);
        assert!(turns.queues.lock().unwrap().is_empty());
    }
}
