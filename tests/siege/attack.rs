//! One attack at a time on a gateway of its own, an honest client beside: no call of that client fails, memory stays
//! bounded, and the processor is left alone as soon as the attack is over.

mod flood;
mod hold;

use std::{
    any::Any,
    net::SocketAddr,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    LENIENCE,
    gateway::Gateway,
    honest::Honest,
    on_a_thread,
    report::{Check, millis, spread},
    upstream::Upstream,
};

const MEMORY_MIB: u64 = 256;
const IDLE_WITHIN: Duration = Duration::from_secs(2 * LENIENCE as u64);

/// What attackers may have a gateway write in a second, besides a line for each call: one for each connection, or so.
const LINES_A_SECOND: u64 = 1_000;

/// What attackers are to do, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) end: Instant,
}

/// What attackers have done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) figures: Vec<String>,
    pub(crate) faults: Vec<String>,
    /// Connections, still open: they end only after the gateway has been looked at.
    pub(crate) held: Vec<Box<dyn Any + Send>>,
}

type Attackers = Pin<Box<dyn Future<Output = Done> + Send>>;

/// A kind of attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) flags: &'static [&'static str],
    pub(crate) run: Box<dyn FnOnce(Target) -> Attackers>,
}

pub(crate) fn all() -> Vec<Attack> {
    flood::all().into_iter().chain(hold::all()).collect()
}

/// Runs one: a quarter of the time quiet, then the attack.
pub(crate) async fn check(attack: Attack, upstream: &Upstream, time: Duration) -> Check {
    let mut check = Check::of(format!("attack: {}", attack.name));
    upstream.takes(0, 0);
    let gateway = Gateway::start(upstream.address, attack.flags).await;
    let honest = Honest::calling(gateway.address);
    let quiet = (time / 4).min(Duration::from_secs(3));
    tokio::time::sleep(quiet).await;
    honest.under_siege();

    let target = Target { address: gateway.address, end: Instant::now() + time.saturating_sub(quiet) };
    let (done, attackers) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let attacking = (attack.run)(target);
    let thread = on_a_thread("attackers", async move {
        let Done { figures, faults, held } = attacking.await;
        let _ = done.send((figures, faults));
        let _ = released.await;
        drop(held);
    });
    let Ok((figures, faults)) = attackers.await else {
        check.require(false, || "the attackers broke down".into());
        return check;
    };

    let ledger = honest.end();
    let idle = gateway.idle(IDLE_WITHIN).await;
    let memory = gateway.peak_memory();
    let open = gateway.metric("apig_gateway_calls_in_progress").unwrap_or_default();
    let _ = release.send(());
    let _ = thread.join();
    let left = gateway.settles("apig_gateway_connections", 0, IDLE_WITHIN).await;
    let calls = gateway.metric("apig_gateway_calls_in_progress");

    for figure in figures {
        check.figure(figure);
    }
    check.none("complaints of the attackers", &faults);
    check.none("honest calls failed", &ledger.faults);
    check.figure(format!(
        "{} honest calls, p50/p99 quiet {}, under attack {}",
        ledger.siege.len(),
        spread(&ledger.quiet),
        spread(&ledger.siege)
    ));
    check.require(!ledger.siege.is_empty(), || "no honest call ended under attack".into());
    check.figure(format!("{open} calls still open, {memory} MiB at most"));
    check.require(memory < MEMORY_MIB, || format!("{memory} MiB of memory"));
    match idle {
        Some(after) => check.figure(format!("idle after {} ms", millis(after))),
        None => check.require(false, || format!("still busy {IDLE_WITHIN:?} after the attack")),
    }
    check.require(left == Some(0), || format!("{left:?} connections left after all have gone"));
    check.require(calls == Some(0), || format!("{calls:?} calls in progress after all have gone"));
    let lines = gateway.lines();
    check.require(lines < LINES_A_SECOND * time.as_secs().max(1), || {
        format!("{lines} lines in the log that tell of no call")
    });
    check.none("panics", &gateway.panics());
    check
}
