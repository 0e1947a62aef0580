//! `reference`: writes `docs/settings.md`, `docs/metrics.md` and the manual pages. A hidden command for the maintenance of
//! these pages and for packages.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_mangen::Man;

use super::{Cli, Failure};
use crate::{config::SETTINGS, telemetry};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The page to print
    #[arg(value_enum)]
    page: Page,
    /// Folder for the manual pages of every command, instead of the program's page alone on standard output
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Page {
    Settings,
    Metrics,
    Man,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let text = match options.page {
        Page::Settings => settings(),
        Page::Metrics => metrics(),
        Page::Man => match &options.into {
            Some(folder) => return manual_pages(folder),
            None => manual()?,
        },
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// The program's manual page, in roff.
fn manual() -> io::Result<String> {
    let mut page = Vec::new();
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    Man::new(command).render(&mut page)?;
    String::from_utf8(page).map_err(io::Error::other)
}

/// Writes a page for the program and for each command.
fn manual_pages(folder: &Path) -> Result<(), Failure> {
    let fault = |error: io::Error| Failure::Other(format!("{}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(fault)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(fault)
}

fn settings() -> String {
    let mut text = "<!-- Generated: `cargo run -- reference settings > docs/settings.md`. -->\n\n\
        # Settings\n\n\
        Each setting is a flag of `serve` and `check` (`--max-attempts`), an environment variable (`APIG_GATEWAY_MAX_ATTEMPTS`) and a\n\
        key of the TOML file given by `--config` or `APIG_GATEWAY_CONFIG` (`max_attempts`). A flag takes precedence over the environment,\n\
        and the environment over the file. Unknown keys are errors. Secrets are never flags. The file also has the lists of tables\n\
        `[[identities]]` and `[[policy]]`. [configure.md](configure.md) explains the settings by task.\n"
        .to_owned();
    for setting in SETTINGS {
        if let Some(heading) = setting.heading() {
            let _ =
                writeln!(text, "\n## {heading}\n\n| setting | value | default | meaning |\n| --- | --- | --- | --- |");
        }
        let key = setting.key;
        let default = setting.default.map(|default| format!("`{default}`")).unwrap_or_default();
        let value = if setting.secret { "secret: environment or file only" } else { setting.value };
        let _ = writeln!(text, "| `{key}` | {value} | {default} | {} |", setting.help);
    }
    text + "\nDurations are written as `250ms`, `30s`, `5m` or `1h`, sizes as `65536`, `64KiB` or `4MiB`.\n"
}

fn metrics() -> String {
    "<!-- Generated: `cargo run -- reference metrics > docs/metrics.md`. -->\n\n\
     # Metrics\n\n\
     `GET /metrics` on the admin port (`admin-listen`) returns them in the OpenMetrics text format. Names follow the semantic conventions\n\
     of OpenTelemetry where those have one. [observe.md](observe.md) says which of them to alert on.\n\n"
        .to_owned()
        + &telemetry::markdown()
}
