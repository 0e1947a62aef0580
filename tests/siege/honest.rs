//! The honest client: it attaches and probes in turn while others attack, and every call must end well within the gateway's
//! timeout. How long calls take is printed: times on a shared machine prove nothing.

use std::{
    net::SocketAddr,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use testkit::{admin, thread::on_a_thread};
use tokio::sync::watch;

use crate::{
    PROBE_TIMEOUT,
    caller::{Fate, Line},
    transport::Dialer,
};

/// From the end of one call to the next.
const DELAY: Duration = Duration::from_millis(2);

/// Health's word for a service that takes calls.
const SERVING: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Quiet,
    Siege,
    Over,
}

/// The outcomes of its calls.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) quiet: Vec<Duration>,
    pub(crate) siege: Vec<Duration>,
    pub(crate) faults: Vec<String>,
}

/// How the client behaves beside calling.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    pub(crate) dialer: Dialer,
    /// After so many calls it opens a new connection, which an attack must not keep out.
    pub(crate) reconnects: Option<u64>,
    /// The admin port, to be asked for `/livez` after each call.
    pub(crate) admin: Option<SocketAddr>,
}

/// The client, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Honest {
    thread: JoinHandle<Ledger>,
    phase: watch::Sender<Phase>,
    calls: watch::Receiver<u64>,
}

impl Honest {
    /// Starts to call.
    pub(crate) fn with(habits: Habits) -> Self {
        let (phase, seen) = watch::channel(Phase::Quiet);
        let (count, calls) = watch::channel(0);
        Self { thread: on_a_thread("honest client", call(habits, seen, count)), phase, calls }
    }

    /// Waits until it has called once in each way.
    pub(crate) async fn settled(&mut self) {
        let settled = self.calls.wait_for(|calls| *calls >= 2);
        // Those that fail are in the ledger.
        let _ = tokio::time::timeout(Duration::from_secs(20), settled).await;
    }

    /// From now on calls are made under attack.
    pub(crate) fn under_siege(&self) {
        self.phase.send_replace(Phase::Siege);
    }

    /// Ends after one more call of each kind, which begin now: the attack must still hold all that it can.
    pub(crate) fn end(self) -> Ledger {
        self.phase.send_replace(Phase::Over);
        self.thread.join().expect("the client does not panic")
    }
}

async fn call(habits: Habits, phase: watch::Receiver<Phase>, count: watch::Sender<u64>) -> Ledger {
    let mut ledger = Ledger::default();
    let mut line = None;
    let mut last = 0;
    for number in 0_u64.. {
        let now = *phase.borrow();
        if now == Phase::Over {
            last += 1;
            if last > 2 {
                break;
            }
        }
        let started = Instant::now();
        match one(&habits, line.take(), number).await {
            Ok(current) => {
                let times = if now == Phase::Quiet { &mut ledger.quiet } else { &mut ledger.siege };
                times.push(started.elapsed());
                let is_used_up = habits.reconnects.is_some_and(|calls| number.is_multiple_of(calls));
                line = Some(current).filter(|_| !is_used_up);
            }
            Err(fault) => {
                ledger.faults.push(fault);
                tokio::time::sleep(DELAY * 10).await;
            }
        }
        count.send_replace(number + 1);
        tokio::time::sleep(DELAY).await;
    }
    ledger
}

/// One call on this connection or a new one, which it gives back.
async fn one(habits: &Habits, line: Option<Line>, number: u64) -> Result<Line, String> {
    let line = match line {
        Some(line) => line,
        None => Line::over(&habits.dialer).await.map_err(|fault| format!("no connection: {fault}"))?,
    };
    if number.is_multiple_of(2) {
        match line.attach("honest", &format!("siege-honest-{number}")).await {
            Fate::Succeeded => {}
            fate => return Err(format!("AttachDomains: {fate}")),
        }
    } else {
        match line.health("").await {
            Ok(SERVING) => {}
            Ok(other) => return Err(format!("Health/Check: status {other}")),
            Err(fate) => return Err(format!("Health/Check: {fate}")),
        }
    }
    if let Some(admin) = habits.admin {
        admin::live(admin, PROBE_TIMEOUT).await.map_err(|fault| format!("/livez: {fault}"))?;
    }
    Ok(line)
}
