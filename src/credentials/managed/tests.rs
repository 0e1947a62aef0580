//! Tests of one identity's credential against a cloud that accepts or refuses.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use http::HeaderValue;
use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::{
    call::Progress,
    credentials::{Keys, Verdict},
};

fn keys(secret: &str) -> Kind {
    Kind::Keys(Keys::new("AKEXAMPLE", secret, None).unwrap())
}

fn managed(kind: Kind) -> Arc<ManagedCredential> {
    ManagedCredential::start(kind, "default", &Arc::default(), &Arc::default()).unwrap()
}

async fn granted(managed: &ManagedCredential) -> Grant {
    managed.grant(&|| Sent::Unknown).await.unwrap()
}

/// The time until the next probe.
async fn suspended(managed: &ManagedCredential) -> Duration {
    match managed.grant(&|| Sent::Unknown).await {
        Err(CredentialError::Suspended { wait, .. }) => wait,
        other => panic!("{other:?}"),
    }
}

async fn refuse(managed: &ManagedCredential) {
    granted(managed).await.settle(Verdict::Refused, Some("APIG.0301"));
}

#[tokio::test]
async fn a_replaced_credential_serves_from_then_on() {
    let token = |text: &'static str| HeaderValue::from_static(text);
    let managed = managed(Kind::Token(token("one")));
    let old = granted(&managed).await.credential().clone();
    assert_eq!(managed.is_replaced(&old).await, Ok(false));
    managed.replace(Kind::Token(token("two"))).unwrap();
    assert_eq!(granted(&managed).await.credential(), &Credential::Token(token("two")));
    assert_eq!(managed.is_replaced(&old).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_first_calls_with_a_wrong_secret_send_two_signatures() {
    let managed = managed(keys("wrong"));
    let sent = Arc::new(AtomicU32::new(0));
    let mut calls = JoinSet::new();
    for _ in 0..1_000 {
        let (managed, sent) = (Arc::clone(&managed), Arc::clone(&sent));
        calls.spawn(async move {
            let grant = managed.grant(&|| Sent::Unknown).await?;
            sent.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            grant.settle(Verdict::Refused, Some("APIG.0301"));
            Ok(())
        });
    }
    let mut stopped = 0;
    while let Some(call) = calls.join_next().await {
        if let Err(error) = call.unwrap() {
            assert!(matches!(error, CredentialError::Suspended { code: Some(code), .. } if code == "APIG.0301"));
            stopped += 1;
        }
    }
    assert_eq!((sent.load(Ordering::SeqCst), stopped), (2, 998));
}

#[tokio::test(start_paused = true)]
async fn calls_of_an_accepted_pair_wait_for_nobody() {
    let managed = managed(keys("right"));
    granted(&managed).await.settle(Verdict::Accepted, None);
    let started = Instant::now();
    let grants = [granted(&managed).await, granted(&managed).await, granted(&managed).await];
    assert_eq!((grants.len(), started.elapsed()), (3, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_go_together_once_the_pair_is_accepted() {
    let managed = managed(keys("right"));
    let first = granted(&managed).await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let managed = Arc::clone(&managed);
        calls.spawn(async move { drop(granted(&managed).await) });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(calls.try_join_next().is_none(), "all wait for the first outcome");
    first.settle(Verdict::Accepted, None);
    calls.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn another_pair_begins_with_a_fuse_of_its_own_and_the_same_pair_keeps_it() {
    let managed = managed(keys("wrong"));
    refuse(&managed).await;
    refuse(&managed).await;
    managed.replace(keys("wrong")).unwrap();
    assert_eq!(suspended(&managed).await, Duration::from_secs(30), "the file was touched, no more");
    managed.replace(keys("right")).unwrap();
    granted(&managed).await.settle(Verdict::Accepted, None);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_an_old_pair_get_the_new_one() {
    let managed = managed(keys("old"));
    let stuck = granted(&managed).await;
    let waiting = {
        let managed = Arc::clone(&managed);
        tokio::spawn(async move { granted(&managed).await.credential().clone() })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    managed.replace(keys("new")).unwrap();
    assert_ne!(waiting.await.unwrap(), stuck.settle(Verdict::Accepted, None));
}

#[tokio::test(start_paused = true)]
async fn identities_that_sign_with_the_same_pair_share_its_fuse() {
    let (ring, metrics) = (Arc::default(), Arc::new(Metrics::default()));
    let start = |name| ManagedCredential::start(keys("wrong"), name, &ring, &metrics).unwrap();
    let (one, two) = (start("one"), start("two"));
    refuse(&one).await;
    refuse(&two).await;
    suspended(&one).await;
    suspended(&two).await;
    let position = |identity: &str| metrics.credential_fuse(identity).get();
    assert_eq!((position("one"), position("two")), (2, 2));
    two.replace(keys("right")).unwrap();
    assert_eq!((position("one"), position("two")), (2, 0));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let probe = granted(&one).await;
    assert_eq!(position("one"), 1);
    probe.settle(Verdict::Accepted, None);
    assert_eq!((position("one"), position("two")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_leaves_gives_its_turn_back() {
    let managed = managed(keys("right"));
    let progress = Arc::new(Progress::default());
    // A caller that cancels before its request is sent has no effect.
    for _ in 0..20 {
        drop(managed.grant(&|| Sent::after(&progress)).await.unwrap());
    }
    let started = Instant::now();
    // After sending, the cloud may have counted a refusal.
    for _ in 0..4 {
        let grant = managed.grant(&|| Sent::after(&progress)).await.unwrap();
        progress.sent();
        drop(grant);
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    granted(&managed).await.settle(Verdict::Accepted, None);
    assert_eq!(started.elapsed(), Duration::from_secs(30));
}
