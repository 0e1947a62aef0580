use std::{cell::RefCell, sync::Mutex};

use super::*;
use crate::{cloud::RateLimited, credentials::CredentialError, mask::Masker};

fn refused(status: u16, body: &str, retry_after: Option<u64>) -> Error {
    let retry_after = retry_after.map(Duration::from_secs);
    Error::Refused(Box::new(Refusal::read(&Masker::default(), status, None, retry_after, body.as_bytes())))
}

fn coded(status: u16, code: &str) -> Error {
    refused(status, &format!(r#"{{"error_code":"{code}","error_msg":"m"}}"#), None)
}

#[test]
fn only_what_was_not_done_has_a_fate_that_allows_a_repeat() {
    let waits = |seconds| Fate::Refused { delay: Duration::from_secs(seconds), asked: false, throttled: false };
    let throttles = Fate::Refused { delay: Duration::from_secs(1), asked: false, throttled: true };
    let asked = |seconds, throttled| Fate::Refused { delay: Duration::from_secs(seconds), asked: true, throttled };
    let table = [
        (Error::Unreachable(String::new()), Fate::Harmless),
        (Error::ConnectionLost(String::new()), Fate::Final),
        (Error::Decode(String::new()), Fate::Final),
        (Error::Unauthorized(CredentialError::Token), Fate::Final),
        (refused(503, "", None), waits(1)),
        (refused(503, "", Some(7)), asked(7, false)),
        (refused(429, "", None), throttles),
        (refused(429, "", Some(3)), asked(3, true)),
        (coded(429, "APIG.0308"), throttles),
        (coded(500, "APIG.9008"), throttles),
        (coded(500, "APIG.3500"), waits(1)),
        (coded(502, "APIG.0201"), waits(1)),
        (coded(502, "APIG.0202"), waits(1)),
        (refused(502, "", None), Fate::Final),
        (refused(502, "", Some(1)), Fate::Final),
        (refused(500, "", None), Fate::Final),
        (refused(500, "", Some(1)), Fate::Final),
        (refused(504, "", None), Fate::Final),
        (coded(504, "APIG.0201"), Fate::Final),
        (coded(500, "APIG.9999"), Fate::Final),
        (coded(404, "APIG.3020"), Fate::Final),
        (coded(401, "APIG.1002"), Fate::Final),
        (refused(404, "", Some(1)), Fate::Final),
    ];
    for (error, fate) in table {
        assert_eq!(error.fate(), fate, "{error:?}");
    }
}

#[test]
fn the_decision_is_a_table() {
    let ms = Duration::from_millis;
    let wait = |delay, asked, throttled| Fate::Refused { delay, asked, throttled };
    let again = |delay, price| Decision::Repeat { delay, price };
    let long = Duration::from_secs(30);
    let table = [
        // fate, attempt, most, left, chance → decision
        (Fate::Harmless, 1, 3, long, 1.0, again(ms(100), 1)),
        (Fate::Harmless, 2, 3, long, 1.0, again(ms(200), 1)),
        (Fate::Harmless, 1, 3, long, 0.0, again(ms(0), 1)),
        (Fate::Harmless, 3, 3, long, 0.0, Decision::GiveUp),
        (Fate::Harmless, 1, 1, long, 0.0, Decision::GiveUp),
        (Fate::Harmless, 20, 99, long, 1.0, again(LONGEST_DELAY, 1)),
        (Fate::Harmless, 1, 3, ms(100), 1.0, Decision::GiveUp),
        (Fate::Harmless, 1, 3, ms(101), 1.0, again(ms(100), 1)),
        (Fate::Harmless, 1, 3, ms(0), 0.0, Decision::GiveUp),
        (Fate::Final, 1, 3, long, 0.5, Decision::GiveUp),
        (wait(ms(1000), false, false), 1, 3, long, 0.5, again(ms(500), 1)),
        (wait(ms(1000), false, true), 2, 3, long, 0.5, again(ms(1000), 2)),
        (wait(ms(2000), true, false), 1, 3, long, 0.0, again(ms(2000), 1)),
        (wait(ms(2000), true, true), 2, 3, long, 0.5, again(ms(2050), 2)),
        // The cloud asks for more than there is: the error goes back at once.
        (wait(ms(2000), true, true), 1, 3, ms(2000), 0.0, Decision::GiveUp),
        (wait(Duration::from_secs(60), false, true), 1, 3, long, 0.4, again(Duration::from_secs(24), 2)),
        (wait(Duration::from_secs(60), false, true), 1, 3, long, 0.6, Decision::GiveUp),
    ];
    for (fate, attempt, most, left, jitter, decision) in table {
        assert_eq!(decide(fate, attempt, most, left, jitter), decision, "{fate:?} {attempt}/{most} {left:?} {jitter}");
    }
}

/// A clock that sleeping moves on.
struct Hand {
    now: Mutex<Instant>,
    slept: Mutex<Vec<Duration>>,
}

impl Hand {
    fn new() -> Self {
        Self { now: Mutex::new(Instant::now()), slept: Mutex::default() }
    }
}

impl Clock for Hand {
    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }

    async fn sleep(&self, delay: Duration) {
        *self.now.lock().unwrap() += delay;
        self.slept.lock().unwrap().push(delay);
    }

    fn jitter(&self) -> f64 {
        1.0
    }
}

/// Runs the loop over these outcomes; gives the result, the number of attempts and the pauses.
async fn run_over(
    outcomes: Vec<Result<u8, Error>>,
    most: u32,
    time: Duration,
    budget: &Budget,
) -> (Result<u8, Error>, usize, Vec<Duration>) {
    let clock = Hand::new();
    let deadline = clock.now() + time;
    let made = RefCell::new(0);
    let outcomes = RefCell::new(outcomes.into_iter());
    let attempt = || {
        *made.borrow_mut() += 1;
        let outcome = outcomes.borrow_mut().next().expect("the test has an outcome for each attempt");
        async { outcome }
    };
    let result = run(&clock, budget, most, deadline, attempt, |_, _, _| {}).await;
    let slept = clock.slept.lock().unwrap().clone();
    (result, made.into_inner(), slept)
}

#[tokio::test]
async fn the_loop_repeats_until_success() {
    let outcomes = vec![Err(Error::Unreachable(String::new())), Err(refused(503, "", Some(1))), Ok(7)];
    let (result, attempts, slept) = run_over(outcomes, 3, Duration::from_secs(30), &Budget::new(Instant::now())).await;
    assert_eq!((result.unwrap(), attempts), (7, 3));
    assert_eq!(slept, [Duration::from_millis(100), Duration::from_millis(1100)]);
}

#[tokio::test]
async fn the_loop_gives_the_last_error_back() {
    let outcomes = vec![Err(Error::Unreachable(String::new())), Err(Error::ConnectionLost("x".into()))];
    let (result, attempts, _) = run_over(outcomes, 5, Duration::from_secs(30), &Budget::new(Instant::now())).await;
    assert!(matches!(result, Err(Error::ConnectionLost(_))));
    assert_eq!(attempts, 2);
}

#[tokio::test]
async fn an_attempt_that_was_not_made_hides_no_answer() {
    let wait = Duration::from_secs(1);
    for kept in [Error::CircuitOpen(wait), Error::RateLimited(RateLimited { wait, limit: 1 })] {
        let outcomes = vec![Err(refused(503, "", None)), Err(kept)];
        let budget = Budget::new(Instant::now());
        let (result, attempts, _) = run_over(outcomes, 3, Duration::from_secs(30), &budget).await;
        assert!(matches!(result, Err(Error::Refused(_))));
        assert_eq!(attempts, 2);
    }
}

#[tokio::test]
async fn the_loop_never_sleeps_past_the_deadline() {
    let outcomes = vec![Err(refused(503, "", Some(10)))];
    let (result, attempts, slept) = run_over(outcomes, 3, Duration::from_secs(9), &Budget::new(Instant::now())).await;
    assert!(matches!(result, Err(Error::Refused(_))));
    assert_eq!((attempts, slept), (1, Vec::new()));
}

#[tokio::test]
async fn the_budget_bounds_repeats_to_a_share_of_the_calls() {
    let budget = Budget::new(Instant::now());
    let mut attempts = 0;
    for _ in 0..1000 {
        let outcomes = (0..3).map(|_| Err(Error::Unreachable(String::new()))).collect();
        attempts += run_over(outcomes, 3, Duration::from_secs(30), &budget).await.1;
    }
    let repeats = attempts - 1000;
    assert!((205..=215).contains(&repeats), "{repeats} repeats of 1000 calls");
}

#[tokio::test]
async fn throttling_costs_the_budget_twice() {
    let budget = Budget::new(Instant::now());
    let mut attempts = 0;
    for _ in 0..1000 {
        let outcomes = (0..3).map(|_| Err(coded(429, "APIG.0308"))).collect();
        attempts += run_over(outcomes, 3, Duration::from_secs(30), &budget).await.1;
    }
    let repeats = attempts - 1000;
    assert!((102..=108).contains(&repeats), "{repeats} repeats of 1000 calls");
}

#[test]
fn the_budget_has_a_floor_and_a_bound() {
    let start = Instant::now();
    let budget = Budget::new(start);
    let drain = || (0..1000).filter(|_| budget.withdraw(1)).count();
    assert_eq!(drain(), 10);
    budget.deposit(start + Duration::from_secs(3));
    assert_eq!(drain(), 3);
    budget.deposit(start + Duration::from_secs(3600));
    assert_eq!(drain(), 10);
}

#[test]
fn the_budget_counts_no_second_twice() {
    let start = Instant::now();
    let budget = Budget::new(start);
    let drain = || (0..1000).filter(|_| budget.withdraw(1)).count();
    assert_eq!(drain(), 10);
    // The second caller has read the clock before the first.
    for seconds in [3, 0, 3] {
        budget.deposit(start + Duration::from_secs(seconds));
    }
    assert_eq!(drain(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_budget_shows_what_is_left() {
    let start = Instant::now();
    let budget = Budget::new(start);
    let is = |moment, expected: f64| assert!((budget.amount(moment) - expected).abs() < 1e-9, "{budget:?}");
    is(start, Budget::MOST);
    assert!(budget.withdraw(2) && budget.withdraw(1));
    is(start, Budget::MOST - 3.0);
    is(start + Duration::from_secs(2), Budget::MOST - 1.0);
    is(start + Duration::from_secs(60), Budget::MOST);
}
