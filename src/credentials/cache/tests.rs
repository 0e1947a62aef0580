//! On the runtime's own paused time: a minute takes no time.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use http::HeaderValue;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use super::*;
use crate::telemetry::Metrics;

const LIFE: Duration = Duration::from_secs(1000);

fn token(number: usize) -> Proof {
    Proof::Token(HeaderValue::from_str(&format!("token-{number}")).unwrap())
}

fn down() -> Failed {
    Failed { cause: "down".into(), refused: false, wait: None }
}

/// A source that answers by script, the last answer for ever, and counts.
#[derive(Debug)]
struct Iam {
    script: Mutex<Vec<Result<(), Failed>>>,
    fetches: AtomicUsize,
    /// Answers that may be given.
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
                answer.map(|()| Fresh { proof: token(number), life: LIFE })
            }
        };
        Cache::start("a script".into(), fetch, Metrics::default().credential("default"))
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
        callers.spawn(async move { cache.proof().await });
    }
    sleep(Duration::from_secs(1)).await;
    iam.answers.add_permits(1);
    while let Some(proof) = callers.join_next().await {
        assert_eq!(proof.unwrap(), Ok(token(1)));
    }
    assert_eq!(iam.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_at_about_four_fifths_of_its_life_whether_or_not_anybody_calls() {
    let iam = Iam::answering([Ok(())]);
    let cache = iam.cache();
    cache.first().await;
    sleep(LIFE.mul_f64(0.74)).await;
    assert_eq!((iam.fetches(), cache.proof().await), (1, Ok(token(1))));
    sleep(LIFE.mul_f64(0.12)).await;
    assert_eq!((iam.fetches(), cache.proof().await), (2, Ok(token(2))));
}

#[tokio::test(start_paused = true)]
async fn while_renewal_fails_the_old_one_serves_until_it_ends() {
    let iam = Iam::answering([Ok(()), Err(down())]);
    let cache = iam.cache();
    cache.first().await;
    let began = Instant::now();
    while began.elapsed() < LIFE.saturating_sub(Duration::from_secs(1)) {
        assert_eq!(cache.proof().await, Ok(token(1)), "after {:?}", began.elapsed());
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let Err(Missing::Unavailable { cause, wait }) = cache.proof().await else { panic!("it has ended") };
    assert_eq!(cause, "down");
    assert!(wait <= LONGEST_PAUSE);
    // 150 to 250 s of failures, with pauses that double up to a minute.
    assert!((5..=20).contains(&iam.fetches()), "{} fetches", iam.fetches());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_source_asks_for_is_kept_and_a_refusal_is_not_repeated_soon() {
    for (failed, pause) in [
        (Failed { wait: Some(Duration::from_secs(90)), ..down() }, Duration::from_secs(90)),
        (Failed { refused: true, ..down() }, REFUSED_PAUSE),
    ] {
        let iam = Iam::answering([Err(failed.clone())]);
        let cache = iam.cache();
        assert!(cache.proof().await.is_err());
        sleep(pause.saturating_sub(Duration::from_secs(1))).await;
        let missing = cache.proof().await.unwrap_err();
        assert_eq!(matches!(missing, Missing::Refused(_)), failed.refused);
        assert_eq!(iam.fetches(), 1);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(iam.fetches(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_one_is_retired_once() {
    let iam = Iam::answering([Ok(())]);
    let cache = Arc::new(iam.cache());
    cache.first().await;
    sleep(Duration::from_secs(60)).await;
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let cache = Arc::clone(&cache);
        callers.spawn(async move {
            cache.retire(&token(1));
            cache.proof().await
        });
    }
    while let Some(proof) = callers.join_next().await {
        assert_eq!(proof.unwrap(), Ok(token(2)));
    }
    // What was refused long ago says nothing of what is there now.
    sleep(Duration::from_secs(60)).await;
    cache.retire(&token(1));
    assert_eq!(cache.proof().await, Ok(token(2)));
    assert_eq!(iam.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_as_soon_as_it_is_fetched_is_not_fetched_again() {
    let iam = Iam::answering([Ok(())]);
    let cache = iam.cache();
    cache.first().await;
    cache.retire(&token(1));
    assert_eq!(cache.proof().await, Ok(token(1)));
    assert_eq!(iam.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_outlives_the_caller_that_waits_for_it() {
    let iam = Iam::answering([Ok(())]);
    iam.answers.forget_permits(usize::MAX >> 4);
    let cache = iam.cache();
    let waited = tokio::time::timeout(Duration::from_secs(1), cache.proof()).await;
    assert!(waited.is_err(), "the caller's own deadline ends its wait");
    iam.answers.add_permits(1);
    assert_eq!(cache.proof().await, Ok(token(1)));
    assert_eq!(iam.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_answers_is_given_up() {
    let iam = Iam::answering([Ok(())]);
    iam.answers.forget_permits(usize::MAX >> 4);
    let cache = iam.cache();
    let Err(Missing::Unavailable { cause, .. }) = cache.proof().await else { panic!("there is no answer") };
    assert!(cause.contains("does not answer"), "{cause}");
}
