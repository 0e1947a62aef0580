use futures_util::{FutureExt as _, future::join_all};

use super::*;
use crate::cloud::retry::RuntimeClock;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn limiter(limit: usize) -> Arc<RateLimiter> {
    Arc::new(RateLimiter::new(limit))
}

async fn acquire(limiter: &Arc<RateLimiter>, time: Duration) -> Result<Slot, RateLimited> {
    limiter.acquire(&RuntimeClock, Instant::now() + time).await
}

/// Sends a request as soon as the limit allows; returns the time since `start`.
async fn send(limiter: &Arc<RateLimiter>, time: Duration, start: Instant) -> Result<Duration, RateLimited> {
    acquire(limiter, time).await?.sent(Instant::now());
    Ok(start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn no_second_holds_more_than_the_limit() {
    let limiter = limiter(10);
    let start = Instant::now();
    send(&limiter, ms(1), start).await.unwrap();
    tokio::time::sleep(ms(10_000)).await;
    let start = Instant::now();
    let times = join_all((0..35).map(|_| send(&limiter, ms(5_000), start))).await;
    let times: Vec<_> = times.into_iter().map(Result::unwrap).collect();
    for (number, time) in times.iter().enumerate() {
        let second = u64::try_from(number / 10).unwrap();
        assert!((ms(second * 1_000)..=ms(second * 1_000 + 5)).contains(time), "{number}: {times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_slides() {
    let limiter = limiter(2);
    let start = Instant::now();
    send(&limiter, ms(1), start).await.unwrap();
    tokio::time::advance(ms(600)).await;
    let times = join_all((0..4).map(|_| send(&limiter, ms(5_000), start))).await;
    let rounded: Vec<_> = times.into_iter().map(|time| time.unwrap().as_millis() / 10 * 10).collect();
    assert_eq!(rounded, [600, 1_000, 1_600, 2_000]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_past_the_deadline_is_refused_at_once_and_not_reserved() {
    let limiter = limiter(1);
    let start = Instant::now();
    send(&limiter, ms(1), start).await.unwrap();
    for _ in 0..3 {
        let refused = acquire(&limiter, ms(1_000)).now_or_never().expect("at once").unwrap_err();
        assert_eq!(refused, RateLimited { wait: ms(1_000), limit: 1 });
    }
    assert!(limiter.lock().queue.is_empty());
    assert_eq!(send(&limiter, ms(1_001), start).await.unwrap().as_millis() / 10, 100);
}

#[tokio::test(start_paused = true)]
async fn the_wait_counts_the_callers_ahead() {
    let limiter = limiter(2);
    let start = Instant::now();
    for _ in 0..2 {
        send(&limiter, ms(1), start).await.unwrap();
    }
    let mut ahead: Vec<_> = (0..5).map(|_| Box::pin(acquire(&limiter, ms(60_000)))).collect();
    for waits in &mut ahead {
        assert!(waits.as_mut().now_or_never().is_none());
    }
    // Two callers leave with each second, so that the sixth is one of the third.
    let refused = acquire(&limiter, ms(3_000)).now_or_never().expect("at once").unwrap_err();
    assert_eq!(refused.wait, ms(3_000));
}

#[tokio::test(start_paused = true)]
async fn callers_that_leave_take_no_slot() {
    let limiter = limiter(10);
    let start = Instant::now();
    let mut calls: Vec<_> = (0..210).map(|_| Box::pin(send(&limiter, ms(60_000), start))).collect();
    let done = calls.iter_mut().filter_map(|call| call.as_mut().now_or_never()).count();
    assert_eq!(done, 10);
    drop(calls);
    assert!(limiter.lock().queue.is_empty());
    tokio::time::advance(ms(1_000)).await;
    send(&limiter, ms(5_000), start).now_or_never().expect("at once").unwrap();
}

#[tokio::test(start_paused = true)]
async fn callers_behind_one_that_leaves_move_up() {
    let limiter = limiter(1);
    let start = Instant::now();
    send(&limiter, ms(1), start).await.unwrap();
    let mut first = Box::pin(acquire(&limiter, ms(60_000)));
    let mut second = Box::pin(send(&limiter, ms(60_000), start));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    assert_eq!(second.await.unwrap().as_millis() / 10, 100);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_not_used_goes_to_the_next() {
    let limiter = limiter(1);
    let unused = acquire(&limiter, ms(1)).await.unwrap();
    let mut next = Box::pin(acquire(&limiter, ms(60_000)));
    assert!(next.as_mut().now_or_never().is_none());
    drop(unused);
    assert!(next.now_or_never().expect("at once").is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_second_begins_when_the_request_leaves() {
    let limiter = limiter(1);
    let start = Instant::now();
    let connecting = acquire(&limiter, ms(1)).await.unwrap();
    let mut next = Box::pin(send(&limiter, ms(60_000), start));
    assert!(next.as_mut().now_or_never().is_none());
    tokio::time::advance(ms(700)).await;
    connecting.sent(Instant::now());
    assert_eq!(next.await.unwrap().as_millis() / 10, 170);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_grows_past_the_deadline_ends() {
    let limiter = limiter(1);
    let start = Instant::now();
    let connecting = acquire(&limiter, ms(1)).await.unwrap();
    let mut next = Box::pin(send(&limiter, ms(1_500), start));
    assert!(next.as_mut().now_or_never().is_none());
    tokio::time::advance(ms(700)).await;
    connecting.sent(Instant::now());
    let refused = next.now_or_never().expect("at once").unwrap_err();
    assert_eq!(refused.wait, ms(1_000));
}

#[tokio::test(start_paused = true)]
async fn the_queue_has_an_end() {
    let limiter = limiter(1_000);
    let managed: Vec<_> = (0..1_000).map(|_| acquire(&limiter, ms(1)).now_or_never().unwrap().unwrap()).collect();
    let mut waiting: Vec<_> = (0..LONGEST_QUEUE).map(|_| Box::pin(acquire(&limiter, ms(60_000)))).collect();
    for waits in &mut waiting {
        assert!(waits.as_mut().now_or_never().is_none());
    }
    let refused = acquire(&limiter, ms(60_000)).now_or_never().expect("at once").unwrap_err();
    assert_eq!(refused.wait, ms(2_000));
    drop(waiting);
    assert!(limiter.lock().queue.is_empty());
    drop(managed);
}

#[tokio::test(start_paused = true)]
async fn delays_and_rejections_are_counted() {
    let limiter = limiter(1);
    let start = Instant::now();
    let totals = |delayed, delay, rejected| Totals { delayed, delay: ms(delay), rejected };
    send(&limiter, ms(1), start).await.unwrap();
    assert_eq!(limiter.usage(), Usage { limit: 1, waiting: 0, totals: totals(0, 0, 0) });
    assert!(acquire(&limiter, ms(500)).await.is_err());
    assert!(limiter.try_acquire(Instant::now()).is_err());
    assert_eq!(limiter.usage().totals, totals(0, 0, 2));
    let (_, waiting) = tokio::join!(send(&limiter, ms(2_000), start), async { limiter.usage().waiting });
    assert_eq!(waiting, 1);
    let after = limiter.usage().totals;
    assert_eq!((after.delayed, after.rejected), (1, 2));
    assert!((ms(1_000)..=ms(1_005)).contains(&after.delay), "{after:?}");
}
