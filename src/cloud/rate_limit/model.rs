use std::sync::{
    Mutex as Log,
    atomic::{AtomicUsize, Ordering},
};

use shuttle::future::{block_on, spawn, yield_now};

use super::*;
use crate::model::{Time, explore, finds, poll_once};

const LIMIT: usize = 2;
const TOO_MANY: &str = "more requests than the limit in one window";
const STUCK: &str = "deadlock";

impl Clock for Time {
    fn now(&self) -> Instant {
        self.now()
    }

    fn sleep(&self, delay: Duration) -> impl Future<Output = ()> + Send {
        self.sleep(delay)
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

/// The operations of a limiter in the scenario.
trait Limit: Send + Sync + 'static {
    fn new() -> Arc<Self>;
    /// Waits for a slot, and sends after a delay; returns the send time.
    fn send(self: Arc<Self>, time: Time) -> impl Future<Output = Result<Instant, RateLimited>> + Send + 'static;
    /// Takes a slot and gives it back.
    fn give_back(self: Arc<Self>, time: Time) -> impl Future<Output = ()> + Send + 'static;
    fn is_idle(&self) -> bool;
}

impl Limit for RateLimiter {
    fn new() -> Arc<Self> {
        Arc::new(Self::new(LIMIT))
    }

    async fn send(self: Arc<Self>, time: Time) -> Result<Instant, RateLimited> {
        let slot = self.acquire(&time, time.now() + WINDOW * 1_000).await?;
        // Stands for opening a connection.
        yield_now().await;
        let now = time.now();
        slot.sent(now);
        Ok(now)
    }

    async fn give_back(self: Arc<Self>, time: Time) {
        drop(self.acquire(&time, time.now() + WINDOW * 1_000).await);
    }

    fn is_idle(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && state.reserved == 0
    }
}

/// Callers that send, one that leaves the queue, and one that does not use its slot, while time advances.
fn scenario<L: Limit>() {
    block_on(async {
        let (limiter, time) = (L::new(), Time::new());
        let sent = Arc::new(Log::new(Vec::new()));
        let left = Arc::new(AtomicUsize::new(6));
        let mut calls = Vec::new();
        for _ in 0..4 {
            let (limiter, time) = (Arc::clone(&limiter), time.clone());
            let (sent, left) = (Arc::clone(&sent), Arc::clone(&left));
            calls.push(spawn(async move {
                let at = limiter.send(time).await.expect("a slot comes before the deadline");
                sent.lock().unwrap().push(at);
                left.fetch_sub(1, Ordering::SeqCst);
            }));
        }
        {
            let (mut leaves, left) = (Box::pin(Arc::clone(&limiter).send(time.clone())), Arc::clone(&left));
            let sent = Arc::clone(&sent);
            calls.push(spawn(async move {
                for _ in 0..2 {
                    if let std::task::Poll::Ready(at) = poll_once(&mut leaves) {
                        sent.lock().unwrap().push(at.unwrap());
                        break;
                    }
                    yield_now().await;
                }
                drop(leaves);
                left.fetch_sub(1, Ordering::SeqCst);
            }));
        }
        {
            let (unused, left) = (Arc::clone(&limiter).give_back(time.clone()), Arc::clone(&left));
            calls.push(spawn(async move {
                unused.await;
                left.fetch_sub(1, Ordering::SeqCst);
            }));
        }
        // Advances the time as long as a caller waits for it; afterwards only notifications can help.
        for _ in 0..200 {
            if left.load(Ordering::SeqCst) == 0 {
                break;
            }
            time.advance(WINDOW * 2 / 5);
            yield_now().await;
        }
        for call in calls {
            call.await.unwrap();
        }
        assert!(limiter.is_idle(), "a slot or a place is left behind");
        let mut sent = sent.lock().unwrap().clone();
        sent.sort();
        for (early, late) in sent.iter().zip(sent.iter().skip(LIMIT)) {
            let gap = late.duration_since(*early);
            assert!(gap >= WINDOW, "{TOO_MANY}: {gap:?}");
        }
    });
}

#[test]
fn no_window_holds_more_than_the_limit_and_no_caller_is_stuck() {
    explore(scenario::<RateLimiter>);
}

/// Looks for a free slot and takes it in two steps.
struct LooksFirst(Arc<RateLimiter>);

impl Limit for LooksFirst {
    fn new() -> Arc<Self> {
        Arc::new(Self(Limit::new()))
    }

    async fn send(self: Arc<Self>, time: Time) -> Result<Instant, RateLimited> {
        loop {
            let now = time.now();
            let at = {
                let mut state = self.0.lock();
                state.forget_before(now);
                state.slot(0, LIMIT, now)
            };
            if at <= now {
                let mut state = self.0.lock();
                let now = state.sent.back().map_or(now, |last| now.max(*last));
                state.sent.push_back(now);
                return Ok(now);
            }
            time.sleep(at - now).await;
        }
    }

    async fn give_back(self: Arc<Self>, _: Time) {}

    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }
}

#[test]
fn a_limiter_that_looks_first_is_found() {
    finds(TOO_MANY, scenario::<LooksFirst>);
}

/// Counts a request when its slot is granted, not when it is sent.
struct CountsEarly(Arc<RateLimiter>);

impl Limit for CountsEarly {
    fn new() -> Arc<Self> {
        Arc::new(Self(Limit::new()))
    }

    async fn send(self: Arc<Self>, time: Time) -> Result<Instant, RateLimited> {
        let slot = self.0.acquire(&time, time.now() + WINDOW * 1_000).await?;
        slot.sent(time.now());
        yield_now().await;
        Ok(time.now())
    }

    async fn give_back(self: Arc<Self>, time: Time) {
        Arc::clone(&self.0).give_back(time).await;
    }

    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }
}

#[test]
fn a_limiter_that_counts_before_the_send_is_found() {
    finds(TOO_MANY, scenario::<CountsEarly>);
}

/// Does not notify the next caller of unused slots.
struct Silent(Arc<RateLimiter>);

impl Limit for Silent {
    fn new() -> Arc<Self> {
        Arc::new(Self(Limit::new()))
    }

    async fn send(self: Arc<Self>, time: Time) -> Result<Instant, RateLimited> {
        Arc::clone(&self.0).send(time).await
    }

    async fn give_back(self: Arc<Self>, time: Time) {
        let mut slots = Vec::new();
        for _ in 0..LIMIT {
            slots.push(self.0.acquire(&time, time.now() + WINDOW * 1_000).await.unwrap());
        }
        yield_now().await;
        for slot in &mut slots {
            let limiter = slot.limiter.take().unwrap();
            limiter.lock().reserved -= 1;
        }
    }

    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }
}

#[test]
fn a_limiter_that_tells_nobody_is_found() {
    finds(STUCK, scenario::<Silent>);
}
