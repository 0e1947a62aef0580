//! The settings: one table from which flags, variables, file keys, help and the README's table come.

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The name, as the flag has it.
    pub key: &'static str,
    /// What the value looks like.
    pub value: &'static str,
    /// The value when none is given.
    pub default: Option<&'static str>,
    /// What it means, in one line.
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
}

const fn set(key: &'static str, value: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting { key, value, default, help, secret: false }
}

const fn secret(key: &'static str, help: &'static str) -> Setting {
    Setting { key, value: "SECRET", default: None, help, secret: true }
}

/// Every setting, in the order in which people meet them.
pub const SETTINGS: &[Setting] = &[
    set("listen", "ADDRESS", Some("127.0.0.1:50051"), "Where to serve gRPC: host:port or unix:/path"),
    set("listen-mode", "MODE", Some("600"), "Who may connect to the Unix socket, in octal as chmod has it"),
    set(
        "listen-owner",
        "UID[:GID]",
        None,
        "Whom the Unix socket belongs to, by number; by default whoever runs the gateway",
    ),
    set("tls-certificate", "PATH", None, "PEM certificate chain for gRPC over TLS; read again when it changes"),
    set("tls-key", "PATH", None, "The certificate's private key, PEM; read again when it changes"),
    set(
        "tls-client-ca",
        "PATH",
        None,
        "PEM certificates of the CAs whose certificates callers must bring (mutual TLS); read again when it changes",
    ),
    set(
        "tls-client-crl",
        "PATH",
        None,
        "PEM revocation lists for callers' certificates, one of each CA of tls-client-ca; read again when it changes",
    ),
    set(
        "admin-listen",
        "ADDRESS",
        Some("127.0.0.1:9464"),
        "Where to serve /livez, /readyz and /metrics: host:port, or off",
    ),
    set("upstream", "URL", None, "Base URL of the cloud's API; required unless region is given"),
    set("region", "REGION", None, "A region of the cloud, as in cn-north-4: gives upstream its usual host name"),
    set("api-family", "FAMILY", Some("apic"), "apic (ROMA Connect) or apigw (dedicated API Gateway)"),
    set("project-id", "ID", None, "The project for calls that name none"),
    set(
        "credentials",
        "KIND",
        Some("passthrough"),
        "passthrough (each caller brings x-auth-token), or what the gateway holds: token, password, aksk, metadata, container, oidc, auto",
    ),
    secret("token", "The IAM token, for credentials = token; never a flag"),
    set("token-file", "PATH", None, "A file with the IAM token, for credentials = token; read again when it changes"),
    set("user-name", "NAME", None, "The IAM user, for credentials = password"),
    set("account-name", "NAME", None, "The account that the user belongs to (IAM calls it a domain)"),
    secret("password", "The user's password; never a flag"),
    set("password-file", "PATH", None, "A file with the password; read again when it changes"),
    set(
        "project-name",
        "NAME",
        None,
        "The project of the token, when project-id is not given; by default the region's own",
    ),
    set("access-key-id", "ID", None, "The access key, for credentials = aksk"),
    secret("secret-access-key", "Its secret; never a flag"),
    set("secret-access-key-file", "PATH", None, "A file with the secret; read again when it changes"),
    secret("security-token", "For a temporary key pair; never a flag"),
    set("iam-endpoint", "URL", None, "Base URL of IAM; region gives its usual host name"),
    set("sts-endpoint", "URL", None, "Base URL of STS; region gives its usual host name"),
    set(
        "metadata-endpoint",
        "URL",
        Some("http://169.254.169.254"),
        "Base URL of the metadata service of a virtual machine",
    ),
    set("timeout", "DURATION", Some("30s"), "Deadline of calls that bring none, and the most that a call may ask for"),
    set(
        "workers",
        "NUMBER",
        Some("1"),
        "Threads that serve, each with a listener and connections to the cloud of its own",
    ),
    set("max-concurrency", "NUMBER", Some("1024"), "Calls in progress; past it UNAVAILABLE, reason OVERLOADED"),
    set(
        "max-attempts",
        "NUMBER",
        Some("3"),
        "Tries in all for what was certainly not done, the first included; 1: no repeats",
    ),
    set("serialize-certificates", "BOOL", Some("true"), "Send changes of one certificate one after the other"),
    set("max-requests-per-second", "NUMBER", Some("0"), "Requests towards the cloud in any second; 0: no limit"),
    set(
        "breaker-threshold",
        "NUMBER",
        Some("20"),
        "Failures in a row (502 to 504, no connection, no answer within 5s) after which calls fail at once, reason CIRCUIT_OPEN; 0: never",
    ),
    set(
        "max-buffered-bytes",
        "SIZE",
        Some("32MiB"),
        "Memory of all calls in progress with their messages; past it OVERLOADED",
    ),
    set("max-message-size", "SIZE", Some("4MiB"), "The largest request message"),
    set(
        "require-instance-ids",
        "BOOL",
        Some("false"),
        "Refuse domains without instance_ids, which act on every instance",
    ),
    set(
        "max-connections",
        "NUMBER",
        Some("1000"),
        "Connections on the gRPC port that have completed their handshake; more are closed",
    ),
    set(
        "max-connection-age",
        "DURATION",
        Some("0s"),
        "Age at which a connection gets GOAWAY, give or take a tenth; 0s: never",
    ),
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
        "PEM certificate chain to show the cloud; read again when it changes",
    ),
    set("upstream-client-key", "PATH", None, "Its private key, PEM; read again when it changes"),
    set("upstream-proxy", "URL", None, "HTTP proxy towards the cloud; the environment's proxies are never used"),
    set(
        "allow-plaintext-upstream",
        "BOOL",
        Some("false"),
        "Send tokens and signatures to other hosts over http://, where others can read them",
    ),
    set("drain-delay", "DURATION", Some("0s"), "After SIGTERM, how long new connections are still accepted"),
    set("drain-timeout", "DURATION", Some("25s"), "How long calls in progress may take to end after that"),
    set(
        "audit",
        "DESTINATION",
        Some("off"),
        "Where a JSON line goes for each call that may change something: off, stdout, or a file",
    ),
    set("log-format", "FORMAT", None, "text or json; by default text on a terminal, else json"),
    set("log-level", "LEVEL", Some("info"), "error, warn, info, debug or trace"),
];
