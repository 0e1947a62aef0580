//! The program: it hands what was typed to the commands and turns their outcome into an exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let environment = |name: &str| std::env::var(name).ok();
    apig_grpc_gateway::cli::run(&environment)
}
