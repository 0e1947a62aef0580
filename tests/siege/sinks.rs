//! Sinks that take no more: nothing waits for them but their own thread. Every call is answered, probes are answered in
//! time, both signals work, and each line is either written or counted as lost.

mod output;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use testkit::{admin, report::Check, thread::on_a_thread};
use tokio::sync::watch;

use self::output::Output;
use crate::{
    LENIENCE, PROBE_TIMEOUT,
    attack::MEMORY_MIB,
    caller::{Fate, Line},
    gateway::Gateway,
    upstream::Upstream,
};

const CALLERS: u64 = 8;

/// More lines than pipes hold, which is 64 KiB.
const FILL: u64 = 400;

/// How long a gateway without calls may take to end.
const END_WITHIN: Duration = Duration::from_secs(2 * LENIENCE as u64);

/// By when lines must have reached a sink that works again.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// Lines of the log, other than those of calls, that may be lost with them.
const OTHER_LINES: u64 = 10;

/// A sink that stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    Fifo,
    Stdout,
    Stderr,
    FullDisk,
}

impl Sink {
    pub(crate) const ALL: [Self; 4] = [Self::Fifo, Self::Stdout, Self::Stderr, Self::FullDisk];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fifo => "sinks: audit to a FIFO whose reader stops",
            Self::Stdout => "sinks: audit to an unread standard output",
            Self::Stderr => "sinks: an unread standard error",
            Self::FullDisk => "sinks: audit to a full disk",
        }
    }

    fn lost_metric(self) -> &'static str {
        match self {
            Self::Stderr => "apig_gateway_log_lines_lost_total",
            Self::Fifo | Self::Stdout | Self::FullDisk => "apig_gateway_audit_lines_not_written_total",
        }
    }
}

/// Holds the program to its promises with one sink.
pub(crate) async fn check(sink: Sink, upstream: &Upstream, calls: u64) -> Check {
    let mut check = Check::of(sink.name());
    upstream.takes(0, 0);
    if let Err(fault) = lines(sink, upstream, calls, &mut check).await {
        if sink == Sink::FullDisk && fault.starts_with(output::NO_DISK) {
            check.skipped(fault);
        } else {
            check.require(false, || fault);
        }
        return check;
    }
    if let Err(fault) = second_signal(sink, upstream, &mut check).await {
        check.require(false, || fault);
    }
    check
}

/// All calls with the sink stopped, then with one that works again, then SIGTERM with one that has stopped again.
async fn lines(sink: Sink, upstream: &Upstream, calls: u64, check: &mut Check) -> Result<(), String> {
    let (mut output, mut gateway) = Output::of(sink, upstream).await?;
    let started = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let probes = on_a_thread("probes", probe(gateway.admin, stopped));
    let faults = call(&gateway, calls).await;
    stop.send_replace(true);
    let (answered, missed) = probes.join().expect("the probes do not panic");
    check.none("calls failed", &faults);
    check.none("probes failed", &missed);
    check.figure(format!("{calls} calls and {answered} probes in {} ms", started.elapsed().as_millis()));
    let memory = gateway.peak_memory();
    check.figure(format!("{memory} MiB at most"));
    check.hold_memory(memory, MEMORY_MIB);

    output.resume(&mut gateway);
    let (mut made, extra) = (calls, if sink == Sink::Stderr { OTHER_LINES } else { 0 });
    if sink == Sink::FullDisk {
        // With room again, lines are written again, each on a line of its own.
        check.none("calls failed after there is room again", &call(&gateway, FILL).await);
        made += FILL;
    }
    let since = Instant::now();
    let (mut written, mut lost) = (0, None);
    while since.elapsed() < WRITTEN_WITHIN {
        (written, lost) = (output.written(&gateway), gateway.metric(sink.lost_metric()).await);
        if lost.is_some_and(|lost| (made..=made + extra).contains(&(written + lost))) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let found = lost.map(|lost| written + lost);
    check.require(found.is_some_and(|found| (made..=made + extra).contains(&found)), || {
        format!("{written} lines written and {lost:?} lost of {made}")
    });
    check.figure(format!("{written} lines written, {} lost", lost.unwrap_or_default()));

    if sink == Sink::Fifo || sink == Sink::FullDisk {
        output.stop();
        check.none("calls failed with the sink stopped again", &call(&gateway, FILL).await);
    }
    gateway.signal().await;
    match gateway.ended(END_WITHIN).await {
        Some((0, after)) => check.figure(format!("SIGTERM ends it after {} ms", after.as_millis())),
        end => check.require(false, || format!("SIGTERM ends it with {end:?}")),
    }
    Ok(())
}

/// With the sink stopped and a call in progress, SIGTERM begins a drain, and another one ends it.
async fn second_signal(sink: Sink, upstream: &Upstream, check: &mut Check) -> Result<(), String> {
    let (_output, mut gateway) = Output::of(sink, upstream).await?;
    check.none("calls failed", &call(&gateway, FILL).await);
    upstream.takes(60_000, 60_000);
    let line = Line::to(gateway.address).await?;
    let open = tokio::spawn(async move { line.attach("sink-open", "siege-sink-open").await });
    let calls_now = gateway.settles("apig_gateway_calls_in_progress", 1, WRITTEN_WITHIN).await;
    check.require(calls_now == Some(1), || format!("{calls_now:?} calls in progress"));
    gateway.signal().await;
    let since = Instant::now();
    while gateway.page("/readyz").await.is_none_or(|(status, _)| status != 503) {
        if since.elapsed() > END_WITHIN {
            check.require(false, || "SIGTERM begins no drain".into());
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if gateway.ended(Duration::ZERO).await.is_none() {
        gateway.signal().await;
    }
    match gateway.ended(END_WITHIN).await {
        Some((1, after)) => check.figure(format!("a second one after {} ms", after.as_millis())),
        end => check.require(false, || format!("a second signal ends it with {end:?}")),
    }
    open.abort();
    upstream.takes(0, 0);
    Ok(())
}

/// So many calls by several callers; says which failed.
async fn call(gateway: &Gateway, calls: u64) -> Vec<String> {
    let made = Arc::new(AtomicU64::new(0));
    let address = gateway.address;
    let caller = |number: u64, made: Arc<AtomicU64>| async move {
        let line = match Line::to(address).await {
            Ok(line) => line,
            Err(fault) => return vec![format!("no connection: {fault}")],
        };
        let certificate = format!("sink-{number}");
        let mut faults = Vec::new();
        loop {
            let call = made.fetch_add(1, Ordering::Relaxed);
            if call >= calls {
                return faults;
            }
            match line.attach(&certificate, &format!("siege-sink-{call}")).await {
                Fate::Succeeded => {}
                fate => {
                    faults.push(fate.to_string());
                    // Each that gets no response costs its patience.
                    return faults;
                }
            }
        }
    };
    let callers: Vec<_> = (0..CALLERS).map(|number| tokio::spawn(caller(number, Arc::clone(&made)))).collect();
    let mut faults = Vec::new();
    for caller in callers {
        faults.extend(caller.await.expect("a caller does not panic"));
    }
    faults
}

/// Asks for `/livez` again and again; says how often it was answered and how it was not.
async fn probe(admin: std::net::SocketAddr, stopped: watch::Receiver<bool>) -> (u64, Vec<String>) {
    let (mut answered, mut faults) = (0, Vec::new());
    while !*stopped.borrow() {
        match admin::live(admin, PROBE_TIMEOUT).await {
            Ok(()) => answered += 1,
            Err(fault) => faults.push(fault),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (answered, faults)
}
