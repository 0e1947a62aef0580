//! One attack at a time on a gateway of its own, an honest client beside: no call of that client fails, memory stays
//! bounded, and the processor is left alone as soon as the attack is over.

mod flood;
mod hold;
mod silent;

use std::{
    any::Any,
    net::SocketAddr,
    pin::Pin,
    time::{Duration, Instant},
};

use testkit::{
    report::{Check, millis, spread},
    thread::on_a_thread,
};
use tokio::sync::oneshot;

use crate::{
    LENIENCE,
    gateway::Gateway,
    honest::{Habits, Honest},
    transport::{ATTACKER_ADDRESS, Certificates, Dialer, Transport},
    upstream::Upstream,
};

/// The most memory that any attack may make a gateway with default settings hold.
pub(crate) const MEMORY_MIB: u64 = 64;
const IDLE_WITHIN: Duration = Duration::from_secs(2 * LENIENCE as u64);

/// The most connections that the admin port may keep for a crowd.
const ADMIN_CONNECTIONS: usize = 100;

/// The lines in a second that attackers may cause besides those of calls: about one for each connection.
const LINES_A_SECOND: u64 = 1_000;

/// The address under attack, and the end of the attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) end: Instant,
}

/// The target with the ways to it.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) target: Target,
    /// With a certificate of the attackers' own where the gateway asks for one.
    pub(crate) attacker: Dialer,
    /// Without any certificate.
    pub(crate) stranger: Dialer,
    pub(crate) admin: Dialer,
}

/// The results of attackers.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) figures: Vec<String>,
    pub(crate) faults: Vec<String>,
    /// Connections that stay open until the gateway has been checked.
    pub(crate) open: Vec<Box<dyn Any + Send>>,
}

pub(crate) type Attackers = Pin<Box<dyn Future<Output = Findings> + Send>>;

/// A kind of attack.
pub(crate) struct Attack {
    pub(crate) name: String,
    pub(crate) flags: Vec<&'static str>,
    pub(crate) transport: Transport,
    /// After how many calls the honest client opens a new connection.
    pub(crate) reconnects: Option<u64>,
    /// Whether it asks the admin port.
    pub(crate) admin: bool,
    pub(crate) run: Box<dyn FnOnce(Ground) -> Attackers>,
}

impl Attack {
    /// An attack over plain TCP, on a gateway with these flags and a client on one connection.
    fn plain<F>(name: impl Into<String>, flags: &[&'static str], run: impl FnOnce(Target) -> F + 'static) -> Self
    where
        F: Future<Output = Findings> + Send + 'static,
    {
        Self {
            name: name.into(),
            flags: flags.to_vec(),
            transport: Transport::Plain,
            reconnects: None,
            admin: false,
            run: Box::new(move |ground| Box::pin(run(ground.target)) as Attackers),
        }
    }
}

pub(crate) fn all() -> Vec<Attack> {
    flood::all().into_iter().chain(hold::all()).chain(silent::all()).collect()
}

/// The name of an attack's check.
pub(crate) fn name(attack: &Attack) -> String {
    format!("attack: {}", attack.name)
}

/// Runs one: a quiet time, then the attack.
pub(crate) async fn check(
    attack: Attack,
    upstream: &Upstream,
    certificates: &Certificates,
    time: Duration,
    quiet: Duration,
) -> Check {
    let mut check = Check::of(name(&attack));
    upstream.takes(0, 0);
    let flags = certificates.flags(attack.transport);
    let flags: Vec<&str> = attack.flags.iter().copied().chain(flags.iter().map(String::as_str)).collect();
    let gateway = Gateway::start(upstream.address, &flags).await;
    let mut honest = Honest::with(Habits {
        dialer: certificates.honest(attack.transport, gateway.address),
        reconnects: attack.reconnects,
        admin: attack.admin.then_some(gateway.admin),
    });
    honest.settled().await;
    tokio::time::sleep(quiet).await;
    honest.under_siege();

    let ground = Ground {
        target: Target { address: gateway.address, end: Instant::now() + time.saturating_sub(quiet) },
        attacker: certificates.attacker(attack.transport, gateway.address),
        stranger: certificates.stranger(attack.transport, gateway.address),
        admin: Dialer::plain(gateway.admin).from(ATTACKER_ADDRESS),
    };
    let (finish, attackers) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let attacking = (attack.run)(ground);
    let thread = on_a_thread("attackers", async move {
        let Findings { figures, faults, open } = attacking.await;
        let _ = finish.send((figures, faults));
        let _ = released.await;
        drop(open);
    });
    let Ok((figures, faults)) = attackers.await else {
        check.require(false, || "the attackers broke down".into());
        return check;
    };

    let ledger = honest.end();
    let idle = gateway.idle(IDLE_WITHIN).await;
    let memory = gateway.peak_memory();
    let crowd = gateway.admin_connections();
    let open = gateway.metric("apig_gateway_calls_in_progress").await.unwrap_or_default();
    let _ = release.send(());
    let _ = thread.join();
    let left = gateway.settles("apig_gateway_connections", 0, IDLE_WITHIN).await;
    let calls = gateway.metric("apig_gateway_calls_in_progress").await;
    let admin = gateway.admin_settles(IDLE_WITHIN).await;

    for figure in figures {
        check.figure(figure);
    }
    check.none("complaints of the attackers", &faults);
    check.none("honest calls failed", &ledger.faults);
    check.figure(format!(
        "{} honest calls, quiet {}, under attack {}",
        ledger.siege.len(),
        spread(&ledger.quiet),
        spread(&ledger.siege)
    ));
    check.require(!ledger.siege.is_empty(), || "no honest call ended under attack".into());
    check.figure(format!("{open} calls still open, {memory} MiB at most"));
    check.hold_memory(memory, MEMORY_MIB);
    match idle {
        Some(after) => check.figure(format!("idle after {} ms", millis(after))),
        None => check.require(false, || format!("still busy {IDLE_WITHIN:?} after the attack")),
    }
    check.require(left == Some(0), || format!("{left:?} connections left after all have gone"));
    check.require(crowd <= ADMIN_CONNECTIONS, || format!("{crowd} connections on the admin port at once"));
    check.require(admin == 0, || format!("{admin} connections left on the admin port after all have gone"));
    check.require(calls == Some(0), || format!("{calls:?} calls in progress after all have gone"));
    let lines = gateway.lines();
    check.require(lines < LINES_A_SECOND * time.as_secs().max(1), || {
        format!("{lines} lines in the log that are not of calls")
    });
    check.none("panics", &gateway.panics());
    check
}
