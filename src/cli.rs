//! The command line: reads it, runs the command's module, and turns the result into an exit code.

mod activation;
mod attached;
mod bulk;
mod certificates;
mod change;
mod client;
mod completions;
mod demo;
mod emulator;
mod errors;
mod flags;
mod health;
mod json;
mod notify;
mod output;
mod pages;
mod reference;
mod rotate;
mod serve;
mod table;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};

use self::flags::Flags;
use crate::{
    config::{Environment, Faults},
    log,
    server::Sockets,
    sink,
};

/// The name of the program.
const NAME: &str = "apig-grpc-gateway";

/// The time that the readers of logs have at the end of the program.
const FLUSH_AT_EXIT: Duration = Duration::from_millis(500);

/// gRPC sidecar for the certificate operations of Huawei Cloud's API gateway (ROMA Connect APIC)
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(Flags),
    /// Run an emulated cloud and the gateway, and show sample calls with their decoded details
    Demo(demo::Options),
    /// Run the emulated cloud alone
    Emulator(emulator::Options),
    /// Bind a certificate to domain names, through a gateway
    Attach(change::AttachOptions),
    /// End the binding of a certificate to domain names, through a gateway
    Detach(change::Options),
    /// List the domain names that a certificate is bound to
    Attached(attached::Options),
    /// Bind a certificate wherever another one is bound, through a gateway
    ///
    /// `certificates update` replaces the content of a certificate and needs no rebinding; a new trusted root CA switches
    /// client verification off there, which `rotate` keeps.
    Rotate(rotate::Options),
    /// List, get, create, update and delete certificates
    #[command(subcommand)]
    Certificates(certificates::Command),
    /// Probe a gateway's health service, for containers
    Health(health::Options),
    /// Validate the configuration, print every fault or the result with secrets masked
    Check(Flags),
    /// Print the mapping of the cloud's error codes to gRPC statuses
    Errors(errors::Options),
    /// Print shell completions
    Completions(completions::Options),
    /// Write a page of the reference documentation
    #[command(hide = true)]
    Reference(reference::Options),
}

/// The failure of a command.
#[derive(Debug)]
enum Failure {
    /// An invalid configuration: exit code 2.
    Config(Faults),
    /// A mistake in the arguments or in a file that they name: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Other(String),
    /// The command has printed the reason: exit code 1.
    Told,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.to_string())
    }
}

/// Runs the command that the command line names.
pub fn run(environment: Environment<'_>) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(fault) => {
            let _ = fault.print();
            return ExitCode::from(u8::try_from(fault.exit_code()).unwrap_or(2));
        }
    };
    // Before the runtime, which would get the numbers of descriptors that are announced and were not passed.
    let sockets = match &cli.command {
        Command::Serve(_) => activation::take(environment),
        _ => Ok(Sockets::default()),
    };
    let _flushed = FlushedAtExit;
    // One thread: calls mostly wait, and work stealing costs twice the processor time.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return fail(&format!("can't start: {fault}")),
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Serve(flags) => serve::run(flags, environment, sockets).await,
            Command::Demo(options) => demo::run(options).await,
            Command::Emulator(options) => emulator::run(options).await,
            Command::Attach(options) => change::attach(options, environment).await,
            Command::Detach(options) => change::detach(options, environment).await,
            Command::Attached(options) => attached::run(options, environment).await,
            Command::Rotate(options) => rotate::run(options, environment).await,
            Command::Certificates(command) => certificates::run(command, environment).await,
            Command::Health(options) => health::run(options, environment).await,
            Command::Check(flags) => check(flags, environment),
            Command::Errors(options) => errors::run(&options),
            Command::Completions(options) => completions::run(&options),
            Command::Reference(options) => reference::run(&options),
        }
    });
    // A file read that hangs must not keep the program alive.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(Failure::Other(text)) => fail(&text),
        Err(Failure::Usage(text)) => {
            let _ = fail(&text);
            ExitCode::from(2)
        }
        Err(Failure::Config(faults)) => {
            let _ = fail(&format!("invalid configuration:\n{faults}"));
            ExitCode::from(2)
        }
    }
}

fn fail(text: &str) -> ExitCode {
    log::say(text);
    ExitCode::FAILURE
}

/// Writes the last lines of logs when it is dropped, also by a panic; gives up on a reader that has stopped.
struct FlushedAtExit;

impl Drop for FlushedAtExit {
    fn drop(&mut self) {
        sink::flush_all(FLUSH_AT_EXIT);
    }
}

fn check(flags: Flags, environment: Environment<'_>) -> Result<(), Failure> {
    let config = flags.load(environment, &Sockets::default())?;
    write!(io::stdout(), "{}", config.describe())?;
    Ok(())
}

/// Whether output may have colour.
fn colour() -> bool {
    io::stdout().is_terminal()
}
