//! Ten times as many callers as permits: calls without a permit are rejected at once with a delay to retry after, and
//! admitted ones take as long as ever.

use std::{
    io::Error,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::{
    grpc::frame,
    report::{Check, millis, percentile, spread},
    thread::on_a_thread,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch, time::sleep};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    LENIENCE,
    attack::MEMORY_MIB,
    caller::{Fate, Line, attach_message},
    gateway::Gateway,
    upstream::Upstream,
    wire::{DATA, Frames, Received},
};

pub(crate) const NAME: &str = "overload: ten callers for each permit";
pub(crate) const LATE: &str = "overload: messages that come long after their heads";

pub(crate) const TRAILERS: &str = "overload: calls that end with trailers";

const PERMITS: usize = 16;
const CALLERS: usize = PERMITS * 10;

/// The factor by which an admitted call may take longer than in quiet times; the aim is two.
const AT_MOST: u32 = 4;

/// The ends of calls.
#[derive(Debug, Default)]
struct Seen {
    admitted: Vec<Duration>,
    shed: Vec<Duration>,
    faults: Vec<String>,
}

pub(crate) async fn check(upstream: &Upstream, time: Duration) -> Check {
    let mut check = Check::of(NAME);
    upstream.takes(20, 20);
    let gateway = Gateway::start(upstream.address, &["--max-concurrency", &PERMITS.to_string()]).await;
    let quiet = callers(gateway.address, PERMITS / 2, time / 2).await;
    let sent = upstream.requests();
    let (stop, stopped) = watch::channel(false);
    let probes = on_a_thread("probes", probe(gateway.address, stopped));
    let busy = callers(gateway.address, CALLERS, time).await;
    stop.send_replace(true);
    let (health, faults) = probes.join().expect("the probes do not panic");
    let sent = upstream.requests() - sent;

    check.none("calls failed in quiet times", &quiet.faults);
    check.require(quiet.shed.is_empty(), || format!("{} calls shed in quiet times", quiet.shed.len()));
    check.none("calls failed otherwise", &busy.faults);
    check.figure(format!("{} admitted, {}", busy.admitted.len(), spread(&busy.admitted)));
    check.figure(format!("quiet {}", spread(&quiet.admitted)));
    check.figure(format!("{} shed, {}", busy.shed.len(), spread(&busy.shed)));
    check.require(busy.shed.len() > CALLERS / 2, || "hardly any call was rejected".into());
    check.require(sent == busy.admitted.len() as u64, || format!("{sent} requests reached the cloud"));
    let median = percentile(&busy.shed, 0.5);
    // Machines are noisy: 5 ms is the aim, and sooner than a response the least.
    check.require(median < percentile(&busy.admitted, 0.5), || format!("shed after {} ms", millis(median)));
    let (before, now) = (percentile(&quiet.admitted, 0.99), percentile(&busy.admitted, 0.99));
    check.require(now < before * AT_MOST * LENIENCE, || format!("admitted p99 {} ms", millis(now)));
    check.none("health probes failed", &faults);
    check.figure(format!("{} health probes, {}", health.len(), spread(&health)));
    let memory = gateway.peak_memory();
    check.hold_memory(memory, MEMORY_MIB);
    check.figure(format!("{memory} MiB at most"));
    let calls = gateway.settles("apig_gateway_calls_in_progress", 0, Duration::from_secs(2)).await;
    check.require(calls == Some(0), || format!("{calls:?} calls in progress after the last"));
    check.none("panics", &gateway.panics());
    check
}

/// More calls than permits, with messages that come long after their heads: rejected calls cost a peer nothing, least of all
/// the connection with the admitted ones.
pub(crate) async fn check_late(upstream: &Upstream) -> Check {
    let mut check = Check::of(LATE);
    upstream.takes(20, 20);
    let gateway = Gateway::start(upstream.address, &["--max-concurrency", &PERMITS.to_string()]).await;
    match late(gateway.address).await {
        Ok(calls) => check.figure(format!("{calls} calls on one connection")),
        Err(fault) => check.require(false, || fault.to_string()),
    }
    check.none("panics", &gateway.panics());
    check
}

/// Calls that end with trailers in place of a last frame need a permit like all others.
pub(crate) async fn check_trailers(upstream: &Upstream) -> Check {
    const CALLS: u32 = 200;
    let mut check = Check::of(TRAILERS);
    upstream.takes(20, 20);
    let gateway = Gateway::start(upstream.address, &["--max-concurrency", &PERMITS.to_string()]).await;
    let _ = upstream.peak();
    let calls = async {
        let mut stream = TcpStream::connect(gateway.address).await?;
        let call = |frames: Frames, call: u32| {
            let message = frame(0, &attach_message(&format!("trailers-{call}")));
            frames.head(call * 2 + 1, &[]).add(DATA, 0, call * 2 + 1, &message).trailers(call * 2 + 1)
        };
        stream.write_all(&(0..CALLS).fold(Frames::greeting(&[]), call).0).await?;
        Received::default().wait_for_ends(&mut stream, CALLS as usize).await
    };
    if let Err(fault) = soon("calls are not answered", calls).await {
        check.require(false, || fault.to_string());
    }
    let peak = upstream.peak();
    check.figure(format!("{CALLS} calls, {peak} at once at the cloud"));
    check.require((1..=PERMITS as u64).contains(&peak), || format!("{peak} calls at once at the cloud"));
    check.none("panics", &gateway.panics());
    check
}

/// All heads first, then all messages; then the same again.
async fn late(gateway: SocketAddr) -> Result<u32, Error> {
    const CALLS: u32 = 200;
    const ROUNDS: u32 = 5;
    let mut stream = TcpStream::connect(gateway).await?;
    stream.write_all(&Frames::greeting(&[]).0).await?;
    let mut seen = Received::default();
    for round in 0..ROUNDS {
        let ids = (round * CALLS..(round + 1) * CALLS).map(|call| call * 2 + 1);
        let heads = ids.clone().fold(Frames::default(), |frames, id| frames.head(id, &[]));
        stream.write_all(&heads.0).await?;
        sleep(Duration::from_millis(50)).await;
        let message = |frames: Frames, id: u32| frames.message(id, &attach_message(&format!("late-{id}")));
        stream.write_all(&ids.fold(Frames::default(), message).0).await?;
        let all = seen.wait_for_ends(&mut stream, (CALLS * (round + 1)) as usize);
        soon("calls are not answered", all).await?;
    }
    Ok(CALLS * ROUNDS)
}

async fn soon(fault: &str, task: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::time::timeout(Duration::from_secs(10), task).await.map_err(|_| Error::other(fault))?
}

/// So many callers for so long, ten on each connection.
async fn callers(gateway: SocketAddr, number: usize, time: Duration) -> Seen {
    let thread = on_a_thread("callers", async move {
        let end = Instant::now() + time;
        let mut seen = Seen::default();
        let mut tasks = Vec::new();
        for first in (0..number).step_by(10) {
            match Line::to(gateway).await {
                Ok(line) => {
                    let line = Arc::new(line);
                    let ours = (first..number.min(first + 10)).map(|at| tokio::spawn(call(Arc::clone(&line), at, end)));
                    tasks.extend(ours);
                }
                Err(fault) => seen.faults.push(fault),
            }
        }
        for task in tasks {
            let one = task.await.expect("a caller does not panic");
            seen.admitted.extend(one.admitted);
            seen.shed.extend(one.shed);
            seen.faults.extend(one.faults);
        }
        seen
    });
    // The thread ends with its callers, soon after `time`.
    sleep(time).await;
    thread.join().expect("the callers do not panic")
}

async fn call(line: Arc<Line>, number: usize, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let certificate = format!("overload-{number}");
    let jitter = f64::from(u8::try_from(number * 37 % 100).unwrap_or_default()) / 100.0;
    while Instant::now() < end {
        let started = Instant::now();
        match line.attach(&certificate, "siege-overload").await {
            Fate::Succeeded => seen.admitted.push(started.elapsed()),
            Fate::Refused(status) => match retry_delay(&status) {
                Some(wait) => {
                    seen.shed.push(started.elapsed());
                    // Up to twice as long, or all would come again at the same moment.
                    sleep(wait.mul_f64(1.0 + jitter)).await;
                }
                None => seen.faults.push(format!("{status:?}")),
            },
            fate => {
                seen.faults.push(format!("{fate:?}"));
                return seen;
            }
        }
    }
    seen
}

/// The delay that a rejected caller is asked for; `None` when it was not rejected as it should be.
fn retry_delay(status: &Status) -> Option<Duration> {
    let details = status.get_error_details();
    let reason = &details.error_info()?.reason;
    let wait = details.retry_info()?.retry_delay?;
    (status.code() == Code::Unavailable && reason == "OVERLOADED" && !wait.is_zero()).then_some(wait)
}

/// Probes again and again on new connections, while all permits are taken; returns times and faults.
async fn probe(gateway: SocketAddr, stopped: watch::Receiver<bool>) -> (Vec<Duration>, Vec<String>) {
    let (mut times, mut faults) = (Vec::new(), Vec::new());
    while !*stopped.borrow() {
        let started = Instant::now();
        let health = async { Line::to(gateway).await.map_err(Fate::Unprocessed)?.health("").await };
        match health.await {
            Ok(1) => times.push(started.elapsed()),
            other => faults.push(format!("{other:?}")),
        }
        sleep(Duration::from_millis(50)).await;
    }
    (times, faults)
}
