//! `emulator`: the emulated cloud alone, on a port of its own.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::Args;

use super::{Failure, serve::Signals};
use crate::{
    config::parse_duration,
    emulator::{Emulator, World},
    telemetry::{LogFormat, start_logs},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:18080")]
    listen: SocketAddr,
    /// What exists, as a TOML file, in place of the documented example
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// How long tokens and temporary keys live
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = life)]
    life: Duration,
}

fn life(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).filter(|life| !life.is_zero()).ok_or("must be a time such as 30s or 5m, at most 24h")
}

pub(super) async fn run(options: Options) -> Result<(), Failure> {
    start_logs(LogFormat::by_terminal(), "info").map_err(Failure::Other)?;
    let world = match &options.world {
        None => World::documented(),
        Some(path) => {
            let text =
                fs::read_to_string(path).map_err(|fault| Failure::Other(format!("{}: {fault}", path.display())))?;
            World::from_toml(&text).map_err(|faults| Failure::Other(format!("{}: {faults}", path.display())))?
        }
    };
    let summary = world.to_string();
    let mut signals = Signals::listen()?;
    let emulator = Emulator::bind(options.listen, world)
        .await
        .map_err(|fault| Failure::Other(format!("can't listen on {}: {fault}", options.listen)))?
        .with_life(options.life);
    let mut out = io::stdout();
    writeln!(out, "The emulated cloud serves http://{}\n\n{}", emulator.local_addr(), summary)?;
    out.flush()?;
    emulator.run(async { _ = signals.next().await }).await;
    Ok(())
}
