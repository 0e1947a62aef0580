//! The gateway in a process of its own.

use tokio::process::Command;

/// The file of the gateway.
#[derive(Debug)]
pub(crate) struct Binary;

impl testkit::program::Binary for Binary {
    const PATH: &'static str = env!("CARGO_BIN_EXE_apig-grpc-gateway");
}

pub(crate) type Program = testkit::program::Program<Binary>;

/// The gateway as a command, its streams piped.
pub(crate) fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    Program::command(arguments, variables)
}
