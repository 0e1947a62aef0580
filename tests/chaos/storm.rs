//! An upstream that fails wholly: repeats must not multiply the outage, and when it heals, all is as before.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use testkit::report::Report;
use tokio::task::JoinSet;
use tonic::Code;

use super::{
    Arguments,
    chaos::NUMBERS,
    clock::Lag,
    driver::{CallEnd, Callers, Record, tally},
    fault::{Fault, Success},
    gateway::{Gateway, knows},
    leak,
    plan::Plan,
    refusal::{Body, UNAVAILABLE},
    upstream::Upstream,
};

/// The block of the numbers of these calls, of [`NUMBERS`] each.
const BLOCK: u64 = 32;

/// The interval of calls, which does not depend on their ends: 500 a second, or as many as a debug build bears.
const EVERY: Duration = Duration::from_millis(if cfg!(debug_assertions) { 8 } else { 2 });

/// The time within which a healed upstream must be back in use.
const HEALING: Duration = Duration::from_secs(2);

/// Repeats beyond a fifth of the calls and one a second.
const BURST: usize = 10;

fn plan(number: u64) -> Plan {
    Plan {
        script: vec![Fault::Attached(Success::Prompt)],
        deadline: Some(Duration::from_secs(5)),
        leaves: None,
        certificate: format!("certificate-{number}"),
    }
}

/// Runs it with the breaker off and as it is by default, both at once.
pub(crate) async fn run(arguments: &Arguments, lag: &Arc<Lag>, report: &Report) {
    if arguments.only.is_some() {
        return;
    }
    println!();
    if !knows("max-attempts") {
        println!("SKIPPED: retry storm: this gateway has no --max-attempts, so it repeats nothing");
        return;
    }
    let lasting = Duration::from_secs(match arguments.calls {
        0..10_000 => 2,
        10_000..200_000 => 20,
        _ => 60,
    });
    let off = storm(&[("breaker-threshold", "0")], Outage::BreakerOff, lasting, lag);
    let default = storm(&[], Outage::BreakerOn, lasting, lag);
    let (off, default) = tokio::join!(off, default);
    let hanging = storm(&[], Outage::HangingProbe, lasting, lag).await;
    let storms = [("storm, breaker off", off), ("storm, breaker on", default), ("storm, the probe hangs", hanging)];
    for (name, (storm, gateway)) in storms {
        report.check(&format!("{name}: repeats stay within their budget"), storm.budget());
        report.check(&format!("{name}: callers get the right status"), storm.truth());
        report.check(&format!("{name}: it heals"), storm.healed());
        report.check(&format!("{name}: nothing left behind"), storm.quiet);
        leak::ends_well(name, gateway, report).await;
    }
}

/// A kind of outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    BreakerOff,
    BreakerOn,
    /// The first request that comes after a pause, the breaker's probe, is left without a response.
    HangingProbe,
}

/// The circuit is open for about this time.
const OPEN_FOR: Duration = Duration::from_millis(800);

/// The records of a storm.
struct Storm {
    outage: Outage,
    lasted: Duration,
    /// Calls while the upstream failed.
    during: Vec<Record>,
    /// Requests that they made.
    requests: usize,
    /// Calls since it works again, and when that was.
    after: Vec<Record>,
    healed: Instant,
    quiet: Result<String, String>,
}

async fn storm(flags: &[(&str, &str)], outage: Outage, lasting: Duration, lag: &Arc<Lag>) -> (Storm, Gateway) {
    let fails = Arc::new(AtomicBool::new(true));
    let fault = {
        let fails = Arc::clone(&fails);
        let hangs = AtomicBool::new(outage == Outage::HangingProbe);
        let before = Mutex::new(Instant::now());
        move |_, _| {
            let delay = std::mem::replace(&mut *before.lock().unwrap(), Instant::now()).elapsed();
            if delay > OPEN_FOR && hangs.swap(false, Ordering::Relaxed) {
                Fault::Stall { applied: false }
            } else if fails.load(Ordering::Relaxed) {
                Fault::Refused(&UNAVAILABLE, Body::Whole)
            } else {
                Fault::Attached(Success::Prompt)
            }
        }
    };
    let upstream = Upstream::start(Arc::new(fault), None, lag);
    let gateway = Gateway::start(upstream.address, flags, lag).await;
    let callers = Callers::of(&gateway.address, 4);
    let first = (BLOCK + outage as u64) * NUMBERS;

    let began = Instant::now();
    let during = steadily(&callers, first, lasting).await;
    // Those of an outage that hangs last until it is over.
    let (during, hanging) =
        if outage == Outage::HangingProbe { (Vec::new(), during) } else { (finish(during).await, JoinSet::new()) };
    let lasted = began.elapsed();
    let requests = upstream.scene.requests();

    fails.store(false, Ordering::Relaxed);
    let healed = Instant::now();
    let after = steadily(&callers, first + NUMBERS / 2, HEALING + Duration::from_millis(500)).await;
    let after = finish(after).await;
    let during = if outage == Outage::HangingProbe { finish(hanging).await } else { during };
    drop(callers);
    let quiet = leak::quiet(&gateway, &upstream.scene).await;
    (Storm { outage, lasted, during, requests, after, healed, quiet }, gateway)
}

/// Begins calls at a fixed rate.
async fn steadily(callers: &Arc<Callers>, first: u64, lasting: Duration) -> JoinSet<Record> {
    let mut calls = JoinSet::new();
    let mut ticks = tokio::time::interval(EVERY);
    let end = Instant::now() + lasting;
    let mut number = first;
    while Instant::now() < end {
        ticks.tick().await;
        let callers = Arc::clone(callers);
        calls.spawn(async move { callers.call(number, &plan(number)).await });
        number += 1;
    }
    calls
}

async fn finish(mut calls: JoinSet<Record>) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(record) = calls.join_next().await {
        records.push(record.unwrap());
    }
    records
}

fn is_ok(record: &Record) -> bool {
    matches!(&record.end, CallEnd::Responded { verdict, .. } if verdict.code == Code::Ok)
}

impl Storm {
    fn budget(&self) -> Result<String, String> {
        let calls = self.during.len();
        let seconds = usize::try_from(self.lasted.as_secs()).unwrap() + 1;
        let most = calls + calls / 5 + seconds + BURST;
        let found = format!("{calls} calls in {:.1?}, {} requests, at most {most}", self.lasted, self.requests);
        if self.requests <= most { Ok(found) } else { Err(found) }
    }

    fn truth(&self) -> Result<String, String> {
        let ends = tally(&self.during);
        let expected = |name: &str| match name {
            "Unavailable HTTP_503" => true,
            "Unavailable CIRCUIT_OPEN not sent" => self.outage != Outage::BreakerOff,
            "DeadlineExceeded DEADLINE_EXCEEDED unknown" => self.outage == Outage::HangingProbe,
            _ => false,
        };
        if ends.iter().all(|(name, _)| expected(name)) { Ok(format!("{ends:?}")) } else { Err(format!("{ends:?}")) }
    }

    fn healed(&self) -> Result<String, String> {
        // Without a breaker nothing keeps a call from an upstream that works.
        let grace = if self.outage == Outage::BreakerOff { Duration::ZERO } else { HEALING };
        let wrong = self.after.iter().filter(|record| record.began >= self.healed + grace && !is_ok(record)).count();
        let first = self.after.iter().filter(|record| is_ok(record)).map(|record| record.ended - self.healed).min();
        let found = format!(
            "{} calls, the first success after {first:.0?}, {wrong} failures past {grace:.0?}",
            self.after.len()
        );
        if wrong == 0 && first.is_some() { Ok(found) } else { Err(found) }
    }
}
