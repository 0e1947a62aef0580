//! A limit on requests a second towards the cloud, for accounts with a low quota. One limiter serves the whole process.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::retry::Clock;
use crate::sync::{Mutex, MutexGuard};

/// The time in which at most the limit's number of requests leave.
const WINDOW: Duration = Duration::from_secs(1);

/// The most callers that wait. Their deadlines bound the queue of a low limit, this the queue of a high one.
const LONGEST_QUEUE: usize = 1_024;

/// A sliding window over the times at which requests left, and a first-in, first-out queue of callers.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the requests of the last window left, oldest first.
    sent: VecDeque<Instant>,
    /// Slots of requests that have not left yet. They count as if they left now: a request can take long to connect.
    reserved: usize,
    /// Waiting callers, first come first. Each has a notification of its own, which also identifies it.
    queue: VecDeque<Arc<Notify>>,
}

/// No slot is free before the caller's deadline, or the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimited {
    /// The time until a slot is free.
    pub(crate) wait: Duration,
    /// Requests a second.
    pub(crate) limit: usize,
}

/// The right to send one request. Dropped unused, it goes to the next caller.
#[derive(Debug)]
pub(crate) struct Slot {
    /// `None` once the request has left.
    limiter: Option<Arc<RateLimiter>>,
}

/// A place in the queue. Dropping it lets the callers behind move up.
#[derive(Debug)]
struct Ticket<'a> {
    limiter: &'a Arc<RateLimiter>,
    notify: Arc<Notify>,
}

enum CertificateLock {
    Granted(Slot),
    /// First in the queue; a slot is free at this time.
    At(Instant),
    /// Not the first, or every slot belongs to a request that has not left yet: a notification comes.
    Later,
}

impl RateLimiter {
    /// At most this many requests a second.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), state: Mutex::default() }
    }

    /// Waits for a slot, behind the callers that came before. Dropping the future gives the place in the queue up.
    ///
    /// # Errors
    ///
    /// [`RateLimited`], at once: the queue is full, or no slot is free before the deadline. Nothing is reserved then.
    pub(crate) async fn acquire(self: &Arc<Self>, clock: &impl Clock, deadline: Instant) -> Result<Slot, RateLimited> {
        let ticket = self.enter(clock.now(), deadline)?;
        loop {
            let now = clock.now();
            match ticket.turn(now) {
                CertificateLock::Granted(slot) => return Ok(slot),
                // Requests ahead can leave later than expected.
                CertificateLock::At(at) if at >= deadline => {
                    return Err(RateLimited { wait: at.saturating_duration_since(now), limit: self.limit });
                }
                CertificateLock::At(at) => tokio::select! {
                    biased;
                    () = ticket.notify.notified() => {}
                    () = clock.sleep(at.saturating_duration_since(now)) => {}
                },
                CertificateLock::Later => ticket.notify.notified().await,
            }
        }
    }

    fn enter(self: &Arc<Self>, now: Instant, deadline: Instant) -> Result<Ticket<'_>, RateLimited> {
        let mut state = self.lock();
        state.forget_before(now);
        let at = state.slot(state.queue.len(), self.limit, now);
        if at >= deadline || state.queue.len() >= LONGEST_QUEUE {
            return Err(RateLimited { wait: at.saturating_duration_since(now), limit: self.limit });
        }
        let notify = Arc::new(Notify::new());
        state.queue.push_back(Arc::clone(&notify));
        Ok(Ticket { limiter: self, notify })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes the times that no longer count.
    fn forget_before(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|sent| *sent + WINDOW <= now) {
            self.sent.pop_front();
        }
    }

    /// When a request with this many waiting requests ahead of it can leave.
    ///
    /// Each request needs the slot of the one that left `limit` before it: free slots first, then those of the requests that
    /// left, then those of the requests that have not left yet, and then the same again a window later.
    fn slot(&self, ahead: usize, limit: usize, now: Instant) -> Instant {
        let free = limit.saturating_sub(self.sent.len() + self.reserved);
        let (rounds, slot) = (ahead / limit, ahead % limit);
        let first = match slot.checked_sub(free) {
            None => now,
            Some(taken) => self.sent.get(taken).copied().unwrap_or(now) + WINDOW,
        };
        first + WINDOW * u32::try_from(rounds).unwrap_or(u32::MAX)
    }

    /// Has the first of the queue look again.
    fn notify_first(&self) {
        if let Some(first) = self.queue.front() {
            first.notify_one();
        }
    }
}

impl Ticket<'_> {
    fn turn(&self, now: Instant) -> CertificateLock {
        let mut state = self.limiter.lock();
        if !state.queue.front().is_some_and(|first| Arc::ptr_eq(first, &self.notify)) {
            return CertificateLock::Later;
        }
        state.forget_before(now);
        if state.sent.len() + state.reserved < self.limiter.limit {
            state.reserved += 1;
            state.queue.pop_front();
            state.notify_first();
            return CertificateLock::Granted(Slot { limiter: Some(Arc::clone(self.limiter)) });
        }
        state.sent.front().map_or(CertificateLock::Later, |oldest| CertificateLock::At(*oldest + WINDOW))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        // A ticket with a granted slot is no longer there.
        if let Some(place) = state.queue.iter().position(|waiting| Arc::ptr_eq(waiting, &self.notify)) {
            state.queue.remove(place);
            if place == 0 {
                state.notify_first();
            }
        }
    }
}

impl Slot {
    /// The request leaves: from now on its slot is taken for one window.
    pub(crate) fn sent(mut self, now: Instant) {
        if let Some(limiter) = self.limiter.take() {
            let mut state = limiter.lock();
            state.reserved -= 1;
            // Two threads may have read their clocks in another order.
            let now = state.sent.back().map_or(now, |last| now.max(*last));
            state.sent.push_back(now);
            // The first of the queue may not have had a time to wait for.
            state.notify_first();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(limiter) = self.limiter.take() {
            let mut state = limiter.lock();
            state.reserved -= 1;
            state.notify_first();
        }
    }
}

#[cfg(test)]
#[cfg(feature = "model")]
mod model;
#[cfg(test)]
mod tests;
