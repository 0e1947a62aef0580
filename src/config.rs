//! Makes a valid [`Config`] of flags, environment and file, and reports every fault at once, before anything starts. Opens no
//! socket. Faults name keys, never values.

mod callers;
mod credentials;
mod plaintext;
mod read;
mod region;
mod settings;
mod traces;
mod url;

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use reqwest::Url;
use zeroize::Zeroizing;

pub(crate) use self::read::parse_duration;
pub use self::settings::{SETTINGS, Setting};
use self::{
    credentials::Credentials,
    read::{Read, Reader},
    url::{base_url, password_of, proxy},
};
use crate::{
    audit::Destination,
    cloud,
    log::{AccessLog, LogFormat},
    server::{self, Access, Address, Owner},
    upstream::{self, Proxy},
    validate::is_safe_segment,
};

// Constants rather than settings: the caller's deadline bounds every call, and the crowds that these would be tuned for are
// bounded by number.

/// The timeout for the TLS handshake and the HTTP/2 preface of a caller.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval between PING frames to a caller: shorter than load balancers keep a silent connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// The time that a caller has to acknowledge a PING frame.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout for a new connection to the cloud, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that an idle connection to the cloud stays in the pool: shorter than common servers keep theirs, so that the
/// server seldom closes a connection that a request is about to use.
const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that a gateway needs to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The gateway itself.
    pub gateway: server::Settings,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    /// Each setting with the source of its value, for `check`.
    given: Vec<(&'static Setting, Option<Given>)>,
    /// Decisions that the configuration left open, for `check`.
    notes: Vec<String>,
    /// The rules as they were written, for `check`.
    policy: Vec<toml::Table>,
}

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Socket,
    Flag,
    Environment,
    File,
}

/// A value as it was given.
#[derive(Clone, PartialEq, Eq)]
struct Given {
    text: Zeroizing<String>,
    source: Source,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Given(_, {:?})", self.source)
    }
}

/// All faults of a configuration, a sentence each.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// Looks an environment variable up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The values as they were written, not yet validated.
#[derive(Default)]
pub struct Sources<'a> {
    /// The addresses of sockets that a service manager has bound, by key.
    pub sockets: BTreeMap<&'static str, String>,
    /// The flags, by key.
    pub flags: BTreeMap<&'static str, String>,
    /// Looks a variable up; tests pass their own.
    pub environment: Option<Environment<'a>>,
    /// The text of the configuration file.
    pub file: Option<String>,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("flags", &self.flags.keys()).finish_non_exhaustive()
    }
}

impl Config {
    /// Makes a configuration: a socket that is bound already takes precedence over a flag, a flag over the environment, and the
    /// environment over the file.
    ///
    /// # Errors
    ///
    /// All faults at once: unknown keys, invalid values, settings that need one another.
    pub fn load(sources: Sources<'_>) -> Result<Self, Faults> {
        let mut read = Reader::new(sources);
        let family = read.one_of("api-family", &["apic", "apigw"]).unwrap_or("apic");
        let base = upstream(&mut read, family);
        read.is_on("allow-plaintext-upstream");
        let tls = upstream_tls(&mut read);
        let upstream = base.map(|base| upstream::Settings {
            base,
            proxy: proxy(&mut read),
            tls: tls.clone(),
            shows_identity: true,
            connect_timeout: CONNECT_TIMEOUT,
            idle_timeout: UPSTREAM_IDLE_TIMEOUT,
            max_age: upstream::MAX_AGE,
        });
        if let Some(upstream) = &upstream {
            let key = if read.text("upstream").is_some() { "upstream" } else { "region" };
            plaintext::check(&mut read, key, &upstream.base, upstream.proxy.as_ref().map(Proxy::url));
            if let Some(Err((key, fault))) = tls.as_ref().map(|_| upstream.check()) {
                read.fault(key, fault);
            }
        }
        let default_project = read.text("project-id");
        if default_project.as_deref().is_some_and(|id| !is_safe_segment(id)) {
            read.fault("project-id", "must be 1 to 128 characters out of A-Z a-z 0-9 - . _ ~");
        }
        let rules = read.tables("policy");
        let credentials = credentials::read(&mut read, upstream.as_ref(), default_project);
        let gateway = gateway(&mut read, upstream, credentials, family, &rules);
        let log_format = match read.one_of("log-format", &["text", "json"]) {
            Some("text") => LogFormat::Text,
            Some(_) => LogFormat::Json,
            None => LogFormat::by_terminal(),
        };
        let log_level = read.text("log-level").unwrap_or_default();
        if log_level.parse::<tracing_subscriber::filter::Targets>().is_err() {
            read.fault("log-level", "must be error, warn, info, debug, trace, or a filter of them");
        }
        let Read { given, notes, faults } = read.finish();
        match gateway {
            Some(gateway) if faults.is_empty() => {
                let mut config = Self { gateway, log_format, log_level, given, notes, policy: rules };
                config.gateway.description = config.describe();
                Ok(config)
            }
            _ => Err(Faults(faults)),
        }
    }

    /// The format and the level of the log.
    pub fn logs(&self) -> (LogFormat, &str) {
        (self.log_format, &self.log_level)
    }

    /// The configuration as a file, secrets masked, with the source of each value.
    pub fn describe(&self) -> String {
        let line = |(setting, given): &(&'static Setting, Option<Given>)| {
            let key = setting.file_key();
            match given {
                None => match setting.default {
                    Some(default) => format!("{key} = \"{default}\"  # default"),
                    None => format!("# {key} is not set"),
                },
                Some(given) => {
                    let value = match password_of(&given.text) {
                        _ if setting.secret => Cow::Borrowed("***"),
                        Some(secret) => Cow::Owned(given.text.replacen(secret, "***", 1)),
                        None => Cow::Borrowed(given.text.as_str()),
                    };
                    let source = match given.source {
                        Source::Socket => "socket activation".to_owned(),
                        Source::Flag => format!("--{}", setting.key),
                        Source::Environment => setting.variable(),
                        Source::File => "file".to_owned(),
                    };
                    format!("{key} = {}  # {source}", toml::Value::from(&*value))
                }
            }
        };
        let notes = self.notes.iter().map(|note| format!("# {note}\n"));
        let settings: String = self.given.iter().map(|setting| line(setting) + "\n").chain(notes).collect();
        let rules = self.policy.iter().map(|rule| format!("\n[[policy]]\n{rule}"));
        settings + &rules.collect::<String>()
    }
}

/// The base URL: `upstream`, or the usual host of `region`.
fn upstream(read: &mut Reader<'_>, family: &str) -> Option<Url> {
    let region = read.text("region");
    if region.as_deref().is_some_and(|region| !region::is_one(region)) {
        read.fault("region", "must be the id of a region, as in cn-north-4");
        return None;
    }
    let service = if family == "apigw" { "apig" } else { "roma" };
    match (read.text("upstream"), region) {
        (Some(text), _) => read.check("upstream", base_url(&text)),
        (None, Some(region)) => {
            // `auto` follows the SDK, which takes the endpoint from this variable: the first of several.
            let variable = format!("HUAWEICLOUD_SDK_REGION_{service}_{region}").to_ascii_uppercase().replace('-', "_");
            let usual = || region::host(service, &region);
            let given = read.foreign(&variable).filter(|_| read.text("credentials").as_deref() == Some("auto"));
            let given = given.and_then(|text| text.split(',').next().map(|first| first.trim().to_owned()));
            read.check("region", base_url(&given.unwrap_or_else(usual)))
        }
        (None, None) => {
            read.fault("upstream", "is required, or region");
            None
        }
    }
}

/// The TLS files towards the upstream: `None` when a fault was noted.
fn upstream_tls(read: &mut Reader<'_>) -> Option<Arc<upstream::TlsFiles>> {
    let path = |key| read.text(key).map(PathBuf::from);
    let ca = path("upstream-ca");
    let identity = match (path("upstream-client-certificate"), path("upstream-client-key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            read.fault("upstream-client-certificate", "needs upstream-client-key");
            return None;
        }
        (None, Some(_)) => {
            read.fault("upstream-client-key", "needs upstream-client-certificate");
            return None;
        }
    };
    let files = upstream::TlsFiles::load(ca, identity);
    let noted = |faults: Vec<_>| faults.into_iter().for_each(|(key, fault)| read.fault(key, fault));
    files.map_err(noted).ok().map(Arc::new)
}

fn gateway(
    read: &mut Reader<'_>,
    upstream: Option<upstream::Settings>,
    credentials: Option<Credentials>,
    family: &'static str,
    rules: &[toml::Table],
) -> Option<server::Settings> {
    let listen = read.text("listen").unwrap_or_default();
    let listen = read.check("listen", Address::parse(&listen));
    let listen_mode = read.text("listen-mode").and_then(|text| u32::from_str_radix(&text, 8).ok());
    let listen_mode = listen_mode.filter(|mode| *mode <= 0o777).ok_or("must be an octal mode, as in 660");
    let listen_mode = read.check("listen-mode", listen_mode);
    let owner = read.text("listen-owner").map(|text| Owner::parse(&text));
    let owner = owner.and_then(|owner| read.check("listen-owner", owner));
    let tls = callers::tls(read, listen.as_ref());
    let policy = callers::policy(read, rules);
    // On an open port, a gateway with credentials of its own would give the cloud account to any peer.
    if credentials.as_ref().is_some_and(Credentials::are_held)
        && listen.as_ref().is_some_and(Address::is_remote)
        && read.text("tls-client-ca").is_none()
        && rules.is_empty()
    {
        read.fault(
            "listen",
            "is open to other hosts, and the gateway would use its own credentials for any peer: set tls-client-ca, \
             write [[policy]] rules (identity = \"anyone\" allows every peer), or listen on loopback or a Unix socket",
        );
    }
    let admin_listen = read.text("admin-listen").filter(|text| text != "off");
    if let Some(text) = &admin_listen
        && !matches!(Address::parse(text), Ok(Address::Tcp(_)))
    {
        read.fault("admin-listen", "must be host:port, or off");
    }
    let timeout = read.duration("timeout");
    let connection = server::Limits {
        max_age: Some(read.duration_or_zero("max-connection-age")).filter(|age| !age.is_zero()),
        grace: timeout + Duration::from_secs(5),
        handshake_timeout: HANDSHAKE_TIMEOUT,
        keep_alive_interval: KEEP_ALIVE_INTERVAL,
        keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
    };
    let access_log = match read.one_of("access-log", &["all", "errors", "off"]) {
        Some("errors") => AccessLog::Errors,
        Some("off") => AccessLog::Off,
        Some(_) | None => AccessLog::All,
    };
    let audit = Destination::parse(&read.text("audit").unwrap_or_default());
    let workers = read.number("workers", 1..=256);
    let max_connections = read.number("max-connections", 1..=1_000_000);
    let max_concurrency = read.number("max-concurrency", 1..=1_000_000);
    let max_message_size = read.size("max-message-size", 1024..=64 * 1024 * 1024);
    let max_buffered_bytes = read.size("max-buffered-bytes", 64 * 1024..=64 * 1024 * 1024 * 1024);
    let cloud = cloud::Settings {
        family,
        max_attempts: read.number("max-attempts", 1..=10),
        serialize_certificates: read.is_on("serialize-certificates"),
        breaker_threshold: read.number("breaker-threshold", 0..=1_000_000),
        max_requests_per_second: Some(read.number("max-requests-per-second", 0..=1_000_000))
            .filter(|number| *number > 0),
        max_read_backs: read.is_on("read-back").then_some((max_concurrency / 4).max(1)),
    };
    let traces = traces::read(read);
    let drain_delay = read.duration_or_zero("drain-delay");
    let drain_timeout = read.duration("drain-timeout");
    let require_instance_ids = read.is_on("require-instance-ids");
    // After every setting has been read, so that all faults are reported.
    let Credentials { settings: credentials, project, kind: credentials_kind } = credentials?;
    Some(server::Settings {
        upstream: upstream?,
        credentials,
        project,
        listen: listen?,
        listen_access: Access { mode: listen_mode?, owner },
        tls,
        policy: policy?,
        admin_listen,
        connection,
        access_log,
        audit,
        workers,
        max_connections,
        max_concurrency,
        max_message_size,
        max_buffered_bytes,
        cloud,
        timeout,
        drain_delay,
        drain_timeout,
        require_instance_ids,
        credentials_kind,
        description: String::new(),
        traces,
        warnings: read.warnings(),
    })
}

#[cfg(test)]
mod tests;
