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
const LONGEST_QUEUE: usize = if cfg!(all(test, feature = "model")) { 3 } else { 256 };

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
}

/// Too many calls wait for the certificate already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

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
}

impl Turns {
    /// Waits for the turn. Whoever drops the future leaves the queue.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], at once.
    pub(crate) async fn take(&self, key: &str) -> Result<Turn<'_>, QueueFull> {
        let (place, turn) = self.enter(key)?;
        let permit = turn.acquire_owned().await.map_err(|_| QueueFull)?;
        Ok(Turn { _permit: permit, _place: place })
    }

    fn enter(&self, key: &str) -> Result<(Place<'_>, Arc<Semaphore>), QueueFull> {
        let key = self.hasher.hash_one(key);
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(key).or_insert_with(|| Queue { turn: Arc::new(Semaphore::new(1)), calls: 0 });
        if queue.calls > LONGEST_QUEUE {
            return Err(QueueFull);
        }
        queue.calls += 1;
        Ok((Place { turns: self, key }, Arc::clone(&queue.turn)))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.turns.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get_mut(&self.key) {
            queue.calls -= 1;
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

    #[tokio::test]
    async fn one_holds_the_turn_and_others_wait_in_order() {
        let turns = Turns::default();
        let first = turns.take("c1").await.unwrap();
        let mut second = Box::pin(turns.take("c1"));
        let mut third = Box::pin(turns.take("c1"));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(turns.take("c2").now_or_never().is_some(), "another certificate does not wait");
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "not before the second");
        let held = second.await.unwrap();
        drop(held);
        third.await.unwrap();
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let turns = Turns::default();
        let first = turns.take("c").await.unwrap();
        for _ in 0..10 {
            assert!(turns.take("c").now_or_never().is_none());
        }
        drop(first);
        assert!(turns.queues.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_queue_has_an_end() {
        let turns = Turns::default();
        let first = turns.take("c").await.unwrap();
        let mut waiting: Vec<_> = (0..LONGEST_QUEUE).map(|_| Box::pin(turns.take("c"))).collect();
        for waits in &mut waiting {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        assert_eq!(turns.take("c").await.unwrap_err(), QueueFull);
        drop(waiting);
        drop(first);
        assert!(turns.queues.lock().unwrap().is_empty());
    }
}
