//! SIGTERM under load: every call that the gateway has accepted ends well, and no peer delays the end.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use testkit::report::{Check, spread};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch, time::sleep};

use crate::{
    caller::{Fate, Line},
    gateway::Gateway,
    load::{Load, Tally},
    upstream::Upstream,
    wire::{Frames, INITIAL_WINDOW_SIZE},
};

const CALLERS: usize = 32;

/// The longest response of the cloud.
const LONGEST: Duration = Duration::from_millis(100);

/// The time that a drain may take beyond the longest call.
const SLACK: Duration = Duration::from_secs(2);

const DELAY: Duration = Duration::from_millis(500);

/// A drain with its peculiarity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GOAWAY at once.
    AtOnce,
    /// New connections are served a while longer.
    Delayed,
    /// Peers with calls that never get a message, which only `drain-timeout` can end.
    Unsent,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::AtOnce, Self::Delayed, Self::Unsent];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "drain: SIGTERM under load, silent and stuck peers beside",
            Self::Delayed => "drain: --drain-delay 500ms keeps the door open",
            Self::Unsent => "drain: --drain-timeout 2s ends calls whose message never comes",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::AtOnce => &[],
            Self::Delayed => &["--drain-delay", "500ms"],
            Self::Unsent => &["--drain-timeout", "2s"],
        }
    }

    /// How long the gateway may take to end.
    fn limit(self) -> Duration {
        match self {
            Self::AtOnce => LONGEST + SLACK,
            Self::Delayed => DELAY + LONGEST + SLACK,
            Self::Unsent => Duration::from_secs(2) + SLACK,
        }
    }
}

/// Some drains of one kind.
pub(crate) async fn check(kind: Kind, upstream: &Upstream, rounds: u32) -> Check {
    let mut check = Check::of(kind.name());
    upstream.takes(20, u64::try_from(LONGEST.as_millis()).expect("a short time"));
    let (mut calls, mut unprocessed) = (0, 0);
    let mut newcomers = 0;
    let mut ends = Vec::new();
    let rounds = if kind == Kind::Unsent { rounds.div_ceil(2) } else { rounds };
    for _ in 0..rounds {
        let mut gateway = Gateway::start(upstream.address, kind.flags()).await;
        let peers = Peers::of(gateway.address, kind).await;
        let (_list, gateways) = watch::channel(vec![gateway.address]);
        let mut load = Load::of(CALLERS, &gateways, upstream);
        load.calls(CALLERS * 4).await;

        gateway.terminate().await;
        let terminated = Instant::now();
        if kind == Kind::Delayed {
            sleep(DELAY / 5).await;
            let faults = newcomer(&gateway).await;
            // On a machine too busy to ask in time, the responses prove nothing.
            if terminated.elapsed() < DELAY {
                newcomers += 1;
                check.none("faults during the delay", &faults);
            }
        }
        let left = kind.limit().saturating_sub(terminated.elapsed());
        match gateway.ended(left).await {
            Some((0, _)) => ends.push(terminated.elapsed()),
            Some((code, _)) => check.require(false, || format!("exit code {code}")),
            None => check.require(false, || format!("still there after {:?}", kind.limit())),
        }
        let Tally { times, unprocessed: moved, repeated, failed, .. } = load.end();
        check.none("calls failed", &failed);
        check.require(repeated == 0, || format!("{repeated} calls answered UNAVAILABLE"));
        check.none("panics", &gateway.panics());
        calls += times.len();
        unprocessed += moved;
        drop(peers);
    }
    check.figure(format!("{rounds} rounds, {calls} calls ended well, {unprocessed} unprocessed"));
    check.figure(format!("exit {}", spread(&ends)));
    if kind == Kind::Delayed {
        check.figure(format!("{newcomers} newcomers served during the delay"));
    }
    check
}

/// Checks that a new caller during the delay is served, though readiness is gone; returns the faults.
async fn newcomer(gateway: &Gateway) -> Vec<String> {
    let line = match Line::to(gateway.address).await {
        Ok(line) => line,
        Err(fault) => return vec![format!("no connection: {fault}")],
    };
    let mut faults = Vec::new();
    match line.attach("newcomer", "siege-newcomer").await {
        Fate::Succeeded => {}
        fate => faults.push(format!("a call: {fate:?}")),
    }
    for (service, expected) in [("", 2), ("readiness", 2), ("liveness", 1)] {
        let health = line.health(service).await;
        if !matches!(health, Ok(now) if now == expected) {
            faults.push(format!("health of \"{service}\": {health:?}"));
        }
    }
    for (page, expected) in [("/readyz", 503), ("/livez", 200)] {
        let status = gateway.page(page).await.map(|(status, _)| status);
        if status != Some(expected) {
            faults.push(format!("{page}: {status:?}"));
        }
    }
    faults
}

/// Peers that do not help.
struct Peers {
    _open: Vec<TcpStream>,
}

impl Peers {
    async fn of(gateway: SocketAddr, kind: Kind) -> Self {
        const SILENT: usize = 50;
        const STUCK: usize = 5;
        let stuck = Frames::greeting(&[(INITIAL_WINDOW_SIZE, 0)]);
        let stuck = (0..10).fold(stuck, |frames, at| frames.call(at * 2 + 1));
        let stuck = stuck.head_of(21, "/grpc.health.v1.Health/Watch").message(21, &[]);
        let unsent = (0..10).fold(Frames::greeting(&[]), |frames, at| frames.head(at * 2 + 1, &[]));
        let mut greetings = vec![Vec::new(); SILENT];
        greetings.extend(vec![stuck.0; STUCK]);
        if kind == Kind::Unsent {
            greetings.push(unsent.0);
        }
        let mut open = Vec::new();
        for greeting in greetings {
            let mut stream = TcpStream::connect(gateway).await.expect("the gateway listens");
            stream.write_all(&greeting).await.expect("the gateway reads");
            open.push(stream);
        }
        Self { _open: open }
    }
}
