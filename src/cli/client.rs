//! A connection to a gateway, for the commands that call one: the options, the environment, and the requests of a call.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::Failure;
use crate::{config::Environment, credentials::parse_token, pb::certificate_service_client::CertificateServiceClient};

/// The gateway's own default port.
const DEFAULT_TARGET: &str = "http://127.0.0.1:50051";

/// A gateway, and TLS for `https` targets.
#[derive(Debug, Default, Args)]
pub(super) struct Target {
    #[arg(
        long = "target",
        value_name = "URL",
        help = "The gateway: http://host:port, https://host:port or unix:/path [env: APIG_GATEWAY_TARGET] \
                [default: http://127.0.0.1:50051]"
    )]
    url: Option<String>,
    #[arg(
        long,
        value_name = "PATH",
        help = "PEM certificates to trust; required for an https target [env: APIG_GATEWAY_CA]"
    )]
    ca: Option<PathBuf>,
    #[arg(
        long,
        value_name = "PATH",
        requires = "key",
        help = "PEM client certificate chain [env: APIG_GATEWAY_CERTIFICATE]"
    )]
    certificate: Option<PathBuf>,
    #[arg(
        long,
        value_name = "PATH",
        requires = "certificate",
        help = "Private key of the client certificate, PEM [env: APIG_GATEWAY_KEY]"
    )]
    key: Option<PathBuf>,
}

/// A gateway, with the project, the token and the deadline of each call to it.
#[derive(Debug, Args)]
pub(super) struct GatewayOptions {
    #[command(flatten)]
    target: Target,
    /// Project id; by default the gateway's project
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    project_id: String,
    #[arg(long, value_name = "PATH", help = "File with the IAM token, instead of APIG_GATEWAY_TOKEN")]
    token_file: Option<PathBuf>,
    /// Deadline of each call: 500ms, 3s, ...
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    timeout: Duration,
}

/// A connected gateway.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    pub(super) project_id: String,
    channel: Channel,
    token: Option<MetadataValue<tonic::metadata::Ascii>>,
    timeout: Duration,
}

impl GatewayOptions {
    /// The project; empty for the gateway's own.
    pub(super) fn project_id(&self) -> &str {
        &self.project_id
    }

    /// Connects to the gateway.
    ///
    /// # Errors
    ///
    /// The token or a file of TLS can't be read, or the gateway can't be reached.
    pub(super) async fn connect(&self, environment: Environment<'_>) -> Result<Gateway, Failure> {
        let token = self.token(environment)?;
        let channel = self.target.connect(environment, self.timeout).await?;
        Ok(Gateway { project_id: self.project_id.clone(), channel, token, timeout: self.timeout })
    }

    fn token(&self, environment: Environment<'_>) -> Result<Option<MetadataValue<tonic::metadata::Ascii>>, Failure> {
        let text = match &self.token_file {
            Some(path) => Some(
                fs::read_to_string(path)
                    .map_err(|fault| Failure::Other(format!("token-file can't be read: {fault}")))?,
            ),
            None => environment("APIG_GATEWAY_TOKEN"),
        };
        let Some(text) = text else { return Ok(None) };
        let token = parse_token(&text).map_err(|what| Failure::Other(format!("the token's source {what}")))?;
        let mut token = MetadataValue::try_from(token.as_bytes())?;
        token.set_sensitive(true);
        Ok(Some(token))
    }
}

impl Gateway {
    /// A client on the gateway's connection.
    pub(super) fn client(&self) -> CertificateServiceClient<Channel> {
        CertificateServiceClient::new(self.channel.clone())
    }

    /// The request of one call, with token and deadline.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("x-auth-token", token.clone());
        }
        request
    }
}

impl Target {
    /// Fills in options without a flag from the environment.
    fn with(&self, environment: Environment<'_>) -> Self {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        // Files from the environment are for https targets alone: another target may be given for one call.
        let url = self.url.clone().or_else(|| variable("APIG_GATEWAY_TARGET"));
        let url = url.unwrap_or_else(|| DEFAULT_TARGET.to_owned());
        let is_encrypted = url.starts_with("https://");
        let path = |given: &Option<PathBuf>, name: &str| {
            given.clone().or_else(|| variable(name).filter(|_| is_encrypted).map(PathBuf::from))
        };
        Self {
            ca: path(&self.ca, "APIG_GATEWAY_CA"),
            certificate: path(&self.certificate, "APIG_GATEWAY_CERTIFICATE"),
            key: path(&self.key, "APIG_GATEWAY_KEY"),
            url: Some(url),
        }
    }

    fn has_tls(&self) -> bool {
        self.ca.is_some() || self.certificate.is_some()
    }

    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let read = |name: &str, path: &PathBuf| {
            fs::read(path).map_err(|fault| Failure::Other(format!("{name} can't be read: {fault}")))
        };
        let Some(ca) = &self.ca else {
            return Err(Failure::Other("an https target needs --ca: the certificates to trust".into()));
        };
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca", ca)?));
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                config = config.identity(Identity::from_pem(read("certificate", certificate)?, read("key", key)?));
            }
            (None, None) => {}
            _ => return Err(Failure::Other("a client certificate needs both --certificate and --key".into())),
        }
        Ok(config)
    }

    /// Connects to `http://host:port`, `https://host:port`, `host:port` or `unix:/path`.
    ///
    /// # Errors
    ///
    /// The target is malformed or can't be reached; a file can't be read; TLS files are given for a plaintext target.
    pub(super) async fn connect(&self, environment: Environment<'_>, timeout: Duration) -> Result<Channel, Failure> {
        let this = self.with(environment);
        connect(this.url.as_deref().unwrap_or(DEFAULT_TARGET), &this, timeout).await
    }

    /// The target, for messages.
    pub(super) fn name(&self, environment: Environment<'_>) -> String {
        self.with(environment).url.unwrap_or_default()
    }
}

/// Parses `--timeout`; a number without unit is seconds, as for other probes.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let duration = seconds.or_else(|| crate::config::parse_duration(text));
    duration.filter(|duration| !duration.is_zero()).ok_or("must be a duration such as 500ms or 3s")
}

/// Connects to a target in plain text.
pub(super) async fn connect_plaintext(target: &str, timeout: Duration) -> Result<Channel, Failure> {
    connect(target, &Target::default(), timeout).await
}

async fn connect(target: &str, tls: &Target, timeout: Duration) -> Result<Channel, Failure> {
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
        endpoint = endpoint.tls_config(tls.tls()?).map_err(|error| fault(causes(&error)))?;
    } else if tls.has_tls() {
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
