//! Chaos proper: configurations in turn, each under many callers before an upstream that does its worst. Every response
//! is held against the model.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use testkit::report::{Report, spread};

use super::{
    Arguments,
    clock::Lag,
    driver::{CallEnd, Callers, Record, tally},
    fault::Outcome,
    gateway::{Gateway, knows},
    leak,
    ledger::Ledger,
    metrics::Metrics,
    model::{Case, Hazard, Rules},
    plan::{Mix, Plan},
    scene::Scene,
    token::TokenFile,
    upstream::Upstream,
};

/// Calls are numbered from a multiple of this, by configuration.
pub(crate) const NUMBERS: u64 = 10_000_000;

/// The number of wrong calls that are shown.
const SHOWN: usize = 12;

/// One way to run the gateway, and its calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Configuration {
    pub(crate) name: &'static str,
    /// The block of the numbers of its calls, of [`NUMBERS`] each.
    pub(crate) block: u64,
    /// Out of a hundred calls.
    pub(crate) share: u64,
    pub(crate) flags: &'static [(&'static str, &'static str)],
    pub(crate) at_a_time: usize,
    pub(crate) lines: usize,
    pub(crate) mix: Mix,
    /// How many certificates the calls share; each has its own without.
    pub(crate) certificates: Option<u64>,
    pub(crate) timeout: Duration,
    pub(crate) attempts: usize,
    pub(crate) hazards: &'static [Hazard],
}

const PLAIN: Configuration = Configuration {
    name: "plain",
    block: 0,
    share: 40,
    flags: &[("timeout", "10s"), ("breaker-threshold", "0")],
    at_a_time: 64,
    lines: 6,
    mix: Mix::Everything,
    certificates: None,
    timeout: Duration::from_secs(10),
    attempts: 3,
    hazards: &[],
};

/// The configurations in their turn.
pub(crate) const CONFIGURATIONS: [Configuration; 7] = [
    PLAIN,
    Configuration {
        name: "once, callers cut off",
        block: 1,
        share: 12,
        flags: &[
            ("timeout", "10s"),
            ("breaker-threshold", "0"),
            ("max-attempts", "1"),
            ("max-connection-age", "1s"),
            ("workers", "2"),
        ],
        at_a_time: 128,
        lines: 8,
        attempts: 1,
        hazards: &[Hazard::Cuts],
        ..PLAIN
    },
    Configuration {
        name: "refused connections",
        block: 2,
        share: 12,
        flags: &[("timeout", "10s"), ("breaker-threshold", "0"), ("max-attempts", "5")],
        attempts: 5,
        hazards: &[Hazard::Closures],
        ..PLAIN
    },
    Configuration {
        name: "own token",
        block: 3,
        share: 6,
        flags: &[("timeout", "10s"), ("breaker-threshold", "0"), ("credentials", "token")],
        at_a_time: 32,
        hazards: &[Hazard::OwnToken],
        ..PLAIN
    },
    Configuration {
        name: "own token, replaced",
        block: 6,
        share: 6,
        flags: &[("timeout", "10s"), ("breaker-threshold", "0"), ("credentials", "token")],
        at_a_time: 32,
        hazards: &[Hazard::OwnToken, Hazard::TokenReplaced],
        ..PLAIN
    },
    Configuration {
        name: "shared certificates, breaker",
        block: 4,
        share: 12,
        flags: &[("timeout", "10s"), ("breaker-threshold", "7"), ("serialize-certificates", "true")],
        at_a_time: 48,
        certificates: Some(24),
        hazards: &[Hazard::Breaker, Hazard::Queues],
        ..PLAIN
    },
    Configuration {
        name: "few permits, little time",
        block: 5,
        share: 12,
        flags: &[("timeout", "400ms"), ("max-concurrency", "16"), ("workers", "2")],
        at_a_time: 32,
        timeout: Duration::from_millis(400),
        hazards: &[Hazard::Cuts, Hazard::Breaker, Hazard::FewPermits],
        ..PLAIN
    },
];

/// Changes that are made, and responses that do not arrive.
pub(crate) const NEVER_TWICE: Configuration = Configuration {
    name: "never twice",
    block: 20,
    share: 5,
    flags: &[("breaker-threshold", "0")],
    at_a_time: 32,
    mix: Mix::LostResponses,
    timeout: Duration::from_secs(30),
    ..PLAIN
};

impl Configuration {
    /// The numbers of its calls.
    fn numbers(&self, arguments: &Arguments) -> std::ops::Range<u64> {
        let first = self.block * NUMBERS;
        match arguments.only {
            Some(only) if only / NUMBERS == self.block => only..only + 1,
            Some(_) => first..first,
            None => first..first + (arguments.calls * self.share / 100).max(40),
        }
    }

    fn rules(&self, lag: &Lag) -> Rules {
        Rules {
            timeout: self.timeout,
            attempts: if knows("max-attempts") { self.attempts } else { 1 },
            hazards: self.hazards,
            allowance: lag.allowance(),
        }
    }
}

/// Runs one configuration.
pub(crate) async fn run(configuration: &Configuration, arguments: &Arguments, lag: &Arc<Lag>, report: &Report) {
    let numbers = configuration.numbers(arguments);
    if numbers.is_empty() {
        return;
    }
    let Configuration { name, mix, certificates, .. } = *configuration;
    let seed = arguments.seed;
    let hazard = |hazard| configuration.hazards.contains(&hazard);
    let plans = move |number| Plan::of(seed, number, mix, certificates);
    let faults = Arc::new(move |number, attempt| plans(number).fault(attempt));
    let upstream = Upstream::start(faults, hazard(Hazard::Closures).then_some(seed), lag);
    let file = hazard(Hazard::TokenReplaced).then(TokenFile::create);
    let mut flags = configuration.flags.to_vec();
    flags.extend(file.as_ref().map(|file| ("token-file", file.path())));
    let ledger = Ledger::create();
    let path = ledger.as_ref().map(Ledger::path);
    flags.extend(path.as_deref().map(|path| ("audit", path)));
    let gateway = Gateway::start(upstream.address, &flags, lag).await;
    let callers = Callers::of(&gateway.address, configuration.lines);

    let began = Instant::now();
    let quarter = numbers.start + (numbers.end - numbers.start) / 4;
    let cutting = hazard(Hazard::Cuts).then(|| tokio::spawn(Arc::clone(&callers).cut_now_and_then(seed)));
    let mut records = callers.perform(Arc::new(plans), numbers.start..quarter, configuration.at_a_time).await;
    let memory = gateway.memory();
    records.extend(callers.perform(Arc::new(plans), quarter..numbers.end, configuration.at_a_time).await);
    let took = began.elapsed();
    if let Some(cutting) = cutting {
        cutting.abort();
    }
    let grown = gateway.memory();
    let resent = callers.resent.load(Ordering::Relaxed);
    drop(callers);
    let quiet = leak::quiet(&gateway, &upstream.scene).await;

    let rules = configuration.rules(lag);
    let scene = &upstream.scene;
    let rate = f64::from(u32::try_from(records.len()).unwrap()) / took.as_secs_f64();
    println!(
        "\n{name}: {} calls in {took:.1?} ({rate:.0}/s), {} requests, {resent} calls sent again, at most {:.0?} behind",
        records.len(),
        scene.requests(),
        lag.worst(),
    );
    for (answer, count) in tally(&records) {
        println!("      {count:>7}  {answer}");
    }
    println!("      deadlines met late by: {}", spread(&lateness(&records, &plans, scene, &rules)));
    report.check(&format!("{name}: answers"), judge(&records, &plans, scene, &rules, arguments));
    report.check(&format!("{name}: nothing unasked upstream"), no_strays(scene));
    if certificates.is_some() && knows("serialize-certificates") {
        report.check(&format!("{name}: one change of a certificate at a time"), serialized(&records, scene));
    }
    report.check(&format!("{name}: nothing left behind"), quiet);
    report.check(&format!("{name}: memory"), leak::memory(memory, grown));
    let metrics = Metrics::of(gateway.metrics().await);
    leak::ends_well(name, gateway, report).await;
    report.check(&format!("{name}: metrics of requests"), metrics.reconcile_requests(&records, scene));
    if let Some(ledger) = ledger {
        report.check(&format!("{name}: metrics of calls"), metrics.reconcile_calls(&records, &ledger));
        report.check(&format!("{name}: audit"), ledger.reconcile(&records, scene));
    }
}

/// Holds all calls against the model.
fn judge(
    records: &[Record],
    plans: &dyn Fn(u64) -> Plan,
    scene: &Scene,
    rules: &Rules,
    arguments: &Arguments,
) -> Result<String, String> {
    let (mut wrong, mut repeated) = (0, 0);
    for record in records {
        let plan = plans(record.number);
        let attempts = scene.of(record.number);
        repeated += attempts.len().saturating_sub(1);
        let case = Case { plan: &plan, record, attempts: &attempts, scene, rules };
        let verdict = case.judge();
        let said = verdict.as_ref().err().map_or("as allowed", String::as_str);
        wrong += usize::from(verdict.is_err());
        if arguments.only.is_some() || verdict.is_err() && wrong <= SHOWN {
            println!("--- call {} of seed {}: {said}", record.number, arguments.seed);
            println!("    repeat it: --seed {} --only {}", arguments.seed, record.number);
            println!("    script:    {:?}", plan.script.iter().take(rules.attempts).collect::<Vec<_>>());
            println!("    deadline:  {:?}, the caller leaves after {:?}", case.deadline(), plan.leaves);
            println!("    allowed:   {:?}", case.allowed());
            println!("    came:      {:?} after {:?}", record.end, record.ended - record.began);
            for attempt in &attempts {
                let since = |moment: Instant| moment.saturating_duration_since(record.began);
                println!(
                    "    upstream:  {:?} read at {:?}, answered at {:?}, given up at {:?}",
                    attempt.fault,
                    since(attempt.read),
                    attempt.answered.map(since),
                    attempt.released.map(since)
                );
            }
        }
    }
    let found = format!("{} calls, {repeated} repeats, {wrong} wrong", records.len());
    if wrong == 0 { Ok(found) } else { Err(found) }
}

/// The delays of responses after their deadline, of the calls with `DEADLINE_EXCEEDED`.
fn lateness(records: &[Record], plans: &dyn Fn(u64) -> Plan, scene: &Scene, rules: &Rules) -> Vec<Duration> {
    let late = records.iter().filter(|record| record.passed_deadline()).map(|record| {
        let plan = plans(record.number);
        let case = Case { plan: &plan, record, attempts: &[], scene, rules };
        (record.ended - record.began).saturating_sub(case.deadline())
    });
    late.collect()
}

fn no_strays(scene: &Scene) -> Result<String, String> {
    let strays = scene.strays();
    match strays.first() {
        None => Ok("every request was a call's own".to_owned()),
        Some(first) => Err(format!("{} requests that no call asked for; {first}", strays.len())),
    }
}

/// Counts only calls with a response that reached the gateway whole: requests of callers that left stay with the upstream
/// for a while, and so does a body that is still on its way shortly before the deadline.
fn serialized(records: &[Record], scene: &Scene) -> Result<String, String> {
    let is_whole = |record: &&Record| {
        let CallEnd::Responded { verdict, .. } = &record.end else { return false };
        let answered = scene.of(record.number).last().and_then(|attempt| attempt.answered);
        verdict.outcome == Outcome::Plain && answered.is_none_or(|answered| answered <= record.ended)
    };
    let numbers: HashSet<u64> = records.iter().filter(is_whole).map(|record| record.number).collect();
    let overlaps = scene.overlaps(&numbers);
    match overlaps.first() {
        None => Ok(format!("{} calls, none beside another", numbers.len())),
        Some((first, second)) => Err(format!("{} pairs at once; {first} and {second}", overlaps.len())),
    }
}
