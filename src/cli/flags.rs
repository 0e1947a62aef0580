//! The settings as flags of `serve` and `check`, and the sources of a configuration.

use std::{collections::BTreeMap, fs, path::PathBuf};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::Failure;
use crate::{
    config::{Config, Environment, Faults, SETTINGS, Sources},
    server::Sockets,
};

/// The values given on the command line.
#[derive(Debug, Clone)]
pub(super) struct Flags {
    config: Option<PathBuf>,
    values: BTreeMap<&'static str, String>,
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .help("TOML file with settings [env: APIG_GATEWAY_CONFIG]");
        let mut heading = "Settings";
        let settings = SETTINGS.iter().filter(|setting| !setting.secret).map(|setting| {
            heading = setting.heading().unwrap_or(heading);
            let default = setting.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
            let flag = Arg::new(setting.key)
                .long(setting.key)
                .value_name(setting.value)
                .help_heading(heading)
                .help(format!("{} [env: {}]{default}", setting.help, setting.variable()));
            // A flag without value means true.
            if setting.value == "BOOL" { flag.num_args(0..=1).default_missing_value("true") } else { flag }
        });
        let secrets = SETTINGS
            .iter()
            .filter(|setting| setting.secret)
            .map(|setting| format!("  {}\n          {}", setting.variable(), setting.help))
            .collect::<Vec<_>>()
            .join("\n");
        command
            .arg(config)
            .args(settings)
            .after_help(format!("Environment only:\n{secrets}\n\nA flag takes precedence over the environment, and the environment over the file."))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = SETTINGS
            .iter()
            .filter(|setting| !setting.secret)
            .filter_map(|setting| Some((setting.key, matches.get_one::<String>(setting.key)?.clone())))
            .collect();
        Ok(Self { config: matches.get_one("config").cloned(), values })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Flags {
    /// Reads the environment and the file, and makes a configuration of all three. The addresses of sockets that are bound
    /// already take the place of those configured, so that every rule about an address holds for them.
    pub(super) fn load(self, environment: Environment<'_>, sockets: &Sockets) -> Result<Config, Failure> {
        let path = self.config.or_else(|| environment("APIG_GATEWAY_CONFIG").map(PathBuf::from));
        let file = match path {
            None => None,
            Some(path) => Some(fs::read_to_string(&path).map_err(|fault| {
                Failure::Config(Faults(vec![format!("config can't be read from {}: {fault}", path.display())]))
            })?),
        };
        let sockets = sockets.addresses().map(|(key, address)| (key, address.to_string())).collect();
        let sources = Sources { sockets, flags: self.values, environment: Some(environment), file };
        Config::load(sources).map_err(Failure::Config)
    }
}
