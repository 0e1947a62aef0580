//! `serve`: runs the gateway from its configuration to the end of its drain.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

use super::{Failure, flags::Flags, notify::Notifier};
use crate::{
    config::{Environment, Faults},
    log::{self, Levels},
    server::{Server, Sockets},
};

pub(super) async fn run(
    flags: Flags,
    environment: Environment<'_>,
    sockets: Result<Sockets, Faults>,
) -> Result<(), Failure> {
    // First: a log reader that has stopped must not block a start that fails.
    log::open()?;
    let sockets = sockets.map_err(Failure::Config)?;
    let config = flags.load(environment, &sockets)?;
    let (format, level) = config.logs();
    let _levels = follow(log::start_logs(format, level).map_err(Failure::Other)?)?;
    let mut signals = Signals::listen()?;
    // The file watchers listen to SIGHUP too; without them the signal must not end the program.
    let _hangup = signal(SignalKind::hangup())?;
    let notifier = Notifier::connect(environment);
    let server = Server::on(sockets, config.gateway).await?;
    notifier.ready();

    let stop = CancellationToken::new();
    let mut serving = std::pin::pin!(server.run(stop.cancelled()));
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        name = signals.next() => info!(signal = name, "stopping"),
    }
    notifier.stopping();
    stop.cancel();
    tokio::select! {
        ended = &mut serving => Ok(ended?),
        name = signals.next() => {
            warn!(signal = name, "second signal: stopping at once");
            Err(Failure::Told)
        }
    }
}

/// Raises the level of the log by one step at SIGUSR1, and sets the configured one again at SIGUSR2.
fn follow(levels: Levels) -> std::io::Result<AbortOnDropHandle<()>> {
    let (mut raise, mut reset) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = raise.recv() => levels.raise(),
                Some(()) = reset.recv() => levels.reset(),
                else => return,
            }
        }
    })))
}

/// The signals that ask a program to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
