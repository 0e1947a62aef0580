//! Unknown outcomes that the gateway looks up, before a cloud that keeps a list of bindings: changes made and lost, not
//! made, made in part, made seconds later, and lists that can't be read. What each caller is told is held against the
//! cloud's own record.

mod call;
mod cloud;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use testkit::report::{Check, Report, spread};
use tokio::task::JoinSet;

use self::{
    call::{Kind, Plan, Told, client, perform},
    cloud::Cloud,
};
use super::{Arguments, chaos::NUMBERS, clock::Lag, gateway::Gateway, leak};

/// The name of this configuration.
pub(crate) const NAME: &str = "read-back";

/// The block of the numbers of these calls, of [`NUMBERS`] each.
const BLOCK: u64 = 40;

/// Calls at a time: a quarter of the gateway's `max-concurrency`, so that no look-up is left out.
const AT_A_TIME: usize = 256;

/// Connections to the gateway.
const LINES: usize = 4;

/// 23,000 calls in a run of a million, since each may wait for seconds.
fn calls(arguments: &Arguments) -> u64 {
    (arguments.calls * 23 / 1_000).max(115)
}

/// Runs it.
pub(crate) async fn run(arguments: &Arguments, lag: &Arc<Lag>, report: &Report) {
    let first = BLOCK * NUMBERS;
    let numbers = match arguments.only {
        Some(only) if only / NUMBERS == BLOCK => only..only + 1,
        Some(_) => return,
        None => first..first + calls(arguments),
    };
    let seed = arguments.seed;
    let cloud = Cloud::start(move |number| Plan::of(seed, number)).await;
    let flags = [("read-back", "true"), ("breaker-threshold", "0"), ("timeout", "30s")];
    let gateway = Gateway::start(cloud.address, &flags, lag).await;
    let lines: Vec<_> = (0..LINES).map(|_| client(&gateway.address)).collect();

    let next = Arc::new(AtomicU64::new(numbers.start));
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut workers = JoinSet::new();
    for worker in 0..AT_A_TIME {
        let (cloud, line) = (Arc::clone(&cloud), lines[worker % LINES].clone());
        let (next, told, end) = (Arc::clone(&next), Arc::clone(&told), numbers.end);
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    break;
                }
                let plan = Plan::of(seed, number);
                let one = perform(line.clone(), &cloud, &plan).await;
                told.lock().unwrap().push((plan, one));
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    drop(lines);

    let told = std::mem::take(&mut *told.lock().unwrap());
    print_tally(&told);
    for kind in Kind::ALL {
        report.add(&check(kind, &told, lag, arguments));
    }
    let mut strays = Check::of(format!("{NAME}: nothing unasked upstream"));
    strays.none("requests that no call asked for", &cloud.strays());
    report.add(&strays);
    leak::ends_well(NAME, gateway, report).await;
}

/// Holds the calls of one kind against the model.
fn check(kind: Kind, told: &[(Plan, Told)], lag: &Lag, arguments: &Arguments) -> Check {
    let mut check = Check::of(format!("{NAME}: {}", kind.name()));
    let of_kind: Vec<_> = told.iter().filter(|(plan, _)| plan.kind.is(kind)).collect();
    let faults: Vec<String> = of_kind
        .iter()
        .filter_map(|(plan, told)| {
            let fault = told.judge(plan, lag.allowance()).err()?;
            Some(format!("call {} (--seed {} --only {}): {fault}", plan.number, arguments.seed, plan.number))
        })
        .collect();
    check.none("wrong", &faults);
    let confirmed = of_kind.iter().filter(|(_, told)| told.is_ok()).count();
    let readings: usize = of_kind.iter().map(|(_, told)| told.readings).sum();
    let took: Vec<Duration> = of_kind.iter().map(|(_, told)| told.took).collect();
    check.figure(format!("{} calls, {confirmed} confirmed, {readings} pages, {}", of_kind.len(), spread(&took)));
    check
}

fn print_tally(told: &[(Plan, Told)]) {
    let mut counts = BTreeMap::<String, usize>::new();
    for (plan, told) in told {
        *counts.entry(format!("{}: {}", plan.kind.name(), told.end())).or_default() += 1;
    }
    println!("\n{NAME}:");
    for (end, count) in counts {
        println!("      {count:>7}  {end}");
    }
}
