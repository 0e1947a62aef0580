//! `completions`: shell completions, made of the definitions of the command line.

use std::io::{self, Write as _};

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure, NAME};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The shell; `source <(apig-grpc-gateway completions bash)` loads its completions
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    // Without the hidden commands, which the generators would offer.
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut command = Command::new(NAME).version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut command, NAME, &mut text);
    if options.shell == Shell::Bash {
        // The generator spells a name with hyphens in two ways, and completes nothing after a command (clap-rs/clap#6421).
        let name = NAME.replace('-', "__");
        let text_of_bash = String::from_utf8_lossy(&text).replace(&NAME.replace('-', "__subcmd__"), &name);
        text = text_of_bash.into_bytes();
    }
    io::stdout().write_all(&text)?;
    Ok(())
}
