//! A connection to a gateway, for the commands that call one.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::Failure;

/// Help for `--target`.
pub(super) const TARGET: &str = "The gateway: http://host:port, https://host:port or unix:/path";

/// TLS for `https` targets.
#[derive(Debug, Default, Args)]
pub(super) struct Tls {
    /// PEM certificates to trust; required for an https target
    #[arg(long, value_name = "PATH")]
    ca: Option<PathBuf>,
    /// PEM client certificate chain
    #[arg(long, value_name = "PATH", requires = "key")]
    certificate: Option<PathBuf>,
    /// Private key of the client certificate, PEM
    #[arg(long, value_name = "PATH", requires = "certificate")]
    key: Option<PathBuf>,
}

impl Tls {
    fn is_given(&self) -> bool {
        self.ca.is_some() || self.certificate.is_some()
    }

    fn config(&self) -> Result<ClientTlsConfig, Failure> {
        let read = |name: &str, path: &PathBuf| {
            fs::read(path).map_err(|fault| Failure::Other(format!("{name} can't be read: {fault}")))
        };
        let Some(ca) = &self.ca else {
            return Err(Failure::Other("an https target needs --ca: the certificates to trust".into()));
        };
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca", ca)?));
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            config = config.identity(Identity::from_pem(read("certificate", certificate)?, read("key", key)?));
        }
        Ok(config)
    }
}

/// Parses `--timeout`; a number without unit is seconds, as for other probes.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let duration = seconds.or_else(|| crate::config::parse_duration(text));
    duration.filter(|duration| !duration.is_zero()).ok_or("must be a duration such as 500ms or 3s")
}

/// Connects to `http://host:port`, `https://host:port`, `host:port` or `unix:/path`.
pub(super) async fn connect(target: &str, tls: &Tls, timeout: Duration) -> Result<Channel, Failure> {
    let uri = if target.contains("://") || target.starts_with("unix:") {
        target.to_owned()
    } else {
        format!("http://{target}")
    };
    let fault = |what: String| Failure::Other(format!("{target}: {what}"));
    let encrypted = uri.starts_with("https://");
    let mut endpoint =
        Endpoint::from_shared(uri).map_err(|_| fault("must be http[s]://host:port or unix:/path".into()))?;
    if encrypted {
        endpoint = endpoint.tls_config(tls.config()?).map_err(|error| fault(causes(&error)))?;
    } else if tls.is_given() {
        // A call that was meant to be encrypted must not go in plain text.
        return Err(fault("--ca, --certificate and --key are for https targets".into()));
    }
    endpoint
        .connect_timeout(timeout)
        .connect()
        .await
        .map_err(|error| fault(format!("can't connect: {}", causes(&error))))
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}
