//! Callers that leave at random moments leave nothing behind: no call, no connection upstream, and no later repeat.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::report::{Report, spread};

use super::{
    Arguments,
    chaos::NUMBERS,
    clock::Lag,
    driver::{CallEnd, Callers, Record},
    gateway::Gateway,
    leak,
    plan::{Mix, Plan},
    upstream::Upstream,
};

/// The block of the numbers of these calls, of [`NUMBERS`] each.
const BLOCK: u64 = 31;

/// The bound on the release of a call after its caller has left.
const LEFT: Duration = Duration::from_millis(100);

/// Runs it, and afterwards a call that must succeed.
pub(crate) async fn run(arguments: &Arguments, lag: &Arc<Lag>, report: &Report) {
    if arguments.only.is_some() {
        return;
    }
    println!();
    lag.reset();
    let seed = arguments.seed;
    let first = BLOCK * NUMBERS;
    let numbers = first..first + (arguments.calls / 10).max(100);
    let plans = move |number| Plan::of(seed, number, Mix::Cancels, None);
    let upstream = Upstream::start(Arc::new(move |number, attempt| plans(number).fault(attempt)), None, lag);
    let gateway = Gateway::start(upstream.address, &[("breaker-threshold", "0")], lag).await;
    let callers = Callers::of(&gateway.address, 4);
    let records = callers.perform(Arc::new(plans), numbers, 64).await;
    let last = Instant::now();
    let calls = leak::until(async || leak::no_calls(&gateway).await).await;
    let took = last.elapsed();
    let bound = LEFT + lag.allowance();
    report.check(
        "cancels: no call is left",
        calls.and_then(|_| {
            let found = format!(
                "{} calls, none after {took:.0?} (100 ms, and {:.0?} for the machine)",
                records.len(),
                lag.allowance()
            );
            if took <= bound { Ok(found) } else { Err(found) }
        }),
    );
    drop(callers);
    let quiet = leak::quiet(&gateway, &upstream.scene).await;
    report.check("cancels: nothing is sent for a caller that left", silent(&records, &upstream, lag));
    report.check("cancels: nothing left behind", quiet);
    leak::ends_well("cancels", gateway, report).await;
}

/// No request comes after its caller left, and those that were there are given up.
fn silent(records: &[Record], upstream: &Upstream, lag: &Lag) -> Result<String, String> {
    let bound = LEFT + lag.allowance();
    let mut after = Vec::new();
    for record in records.iter().filter(|record| matches!(record.end, CallEnd::Left)) {
        for attempt in upstream.scene.of(record.number) {
            let sent = attempt.read.saturating_duration_since(record.ended);
            if sent > bound {
                return Err(format!("call {}: sent {sent:?} after its caller had left", record.number));
            }
            if attempt.fault.stalls() {
                let Some(released) = attempt.released else {
                    return Err(format!("call {} was never given up", record.number));
                };
                after.push(released.saturating_duration_since(record.ended.max(attempt.read)));
            }
        }
    }
    let found = format!("{} silent requests given up after {}", after.len(), spread(&after));
    if after.iter().all(|time| *time <= bound) { Ok(found) } else { Err(found) }
}
