//! Several workers: what must be one for the process is one.

use std::collections::{BTreeMap, BTreeSet};

use testkit::wait::{PATIENCE, settles};
use tonic::Code;

use crate::support::{Caller, Cloud, Gateway, Reply, documented, failed, greet, on_certificate, soon};

const WORKERS: usize = 4;

const CALLERS: usize = 24;

/// A gateway with four workers, and callers on connections of their own.
async fn with_workers(cloud: &Cloud, settings: &[(&'static str, &str)]) -> (Gateway, Vec<Caller>) {
    let plan = Gateway::facing(cloud.address).with("workers", "4");
    let plan = settings.iter().fold(plan, |plan, (key, value)| plan.with(key, *value));
    let gateway = plan.start().await;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        callers.push(gateway.caller().await);
    }
    (gateway, callers)
}

#[tokio::test]
async fn each_worker_has_connections_of_its_own() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (gateway, callers) = with_workers(&cloud, &[]).await;
    for caller in &callers {
        caller.attach(documented()).await.unwrap();
    }
    // One after the other, a single worker would use one connection again and again.
    assert_eq!(cloud.connections(), WORKERS);
    assert!(gateway.admin("/metrics").await.1.contains(&format!("apig_gateway_connections {CALLERS}\n")));
}

/// Each worker has one connection to the cloud while calls come one by one, so that connections tell the workers.
#[tokio::test]
async fn connections_are_dealt_evenly_also_after_some_have_closed() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("workers", WORKERS.to_string()).start().await;
    let mut callers = Vec::new();
    for _ in 0..2 * WORKERS {
        callers.push(gateway.caller().await);
    }
    let dealt = workers_of(&cloud, &callers).await;
    assert_eq!(connections_by_worker(&dealt), [2; WORKERS]);

    // Both connections of one worker, and one of another.
    let second = dealt.iter().position(|worker| *worker != dealt[0]).unwrap();
    let stays = |at: usize| dealt[at] != dealt[0] && at != second;
    let mut callers: Vec<_> =
        callers.into_iter().enumerate().filter(|(at, _)| stays(*at)).map(|(_, caller)| caller).collect();
    let open = format!("apig_gateway_connections {}\n", callers.len());
    let has_closed = async || gateway.admin("/metrics").await.1.contains(&open);
    assert!(settles(PATIENCE, has_closed, |has_closed| *has_closed).await);
    while callers.len() < 2 * WORKERS {
        callers.push(gateway.caller().await);
    }
    let dealt = workers_of(&cloud, &callers).await;
    assert_eq!(connections_by_worker(&dealt), [2; WORKERS]);
}

/// The worker of each caller.
async fn workers_of(cloud: &Cloud, callers: &[Caller]) -> Vec<usize> {
    let mut workers = Vec::new();
    for caller in callers {
        caller.attach(documented()).await.unwrap();
        workers.push(cloud.last_request().connection);
    }
    workers
}

fn connections_by_worker(workers: &[usize]) -> Vec<usize> {
    let mut numbers = BTreeMap::new();
    for worker in workers {
        *numbers.entry(worker).or_default() += 1;
    }
    numbers.into_values().collect()
}

#[tokio::test]
async fn the_limit_holds_over_all_workers() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let (_gateway, callers) = with_workers(&cloud, &[("max-concurrency", "2")]).await;
    let held: Vec<_> = (0..2)
        .map(|number| {
            let caller = callers[number].clone();
            tokio::spawn(async move { caller.attach(on_certificate(number)).await })
        })
        .collect();
    cloud.requests(2).await;
    for caller in &callers {
        assert_eq!(failed(caller.attach(documented()).await).verdict(), (Code::Unavailable, "OVERLOADED"));
    }
    assert_eq!(cloud.seen().len(), 2);
    for call in held {
        call.abort();
    }
}

#[tokio::test]
async fn connections_are_counted_over_all_workers() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let most = CALLERS.to_string();
    let (gateway, callers) = with_workers(&cloud, &[("max-connections", &most)]).await;
    // A worker may take its connections later than the system does; whoever is answered has been taken.
    for caller in &callers {
        caller.attach(documented()).await.unwrap();
    }
    let mut one_more = greet(&gateway.address.to_string()).await;
    let read = soon(tokio::io::AsyncReadExt::read(&mut one_more, &mut [0; 16])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "one more is served: {read:?}");
}

#[tokio::test]
async fn the_budget_of_repeats_is_one() {
    let cloud = Cloud::answering([Reply::with(503, &[], b"")]).await;
    let (_gateway, callers) = with_workers(&cloud, &[("breaker-threshold", "0")]).await;
    let calls: Vec<_> = (0..CALLERS)
        .map(|number| {
            let caller = callers[number].clone();
            tokio::spawn(async move { caller.attach(on_certificate(number)).await })
        })
        .collect();
    for call in calls {
        assert_eq!(failed(soon(call).await.unwrap()).verdict(), (Code::Unavailable, "HTTP_503"));
    }
    // Ten at once, a fifth of the calls, and one a second for as long as a test may take. Four budgets would be forty.
    let repeats = cloud.seen().len() - CALLERS;
    assert!((10..=10 + CALLERS / 5 + 20).contains(&repeats), "{repeats} repeats");
}

#[tokio::test]
async fn the_circuit_is_one() {
    let cloud = Cloud::answering([Reply::with(502, &[], b"")]).await;
    let (_gateway, callers) = with_workers(&cloud, &[("breaker-threshold", "3"), ("max-attempts", "1")]).await;
    for caller in callers.iter().take(3) {
        assert_eq!(failed(caller.attach(documented()).await).verdict().1, "HTTP_502");
    }
    let verdicts = futures_util::future::join_all(callers.iter().map(|caller| caller.attach(documented()))).await;
    let verdicts: BTreeSet<_> = verdicts.into_iter().map(|result| failed(result).verdict().1.to_owned()).collect();
    assert_eq!(verdicts, BTreeSet::from(["CIRCUIT_OPEN".to_owned()]));
    assert_eq!(cloud.seen().len(), 3);
}

#[tokio::test]
async fn a_certificate_has_one_queue() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let (_gateway, callers) = with_workers(&cloud, &[]).await;
    let calls: Vec<_> = callers
        .iter()
        .map(|caller| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.attach(documented()).await })
        })
        .collect();
    cloud.requests(1).await;
    // Another certificate passes those that wait, so they have been there by the time that it arrives.
    let other = callers[0].clone();
    let other = tokio::spawn(async move { other.attach(on_certificate(1)).await });
    cloud.requests(2).await;
    assert_eq!(cloud.seen().len(), 2, "two changes of one certificate at once");
    for call in calls.into_iter().chain([other]) {
        call.abort();
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_for_all() {
    let refused = Reply::refused(401, "APIG.1002", "Incorrect token or token resolution failed.");
    let cloud = Cloud::answering([refused, Reply::attached()]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "old").unwrap();
    let settings = [("credentials", "token"), ("token-file", path.to_str().unwrap())];
    let (_gateway, callers) = with_workers(&cloud, &settings).await;
    std::fs::write(&path, "new").unwrap();
    for caller in &callers {
        caller.attach(documented()).await.unwrap();
    }
    let seen = cloud.seen();
    let old = seen.iter().filter(|seen| seen.header("x-auth-token") == Some("old")).count();
    assert!(old <= 1, "{old} requests with a token that was refused");
    assert_eq!(seen.len(), CALLERS + 1);
}

#[tokio::test]
async fn all_workers_drain() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (mut gateway, callers) = with_workers(&cloud, &[]).await;
    for caller in &callers {
        caller.attach(documented()).await.unwrap();
    }
    gateway.stop();
    gateway.drained().await;
    assert!(tokio::net::TcpStream::connect(gateway.address.to_string()).await.is_err(), "a worker still listens");
}
