//! The settings: one table, from which come flags, variables, file keys, help and `docs/settings.md`.

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The name, as the flag has it.
    pub key: &'static str,
    /// A placeholder for the value, in capitals.
    pub value: &'static str,
    /// The default value.
    pub default: Option<&'static str>,
    /// The meaning, in one line.
    pub help: &'static str,
    /// Never a flag, never shown.
    pub secret: bool,
}

impl Setting {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("APIG_GATEWAY_{}", self.file_key().to_ascii_uppercase())
    }

    /// The key in the configuration file.
    pub fn file_key(&self) -> String {
        self.key.replace('-', "_")
    }

    /// The heading of a run of settings that starts with this one.
    pub(crate) fn heading(&self) -> Option<&'static str> {
        SECTIONS.iter().find(|(first, _)| *first == self.key).map(|(_, heading)| *heading)
    }
}

const fn set(key: &'static str, value: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting { key, value, default, help, secret: false }
}

const fn secret(key: &'static str, help: &'static str) -> Setting {
    Setting { key, value: "SECRET", default: None, help, secret: true }
}

/// A heading for each run of settings, by the first key of the run.
const SECTIONS: &[(&str, &str)] = &[
    ("listen", "Listening"),
    ("upstream", "The cloud"),
    ("project-id", "Credentials"),
    ("timeout", "Calls"),
    ("max-concurrency", "Limits"),
    ("drain-delay", "Shutdown"),
    ("audit", "Audit and log"),
];

/// Every setting, in the order of help and documentation.
pub const SETTINGS: &[Setting] = &[
    set("listen", "ADDRESS", Some("127.0.0.1:50051"), "Address of the gRPC port: host:port or unix:/path"),
    set("listen-mode", "MODE", Some("600"), "Permissions of the Unix socket, in octal"),
    set("listen-owner", "UID[:GID]", None, "Owner of the Unix socket, by number; by default the user of the process"),
    set("tls-certificate", "PATH", None, "PEM certificate chain for gRPC over TLS; read again when it changes"),
    set("tls-key", "PATH", None, "Private key of tls-certificate, PEM; read again when it changes"),
    set(
        "tls-client-ca",
        "PATH",
        None,
        "PEM certificates of the CAs that issue callers' certificates (mutual TLS); read again when it changes",
    ),
    set(
        "tls-client-crl",
        "PATH",
        None,
        "PEM revocation lists for callers' certificates, one of each CA of tls-client-ca; read again when it changes",
    ),
    set("admin-listen", "ADDRESS", Some("127.0.0.1:9464"), "Address of the admin port (HTTP): host:port, or off"),
    set("upstream", "URL", None, "Base URL of the cloud's API; required unless region is given"),
    set(
        "region",
        "REGION",
        None,
        "Region, as in cn-north-4: sets upstream, iam-endpoint and sts-endpoint to their usual hosts",
    ),
    set("api-family", "FAMILY", Some("apic"), "apic (ROMA Connect) or apigw (dedicated API Gateway)"),
    set(
        "upstream-ca",
        "PATH",
        None,
        "PEM certificates to trust for the cloud besides the platform's; read again when it changes",
    ),
    set(
        "upstream-client-certificate",
        "PATH",
        None,
        "PEM client certificate chain for the cloud; read again when it changes",
    ),
    set(
        "upstream-client-key",
        "PATH",
        None,
        "Private key of upstream-client-certificate, PEM; read again when it changes",
    ),
    set(
        "upstream-proxy",
        "URL",
        None,
        "HTTP proxy for requests to the cloud; a user and a password in it only from environment or file; HTTP_PROXY and the like are ignored",
    ),
    set(
        "allow-plaintext-upstream",
        "BOOL",
        Some("false"),
        "Permit http:// to other hosts, which exposes tokens and signatures to the network",
    ),
    set("project-id", "ID", None, "Project of calls that name none"),
    set(
        "credentials",
        "KIND",
        Some("passthrough"),
        "passthrough (each caller sends x-auth-token), token, password, aksk, metadata, container, oidc or auto",
    ),
    secret("token", "IAM token, for credentials = token"),
    set("token-file", "PATH", None, "File with the IAM token, for credentials = token; read again when it changes"),
    set("user-name", "NAME", None, "IAM user, for credentials = password"),
    set("account-name", "NAME", None, "Account of the IAM user (IAM calls it a domain), for credentials = password"),
    secret("password", "Password of the IAM user, for credentials = password"),
    set("password-file", "PATH", None, "File with the password; read again when it changes"),
    set(
        "project-name",
        "NAME",
        None,
        "Name of the project, when project-id is not given; by default the region's own project",
    ),
    set("access-key-id", "ID", None, "Access key id, for credentials = aksk"),
    secret("secret-access-key", "Secret access key, for credentials = aksk"),
    set("secret-access-key-file", "PATH", None, "File with the secret access key; read again when it changes"),
    secret("security-token", "Security token of a temporary key pair, for credentials = aksk"),
    set("iam-endpoint", "URL", None, "Base URL of IAM; by default the usual host of region"),
    set("sts-endpoint", "URL", None, "Base URL of STS; by default the usual host of region"),
    set("metadata-endpoint", "URL", Some("http://169.254.169.254"), "Base URL of a virtual machine's metadata service"),
    set("timeout", "DURATION", Some("30s"), "Deadline of calls without grpc-timeout, and upper bound of grpc-timeout"),
    set(
        "max-attempts",
        "NUMBER",
        Some("3"),
        "Attempts for a request that was certainly not processed, the first included; 1: no retries",
    ),
    set("serialize-certificates", "BOOL", Some("true"), "Send changes of one certificate one after the other"),
    set(
        "read-back",
        "BOOL",
        Some("true"),
        "Look up unknown outcomes of attach and detach in the list of attached domains",
    ),
    set(
        "require-instance-ids",
        "BOOL",
        Some("false"),
        "Reject domains without instance_ids, which apply to every instance",
    ),
    set(
        "max-concurrency",
        "NUMBER",
        Some("1024"),
        "Concurrent calls in the process; beyond it UNAVAILABLE, reason OVERLOADED",
    ),
    set(
        "max-requests-per-second",
        "NUMBER",
        Some("0"),
        "Requests to the cloud in any second, retries included; 0: no limit",
    ),
    set(
        "max-buffered-bytes",
        "SIZE",
        Some("32MiB"),
        "Memory of all calls in progress with their messages; beyond it OVERLOADED",
    ),
    set("max-message-size", "SIZE", Some("4MiB"), "Size limit of a request message, before and after decompression"),
    set(
        "breaker-threshold",
        "NUMBER",
        Some("20"),
        "Consecutive failures (502 to 504, no connection, no response within 5 s) that open the circuit breaker, reason CIRCUIT_OPEN; 0: never",
    ),
    set(
        "workers",
        "NUMBER",
        Some("1"),
        "Worker threads, each with an upstream connection pool of its own; connections are dealt out to them evenly",
    ),
    set(
        "max-connections",
        "NUMBER",
        Some("1000"),
        "Connections on the gRPC port after their handshake; more are closed",
    ),
    set(
        "max-connection-age",
        "DURATION",
        Some("0s"),
        "Age at which a connection gets GOAWAY, plus or minus 10 %; 0s: never",
    ),
    set("drain-delay", "DURATION", Some("0s"), "Time after SIGTERM in which new connections are still accepted"),
    set("drain-timeout", "DURATION", Some("25s"), "Time after that for calls in progress to end"),
    set(
        "audit",
        "DESTINATION",
        Some("off"),
        "Audit log, a JSON line for each call that may change something: off, stdout or a path",
    ),
    set(
        "access-log",
        "CALLS",
        Some("all"),
        "Calls that have a line in the log when they end: all, errors (those that do not end with OK) or off",
    ),
    set("log-format", "FORMAT", None, "text or json; by default text on a terminal, else json"),
    set("log-level", "LEVEL", Some("info"), "error, warn, info, debug or trace"),
];
