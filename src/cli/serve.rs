//! `serve`: the gateway, from its configuration to the end of its drain.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Failure, flags::Flags};
use crate::{config::Environment, log, server::Server};

pub(super) async fn run(flags: Flags, environment: Environment<'_>) -> Result<(), Failure> {
    // Before anything can go wrong: a reader that has stopped must not hold up the end of a start that fails.
    log::open()?;
    let config = flags.load(environment)?;
    let (format, level) = config.logs();
    log::start_logs(format, level).map_err(Failure::Other)?;
    let mut signals = Signals::listen()?;
    // Whoever follows files listens to it too; without them it must not end the program.
    let _hangup = signal(SignalKind::hangup())?;
    let server = Server::bind(config.gateway).await?;

    let stop = CancellationToken::new();
    let mut serving = std::pin::pin!(server.run(stop.cancelled()));
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        name = signals.next() => info!(signal = name, "asked to stop"),
    }
    stop.cancel();
    tokio::select! {
        ended = &mut serving => Ok(ended?),
        name = signals.next() => {
            warn!(signal = name, "asked again: stopping at once");
            Err(Failure::Told)
        }
    }
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

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
