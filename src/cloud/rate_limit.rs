//! Limits the requests per second to the cloud, for accounts with a low quota. The whole process shares one limiter.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::retry::Clock;
use crate::sync::{Mutex, MutexGuard};

/// The length of the sliding window.
const WINDOW: Duration = Duration::from_secs(1);

/// The length of the queue. It bounds the queue of a high limit; deadlines bound the queue of a low one.
const LONGEST_QUEUE: usize = 1_024;

/// A sliding window over the send times of requests, with a first-in, first-out queue of callers.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The send times of the requests in the window, oldest first.
    sent: VecDeque<Instant>,
    /// Slots of requests that are not sent yet. They count as if sent now, because connecting can take long.
    reserved: usize,
    /// Waiting callers in order of arrival. Each has a separate notification, which also identifies it.
    queue: VecDeque<Arc<Notify>>,
    totals: Totals,
}

/// The effect of the limit on requests since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Requests that were sent after a delay.
    pub(crate) delayed: u64,
    /// The sum of their delays.
    pub(crate) delay: Duration,
    /// Requests that got no slot.
    pub(crate) rejected: u64,
}

/// The state of the limiter at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) limit: usize,
    /// Requests that wait for their slot.
    pub(crate) waiting: usize,
    pub(crate) totals: Totals,
}

/// No slot is free before the caller's deadline, or the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimited {
    /// The time until a slot is free.
    pub(crate) wait: Duration,
    /// Requests a second.
    pub(crate) limit: usize,
}

/// The right to send one request. Dropped unused, it passes to the next caller.
#[derive(Debug)]
pub(crate) struct Slot {
    /// `None` once the request is sent.
    limiter: Option<Arc<RateLimiter>>,
}

/// A place in the queue. Dropping it lets the callers behind move up.
#[derive(Debug)]
struct Ticket<'a> {
    limiter: &'a Arc<RateLimiter>,
    notify: Arc<Notify>,
}

/// The result of polling for a slot.
enum NextSlot {
    Granted(Slot),
    /// The caller is first in the queue, and a slot becomes free at this time.
    At(Instant),
    /// The caller is not first, or all slots belong to requests that are not sent yet: wait for a notification.
    Later,
}

impl RateLimiter {
    /// At most this many requests a second.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), state: Mutex::default() }
    }

    /// Waits for a slot behind earlier callers. Dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// [`RateLimited`], at once: the queue is full, or no slot is free before the deadline. Nothing is reserved then.
    pub(crate) async fn acquire(self: &Arc<Self>, clock: &impl Clock, deadline: Instant) -> Result<Slot, RateLimited> {
        let began = clock.now();
        let ticket = self.enter(began, deadline)?;
        let mut has_waited = false;
        loop {
            let now = clock.now();
            match ticket.poll(now) {
                NextSlot::Granted(slot) => {
                    if has_waited {
                        let totals = &mut self.lock().totals;
                        totals.delayed += 1;
                        totals.delay += now.saturating_duration_since(began);
                    }
                    return Ok(slot);
                }
                // Requests ahead can be sent later than expected.
                NextSlot::At(at) if at >= deadline => {
                    return Err(self.rejected(&mut self.lock(), at.saturating_duration_since(now)));
                }
                NextSlot::At(at) => tokio::select! {
                    biased;
                    () = ticket.notify.notified() => {}
                    () = clock.sleep(at.saturating_duration_since(now)) => {}
                },
                NextSlot::Later => ticket.notify.notified().await,
            }
            has_waited = true;
        }
    }

    /// The state for metrics.
    pub(crate) fn usage(&self) -> Usage {
        let state = self.lock();
        Usage { limit: self.limit, waiting: state.queue.len(), totals: state.totals }
    }

    fn rejected(&self, state: &mut State, wait: Duration) -> RateLimited {
        state.totals.rejected += 1;
        RateLimited { wait, limit: self.limit }
    }

    /// Takes a slot that is free now and that no call waits for.
    ///
    /// # Errors
    ///
    /// [`RateLimited`]: there is none.
    pub(crate) fn try_acquire(self: &Arc<Self>, now: Instant) -> Result<Slot, RateLimited> {
        let mut state = self.lock();
        state.forget_before(now);
        let at = state.slot(state.queue.len(), self.limit, now);
        if !state.queue.is_empty() || at > now {
            return Err(self.rejected(&mut state, at.saturating_duration_since(now)));
        }
        state.reserved += 1;
        drop(state);
        Ok(Slot { limiter: Some(Arc::clone(self)) })
    }

    fn enter(self: &Arc<Self>, now: Instant, deadline: Instant) -> Result<Ticket<'_>, RateLimited> {
        let mut state = self.lock();
        state.forget_before(now);
        let at = state.slot(state.queue.len(), self.limit, now);
        if at >= deadline || state.queue.len() >= LONGEST_QUEUE {
            return Err(self.rejected(&mut state, at.saturating_duration_since(now)));
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
    /// Removes the send times that are out of the window.
    fn forget_before(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|sent| *sent + WINDOW <= now) {
            self.sent.pop_front();
        }
    }

    /// The time at which a request with `ahead` waiting requests before it can be sent.
    ///
    /// Each request reuses the slot of the request sent `limit` before it: first the free slots, then those of sent requests,
    /// then those of requests not sent yet, and then the same again a window later.
    fn slot(&self, ahead: usize, limit: usize, now: Instant) -> Instant {
        let free = limit.saturating_sub(self.sent.len() + self.reserved);
        let (rounds, slot) = (ahead / limit, ahead % limit);
        let first = match slot.checked_sub(free) {
            None => now,
            Some(taken) => self.sent.get(taken).copied().unwrap_or(now) + WINDOW,
        };
        first + WINDOW * u32::try_from(rounds).unwrap_or(u32::MAX)
    }

    /// Wakes the first caller in the queue.
    fn notify_first(&self) {
        if let Some(first) = self.queue.front() {
            first.notify_one();
        }
    }
}

impl Ticket<'_> {
    fn poll(&self, now: Instant) -> NextSlot {
        let mut state = self.limiter.lock();
        if !state.queue.front().is_some_and(|first| Arc::ptr_eq(first, &self.notify)) {
            return NextSlot::Later;
        }
        state.forget_before(now);
        if state.sent.len() + state.reserved < self.limiter.limit {
            state.reserved += 1;
            state.queue.pop_front();
            state.notify_first();
            return NextSlot::Granted(Slot { limiter: Some(Arc::clone(self.limiter)) });
        }
        state.sent.front().map_or(NextSlot::Later, |oldest| NextSlot::At(*oldest + WINDOW))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        // A ticket with a granted slot is no longer in the queue.
        if let Some(place) = state.queue.iter().position(|waiting| Arc::ptr_eq(waiting, &self.notify)) {
            state.queue.remove(place);
            if place == 0 {
                state.notify_first();
            }
        }
    }
}

impl Slot {
    /// Marks the request as sent: its slot stays occupied for one window.
    pub(crate) fn sent(mut self, now: Instant) {
        if let Some(limiter) = self.limiter.take() {
            let mut state = limiter.lock();
            state.reserved -= 1;
            // Threads may read the clock and take the lock in different orders.
            let now = state.sent.back().map_or(now, |last| now.max(*last));
            state.sent.push_back(now);
            // The first caller in the queue may be waiting for a notification without a time.
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
