//! Tests of the cache with paused time.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use http::HeaderValue;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use super::*;
use crate::telemetry::Metrics;

const LIFE: Duration = Duration::from_secs(1000);

fn token(number: usize) -> Credential {
    Credential::Token(HeaderValue::from_str(&format!("token-{number}")).unwrap())
}

fn down() -> Failed {
    Failed { cause: "down".into(), refused: false, wait: None }
}

/// A source with scripted responses, the last one repeated for ever; counts the fetches.
#[derive(Debug)]
struct Iam {
    script: Mutex<Vec<Result<(), Failed>>>,
    fetches: AtomicUsize,
    /// A permit for each response.
    answers: Semaphore,
}

impl Iam {
    fn answering(script: impl IntoIterator<Item = Result<(), Failed>>) -> Arc<Self> {
        let script = Mutex::new(script.into_iter().collect());
        Arc::new(Self { script, fetches: AtomicUsize::new(0), answers: Semaphore::new(usize::MAX >> 4) })
    }

    fn cache(self: &Arc<Self>) -> Cache {
        let iam = Arc::clone(self);
        let fetch = move || {
            let iam = Arc::clone(&iam);
            async move {
                let number = iam.fetches.fetch_add(1, Ordering::SeqCst) + 1;
                iam.answers.acquire().await.unwrap().forget();
                let mut script = iam.script.lock().unwrap();
                let answer = if script.len() > 1 { script.remove(0) } else { script[0].clone() };
                answer.map(|()| Fetched { credential: token(number), life: LIFE })
            }
        };
        Cache::start("a script", fetch, Metrics::default().credential("default"))
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_wait_for_one_fetch() {
    let iam = Iam::answering([Ok(())]);
    iam.answers.forget_permits(usize::MAX >> 4);
    let cache = Arc::new(iam.cache());
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let cache = Arc::clone(&cache);
        callers.spawn(async move { cache.credential().await });
    }
    sleep(Duration::from_secs(1)).await;
    iam.answers.add_permits(1);
    while let Some(credential) = callers.join_next().await {
        assert_eq!(credential.unwrap(), Ok(token(1)));
    }
    assert_eq!(iam.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_at_about_four_fifths_of_its_life_whether_or_not_anybody_calls() {
    let iam = Iam::answering([Ok(())]);
    let cache = iam.cache();
    cache.first().await;
    sleep(LIFE.mul_f64(0.74)).await;
    assert_eq!((iam.fetches(), cache.credential().await), (1, Ok(token(1))));
    sleep(LIFE.mul_f64(0.12)).await;
    assert_eq!((iam.fetches(), cache.credential().await), (2, Ok(token(2))));
}

#[tokio::test(start_paused = true)]
async fn while_renewal_fails_the_old_one_serves_until_it_ends() {
    let iam = Iam::answering([Ok(()), Err(down())]);
    let cache = iam.cache();
    cache.first().await;
    let began = Instant::now();
    while began.elapsed() < LIFE.saturating_sub(Duration::from_secs(1)) {
        assert_eq!(cache.credential().await, Ok(token(1)), "after {:?}", began.elapsed());
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let Err(CredentialError::Unavailable { cause, wait }) = cache.credential().await else { panic!("it has ended") };
    assert_eq!(cause, "down");
    assert!(wait <= LONGEST_DELAY);
    // 150 to 250 s of failures, with delays that double up to a minute.
    assert!((5..=20).contains(&iam.fetches()), "{} fetches", iam.fetches());
}

#[tokio::test(start_paused = true)]
async fn retry_after_delays_a_fetch_up_to_a_minute_and_a_refusal_longer() {
    let asks = |seconds| Failed { wait: Some(Duration::from_secs(seconds)), ..down() };
    for (failed, delay) in [
        (asks(30), Duration::from_secs(30)),
        (asks(21_600), MAX_RETRY_AFTER),
        (asks(u64::MAX), MAX_RETRY_AFTER),
        (Failed { refused: true, ..down() }, REFUSED_DELAY),
    ] {
        let iam = Iam::answering([Err(failed.clone())]);
        let cache = iam.cache();
        assert!(cache.credential().await.is_err());
        sleep(delay.saturating_sub(Duration::from_secs(1))).await;
        let missing = cache.credential().await.unwrap_err();
        assert_eq!(matches!(missing, CredentialError::Refused(_)), failed.refused);
        assert_eq!(iam.fetches(), 1);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(iam.fetches(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_retired_once() {
    let iam = Iam::answering([Ok(())]);
    let cache = Arc::new(iam.cache());
    cache.first().await;
    sleep(Duration::from_secs(60)).await;
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let cache = Arc::clone(&cache);
        callers.spawn(async move {
            cache.retire(&token(1));
            cache.credential().await
        });
    }
    while let Some(credential) = callers.join_next().await {
        assert_eq!(credential.unwrap(), Ok(token(2)));
    }
    // Refusing a former credential does not retire the current one.
    sleep(Duration::from_secs(60)).await;
    cache.retire(&token(1));
    assert_eq!(cache.credential().await, Ok(token(2)));
    assert_eq!(iam.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_as_soon_as_it_is_fetched_is_not_fetched_again() {
    let iam = Iam::answering([Ok(())]);
    let cache = iam.cache();
    cache.first().await;
    cache.retire(&token(1));
    assert_eq!(cache.credential().await, Ok(token(1)));
    assert_eq!(iam.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_outlives_the_caller_that_waits_for_it() {
    let iam = Iam::answering([Ok(())]);
    iam.answers.forget_permits(usize::MAX >> 4);
    let cache = iam.cache();
    let waited = tokio::time::timeout(Duration::from_secs(1), cache.credential()).await;
    assert!(waited.is_err(), "the caller's own deadline ends its wait");
    iam.answers.add_permits(1);
    assert_eq!(cache.credential().await, Ok(token(1)));
    assert_eq!(iam.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_without_a_response_times_out() {
    let iam = Iam::answering([Ok(())]);
    iam.answers.forget_permits(usize::MAX >> 4);
    let cache = iam.cache();
    let Err(CredentialError::Unavailable { cause, .. }) = cache.credential().await else {
        panic!("there is no answer")
    };
    assert!(cause.contains("no response"), "{cause}");
}

/// A cache of credentials with this lifetime, and the number of fetches.
fn short_lived(life: Duration) -> (Cache, Arc<AtomicUsize>) {
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetches);
    let fetch = move || {
        let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok(Fetched { credential: token(number), life }) }
    };
    (Cache::start("a source", fetch, Metrics::default().credential("default")), fetches)
}

#[tokio::test(start_paused = true)]
async fn an_expired_credential_is_an_error_and_does_not_hasten_the_next_fetch() {
    let (cache, fetches) = short_lived(Duration::ZERO);
    let Err(CredentialError::Unavailable { cause, wait }) = cache.credential().await else { panic!("it has ended") };
    assert!(cause.contains("issued an expired credential"), "{cause}");
    assert!(wait <= LONGEST_DELAY);
    sleep(Duration::from_secs(3_600)).await;
    // Finally one per minute, each up to half a minute early.
    let fetches = fetches.load(Ordering::SeqCst);
    assert!((60..=130).contains(&fetches), "{fetches} fetches in an hour");
}

#[tokio::test(start_paused = true)]
async fn credentials_with_short_lifetimes_are_used_and_their_fetches_spaced() {
    for life in [Duration::from_nanos(1), Duration::from_millis(10), Duration::from_secs(5)] {
        let (cache, fetches) = short_lived(life);
        cache.first().await;
        sleep(Duration::from_secs(3_600)).await;
        let fetches = fetches.load(Ordering::SeqCst);
        assert!((55..=75).contains(&fetches), "{life:?}: {fetches} fetches in an hour");
        // Between its expiry and the next fetch, callers get an error.
        let Err(CredentialError::Unavailable { cause, wait }) = cache.credential().await else {
            panic!("{life:?} is over")
        };
        assert!(cause.contains("expire after only"), "{cause}");
        assert!(wait <= SHORT_LIFE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_very_long_lifetime_is_capped() {
    let (cache, fetches) = short_lived(Duration::MAX);
    cache.first().await;
    sleep(LONGEST_LIFE).await;
    assert_eq!(fetches.load(Ordering::SeqCst), 2);
    assert_eq!(cache.credential().await, Ok(token(2)));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_is_counted_and_tried_again() {
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetches);
    let fetch = move || {
        let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            assert!(number > 2, "a bug");
            Ok(Fetched { credential: token(number), life: LIFE })
        }
    };
    let metrics = Metrics::default();
    let cache = Cache::start("a source", fetch, metrics.credential("default"));
    let Err(CredentialError::Unavailable { cause, wait }) = cache.credential().await else {
        panic!("the fetch panicked")
    };
    assert_eq!((cause.as_str(), wait), ("the fetch panicked", Duration::from_secs(1)));
    cache.first().await;
    assert_eq!(cache.credential().await, Ok(token(3)));
    assert_eq!(metrics.task_panics.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_whose_credentials_are_all_refused_do_not_drive_fetches() {
    let iam = Iam::answering([Ok(())]);
    let cache = iam.cache();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3_600) {
        let current = cache.credential().await.unwrap();
        cache.retire(&current);
        sleep(Duration::from_millis(100)).await;
    }
    // Their lifetime alone requires four or five.
    assert!(iam.fetches() <= 25, "{} fetches in an hour", iam.fetches());
}

#[tokio::test(start_paused = true)]
async fn the_state_of_the_task_is_a_metric() {
    let metrics = Metrics::default();
    let iam = Iam::answering([Err(down()), Err(Failed { refused: true, ..down() }), Ok(())]);
    iam.answers.forget_permits(usize::MAX >> 4);
    let fetching = Arc::clone(&iam);
    let fetch = move || {
        let iam = Arc::clone(&fetching);
        async move {
            iam.answers.acquire().await.unwrap().forget();
            let answer = iam.script.lock().unwrap().remove(0);
            answer.map(|()| Fetched { credential: token(1), life: LIFE })
        }
    };
    let _cache = Cache::start("a source", fetch, metrics.credential("default"));
    let state = || {
        let text = metrics.text();
        let line = text.lines().find(|line| line.starts_with("apig_gateway_credential_state{") && line.ends_with(" 1"));
        line.unwrap().split('"').nth(3).unwrap().to_owned()
    };
    for (expected, delay) in [("failed", 2), ("refused", 301), ("valid", 0)] {
        sleep(Duration::from_millis(1)).await;
        assert_eq!(state(), "fetching");
        iam.answers.add_permits(1);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(state(), expected);
        sleep(Duration::from_secs(delay)).await;
    }
}
