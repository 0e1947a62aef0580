//! `attach`: one `AttachDomains` call, for people and scripts.

use std::{fs, io, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use tonic::Request;

use super::{Failure, client, colour, output};
use crate::{
    config::Environment,
    credentials::parse_token,
    pb::{AttachDomainsRequest, AttachOrDetachDomainInfo, certificate_service_client::CertificateServiceClient},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[arg(long, help = client::TARGET, default_value = "http://127.0.0.1:50051")]
    target: String,
    #[command(flatten)]
    tls: client::Tls,
    /// Project id; by default the gateway's project
    #[arg(long, default_value = "")]
    project_id: String,
    /// Id of the certificate to bind
    #[arg(long)]
    certificate_id: String,
    /// Domain name to bind it to; may be repeated
    #[arg(long = "domain", required = true)]
    domains: Vec<String>,
    /// Gateway instance to change, for every domain; may be repeated. By default every instance that serves a domain
    #[arg(long = "instance-id")]
    instance_ids: Vec<String>,
    /// Whether the instances verify client certificates; by default the cloud decides
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    verify_client_certificate: Option<bool>,
    /// File with the IAM token, instead of `APIG_GATEWAY_TOKEN`
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Deadline of the call: 500ms, 3s, ...
    #[arg(long, value_name = "DURATION", value_parser = client::duration, default_value = "30s")]
    timeout: Duration,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub(super) async fn run(options: Options, environment: Environment<'_>) -> Result<(), Failure> {
    let token = match &options.token_file {
        Some(path) => Some(
            fs::read_to_string(path).map_err(|fault| Failure::Other(format!("token-file can't be read: {fault}")))?,
        ),
        None => environment("APIG_GATEWAY_TOKEN"),
    };
    let timeout = options.timeout;
    let domains = options.domains.into_iter().map(|domain| AttachOrDetachDomainInfo {
        domain,
        instance_ids: options.instance_ids.clone(),
        verified_client_certificate_enabled: options.verify_client_certificate,
    });
    let mut request = Request::new(AttachDomainsRequest {
        project_id: options.project_id,
        certificate_id: options.certificate_id,
        domains: domains.collect(),
    });
    request.set_timeout(timeout);
    if let Some(token) = token {
        let token = parse_token(&token).map_err(|what| Failure::Other(format!("the token's source {what}")))?;
        request.metadata_mut().insert("x-auth-token", tonic::metadata::MetadataValue::try_from(token.as_bytes())?);
    }
    let channel = client::connect(&options.target, &options.tls, timeout).await?;
    let result = CertificateServiceClient::new(channel).attach_domains(request).await;
    let answer = output::CallOutput::of(result);
    let mut out = io::stdout();
    match options.output {
        Output::Text => answer.text(&mut out, colour())?,
        Output::Json => answer.json(&mut out)?,
    }
    if answer.is_ok() { Ok(()) } else { Err(Failure::Told) }
}
