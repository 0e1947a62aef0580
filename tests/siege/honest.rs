//! The client that has nothing to do with it: it calls steadily on one connection, and every call must end well within
//! the gateway's timeout. How long calls take is printed: times on a shared machine prove nothing.

use std::{
    net::SocketAddr,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    caller::{Fate, Line},
    on_a_thread,
};

/// From the end of one call to the next.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Quiet,
    Siege,
    Over,
}

/// What happened to its calls.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) quiet: Vec<Duration>,
    pub(crate) siege: Vec<Duration>,
    pub(crate) faults: Vec<String>,
}

/// The client, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Honest {
    thread: JoinHandle<Ledger>,
    phase: watch::Sender<Phase>,
}

impl Honest {
    pub(crate) fn calling(address: SocketAddr) -> Self {
        let (phase, seen) = watch::channel(Phase::Quiet);
        Self { thread: on_a_thread("honest client", call(address, seen)), phase }
    }

    /// From now on calls are made under attack.
    pub(crate) fn under_siege(&self) {
        self.phase.send_replace(Phase::Siege);
    }

    /// Ends after the call in progress.
    pub(crate) fn end(self) -> Ledger {
        self.phase.send_replace(Phase::Over);
        self.thread.join().expect("the client does not panic")
    }
}

async fn call(address: SocketAddr, phase: watch::Receiver<Phase>) -> Ledger {
    let mut ledger = Ledger::default();
    let mut line = None;
    for number in 0_u64.. {
        let now = *phase.borrow();
        if now == Phase::Over && !(ledger.siege.is_empty() && ledger.faults.is_empty()) {
            break;
        }
        let current = match line.take() {
            Some(line) => line,
            None => match Line::to(address).await {
                Ok(line) => line,
                Err(fault) => {
                    ledger.faults.push(fault);
                    tokio::time::sleep(PAUSE * 10).await;
                    continue;
                }
            },
        };
        let started = Instant::now();
        match current.attach("honest", &format!("siege-honest-{number}")).await {
            Fate::Done => {
                let times = if now == Phase::Quiet { &mut ledger.quiet } else { &mut ledger.siege };
                times.push(started.elapsed());
                line = Some(current);
            }
            Fate::Refused(status) => {
                ledger.faults.push(format!("{:?}: {}", status.code(), status.message()));
                line = Some(current);
            }
            Fate::NotTaken(fault) | Fate::Lost(fault) => ledger.faults.push(fault),
        }
        tokio::time::sleep(PAUSE).await;
    }
    ledger
}
