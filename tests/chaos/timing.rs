//! Deadlines from a millisecond to seconds before an upstream that falls silent at each stage: the response is there in
//! time, its outcome is right, and the connection to the upstream is closed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use testkit::report::{Report, spread};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{
    Arguments,
    chaos::NUMBERS,
    clock::Lag,
    driver::{CallEnd, Callers, Record},
    fault::{Fault, Outcome},
    gateway::Gateway,
    leak,
    model::deadline_passed,
    plan::Plan,
    refusal::{BUSY, Body},
    upstream::Upstream,
};

/// The block of the numbers of these calls, of [`NUMBERS`] each.
const BLOCK: u64 = 30;

/// Deadlines, in milliseconds; those above a second are for long runs.
const DEADLINES: [u64; 16] = [1, 2, 3, 5, 8, 13, 25, 50, 100, 200, 400, 700, 1_000, 2_000, 3_500, 5_000];

/// The bounds on the delay of a response after its deadline, and on the release of the connection to the upstream.
const LATE: Duration = Duration::from_millis(50);
const RELEASED: Duration = Duration::from_millis(100);

/// So many calls have each deadline.
const EACH: u64 = 4;

fn plan(number: u64) -> Plan {
    let index = usize::try_from(number % NUMBERS / EACH).unwrap();
    Plan {
        script: vec![if number.is_multiple_of(2) {
            Fault::Stall { applied: true }
        } else {
            Fault::Refused(&BUSY, Body::Stalled)
        }],
        deadline: Some(Duration::from_millis(DEADLINES[index])),
        leaves: None,
        certificate: format!("certificate-{number}"),
    }
}

/// Runs both parts.
pub(crate) async fn run(arguments: &Arguments, lag: &Arc<Lag>, report: &Report) {
    if arguments.only.is_some() {
        return;
    }
    let deadlines = if arguments.is_short() { DEADLINES.len() - 3 } else { DEADLINES.len() };
    let first = BLOCK * NUMBERS;
    let numbers = first..first + EACH * deadlines as u64;
    let at_a_time = usize::try_from(numbers.end - numbers.start).unwrap();
    println!();

    lag.reset();
    let upstream = Upstream::start(Arc::new(|number, _| plan(number).fault(0)), None, lag);
    let gateway = Gateway::start(upstream.address, &[("breaker-threshold", "0")], lag).await;
    let callers = Callers::of(&gateway.address, 4);
    let records = callers.perform(Arc::new(plan), numbers.clone(), at_a_time).await;
    drop(callers);
    let quiet = leak::quiet(&gateway, &upstream.scene).await;
    report.check("deadlines: met before a silent upstream", met(&records, lag, &[Outcome::Unknown, Outcome::NotSent]));
    report.check("deadlines: the upstream's connections are released", released(&records, &upstream, lag));
    report.check("deadlines: nothing left behind", quiet);
    leak::ends_well("deadlines", gateway, report).await;

    let clog = Clog::start().await;
    // The system takes its connections; nobody speaks on them.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // The gateway gives a connection five seconds: the longest deadline ends no sooner.
    let stages_end = first + EACH * deadlines.min(DEADLINES.len() - 1) as u64;
    let numbers = first..stages_end;
    let stages = [
        ("connecting", format!("http://{}", clog.address)),
        ("greeting in TLS", format!("https://{}", mute.local_addr().unwrap())),
    ];
    for (stage, upstream) in stages {
        lag.reset();
        let gateway = Gateway::start_before(&upstream, &[("breaker-threshold", "0")], lag).await;
        let callers = Callers::of(&gateway.address, 4);
        let records = callers.perform(Arc::new(plan), numbers.clone(), at_a_time).await;
        drop(callers);
        report.check(&format!("deadlines: met while {stage}"), met(&records, lag, &[Outcome::NotSent]));
        let rest = gateway.files_at_rest;
        let left = leak::until(async || match gateway.files() {
            files if files <= rest => Ok(()),
            files => Err(format!("{files} open files, {rest} at rest")),
        });
        let left = left.await.map(|took| format!("after {took:.0?}"));
        report.check(&format!("deadlines: no attempt is left after {stage}"), left);
        leak::ends_well(&format!("deadlines while {stage}"), gateway, report).await;
    }
}

/// Every call ended in time with `DEADLINE_EXCEEDED`, or with the status of a response with a body that stalls.
fn met(records: &[Record], lag: &Lag, outcomes: &[Outcome]) -> Result<String, String> {
    let bound = LATE + lag.allowance();
    let mut late = Vec::new();
    for record in records {
        let deadline = plan(record.number).deadline.unwrap_or_default();
        let took = record.ended - record.began;
        let is_expected = match &record.end {
            CallEnd::Responded { verdict, .. } => {
                let status = plan(record.number).fault(0).verdicts();
                outcomes.iter().any(|outcome| *verdict == deadline_passed(*outcome)) || status.contains(verdict)
            }
            CallEnd::Left | CallEnd::Broken(_) => false,
        };
        if !is_expected || took > deadline + bound {
            return Err(format!("deadline {deadline:?}: {:?} after {took:?}, at most {bound:?} late", record.end));
        }
        late.push(took.saturating_sub(deadline));
    }
    Ok(format!(
        "{} calls, late by {} (50 ms, and {:.0?} for the machine)",
        records.len(),
        spread(&late),
        lag.allowance()
    ))
}

/// Every attempt at the upstream ended when its caller had its response.
fn released(records: &[Record], upstream: &Upstream, lag: &Lag) -> Result<String, String> {
    let bound = RELEASED + lag.allowance();
    let mut after = Vec::new();
    for record in records {
        for attempt in upstream.scene.of(record.number) {
            let number = record.number;
            let Some(released) = attempt.released else { return Err(format!("call {number} was never given up")) };
            let took = released.saturating_duration_since(record.ended.max(attempt.read));
            if took > bound {
                return Err(format!("call {number} was given up {took:?} after its answer, allowed are {bound:?}"));
            }
            after.push(took);
        }
    }
    Ok(format!(
        "{} connections, after {} (100 ms, and {:.0?} for the machine)",
        after.len(),
        spread(&after),
        lag.allowance()
    ))
}

/// A listener with a full backlog, on which new connections wait.
struct Clog {
    address: SocketAddr,
    _listener: TcpListener,
    _fill: Vec<TcpStream>,
}

impl Clog {
    async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut fill = Vec::new();
        while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            fill.push(stream.unwrap());
        }
        Self { address, _listener: listener, _fill: fill }
    }
}
