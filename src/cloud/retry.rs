//! Whether a failed attempt is repeated, and the loop that repeats it. The decision is pure; sleeping, the time and
//! chance come as arguments.

use std::{future::Future, sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{Error, Processed, Refusal};
use crate::sync::Mutex;

/// The first pause is anything up to this; each further one up to twice as much.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// No pause of our own choosing is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// The fate of a request, as far as it matters to a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never left, or was a read: a repeat does nothing twice.
    Harmless,
    /// It was turned away before anything was done; the pause that helps, and whether the cloud itself asked for it.
    Refused { delay: Duration, asked: bool, throttled: bool },
    /// It was dealt with, or may have been: never repeated.
    Final,
}

impl Error {
    /// The fate of the request. A row of the catalogue comes first, then the HTTP status.
    pub(crate) fn fate(&self) -> Fate {
        match self {
            Self::Unreachable(_) | Self::ReadInterrupted(_) => Fate::Harmless,
            Self::Refused(refusal) => fate(refusal),
            Self::CredentialsRefused(..)
            | Self::Unauthorized(_)
            | Self::CircuitOpen(_)
            | Self::RateLimited(_)
            | Self::LockQueueFull(_)
            | Self::ConnectionLost(_)
            | Self::Decode(_)
            | Self::Redirected { .. }
            | Self::Unexpected { .. }
            | Self::Malformed { .. }
            | Self::NoMemory
            | Self::UnsafeRequest(_) => Fate::Final,
        }
    }
}

fn fate(refusal: &Refusal) -> Fate {
    match (refusal.processed(), refusal.wait()) {
        (Processed::No, Some(delay)) => {
            Fate::Refused { delay, asked: refusal.is_wait_asked(), throttled: refusal.is_throttling() }
        }
        _ => Fate::Final,
    }
}

/// The next step after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Repeat after this pause, for this price out of the budget.
    Repeat { delay: Duration, price: u32 },
    /// The error goes to the caller.
    GiveUp,
}

/// Decides after attempt number `attempt` (from 1) of at most `most`, with `left` until the deadline. `jitter` is from 0
/// up to 1.
pub(crate) fn decide(fate: Fate, attempt: u32, most: u32, left: Duration, jitter: f64) -> Decision {
    if attempt >= most {
        return Decision::GiveUp;
    }
    let doubled = 2u32.saturating_pow(attempt.saturating_sub(1).min(16));
    let (delay, price) = match fate {
        Fate::Final => return Decision::GiveUp,
        Fate::Harmless => ((FIRST_DELAY * doubled).min(LONGEST_DELAY).mul_f64(jitter), 1),
        // Exactly as asked, and then a little more, so that those who were told the same don't come back together.
        Fate::Refused { delay, asked: true, throttled } => {
            (delay + FIRST_DELAY.mul_f64(jitter), if throttled { 2 } else { 1 })
        }
        Fate::Refused { delay, asked: false, throttled } => {
            ((delay * doubled).min(LONGEST_DELAY.max(delay)).mul_f64(jitter), if throttled { 2 } else { 1 })
        }
    };
    // An attempt needs time too: one that would begin at the deadline only adds load.
    if delay >= left { Decision::GiveUp } else { Decision::Repeat { delay, price } }
}

/// Repeats for the whole upstream: a share of the calls and a small floor, so that an outage is not multiplied.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<TokenBucket>);

#[derive(Debug)]
struct TokenBucket {
    /// The sum left for repeats; a repeat costs 1, one after throttling 2.
    amount: f64,
    filled: Instant,
}

impl Budget {
    /// The gain of each call.
    const SHARE: f64 = 0.2;
    /// The gain of each second.
    const FLOOR: f64 = 1.0;
    /// The upper bound, and the amount at the start.
    pub(crate) const MOST: f64 = 10.0;

    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(TokenBucket { amount: Self::MOST, filled: now }))
    }

    /// The sum that is left for repeats.
    pub(crate) fn amount(&self, now: Instant) -> f64 {
        let bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (bucket.amount + Self::FLOOR * bucket.seconds(now)).min(Self::MOST)
    }

    /// Counts a call.
    fn deposit(&self, now: Instant) {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.amount = (bucket.amount + Self::SHARE + Self::FLOOR * bucket.seconds(now)).min(Self::MOST);
        // Two threads may have read their clocks in another order: no second counts twice.
        bucket.filled = bucket.filled.max(now);
    }

    /// Takes the price of a repeat, if there is as much.
    fn withdraw(&self, price: u32) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = bucket.amount >= f64::from(price);
        if enough {
            bucket.amount -= f64::from(price);
        }
        enough
    }
}

impl TokenBucket {
    /// The time since it was filled.
    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.filled).as_secs_f64()
    }
}

/// The time and chance that the loop runs on.
pub(crate) trait Clock {
    fn now(&self) -> Instant;
    fn sleep(&self, delay: Duration) -> impl Future<Output = ()> + Send;
    /// From 0 up to 1.
    fn jitter(&self) -> f64;
}

/// The clock of the runtime.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuntimeClock;

impl Clock for RuntimeClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, delay: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(delay)
    }

    fn jitter(&self) -> f64 {
        fastrand::f64()
    }
}

/// Makes attempts until one is final, or none is left of attempts, budget or time. `repeated` hears of each repeat.
///
/// # Errors
///
/// That of the last attempt that was made: one that our own rules kept from leaving hides no answer of the cloud's.
pub(crate) async fn run<T, F>(
    clock: &impl Clock,
    budget: &Budget,
    most: u32,
    deadline: Instant,
    mut attempt: impl FnMut() -> F,
    repeated: impl Fn(&Error, u32, Duration),
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    budget.deposit(clock.now());
    let mut number = 1;
    let mut before = None;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error @ (Error::CircuitOpen(_) | Error::RateLimited(_))) => return Err(before.unwrap_or(error)),
            Err(error) => error,
        };
        let left = deadline.saturating_duration_since(clock.now());
        match decide(error.fate(), number, most, left, clock.jitter()) {
            Decision::Repeat { delay, price } if budget.withdraw(price) => {
                repeated(&error, number, delay);
                clock.sleep(delay).await;
                before = Some(error);
            }
            Decision::Repeat { .. } | Decision::GiveUp => return Err(error),
        }
        number += 1;
    }
}

#[cfg(test)]
#[cfg(feature = "model")]
mod model;
#[cfg(test)]
mod tests;
