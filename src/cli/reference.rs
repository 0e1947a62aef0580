//! `reference`: writes `docs/settings.md` and `docs/metrics.md`. A hidden command for the maintenance of these pages.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use clap::{Args, ValueEnum};

use super::Failure;
use crate::{config::SETTINGS, telemetry};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The page to print
    #[arg(value_enum)]
    page: Page,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Page {
    Settings,
    Metrics,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let text = match options.page {
        Page::Settings => settings(),
        Page::Metrics => metrics(),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
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
