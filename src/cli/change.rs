//! `attach` and `detach`: one `AttachDomains` or `DetachDomains` call, for people and scripts.

use clap::Args;

use super::{
    Failure, client,
    output::{self, Format},
};
use crate::{
    config::Environment,
    pb::{AttachDomainsRequest, AttachOrDetachDomainInfo, DetachDomainsRequest},
};

/// The options of both.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    gateway: client::GatewayOptions,
    /// Id of the certificate
    #[arg(long, value_name = "ID")]
    certificate_id: String,
    /// Domain name to bind the certificate to, or to unbind it from; may be repeated
    #[arg(long = "domain", value_name = "NAME", required = true)]
    domains: Vec<String>,
    /// Gateway instance to change, for every domain; may be repeated. By default every instance that serves a domain
    #[arg(long = "instance-id", value_name = "ID")]
    instance_ids: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// The options of `attach` alone.
#[derive(Debug, Args)]
pub(super) struct AttachOptions {
    #[command(flatten)]
    change: Options,
    /// Whether the instances verify client certificates; by default the cloud decides
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    verify_client_certificate: Option<bool>,
}

pub(super) async fn attach(options: AttachOptions, environment: Environment<'_>) -> Result<(), Failure> {
    let AttachOptions { change, verify_client_certificate } = options;
    let gateway = change.gateway.connect(environment).await?;
    let message = AttachDomainsRequest {
        project_id: gateway.project_id.clone(),
        domains: change.domains(verify_client_certificate),
        certificate_id: change.certificate_id,
    };
    output::print_call(gateway.client().attach_domains(gateway.request(message)).await, change.output)
}

pub(super) async fn detach(options: Options, environment: Environment<'_>) -> Result<(), Failure> {
    let gateway = options.gateway.connect(environment).await?;
    let message = DetachDomainsRequest {
        project_id: gateway.project_id.clone(),
        domains: options.domains(None),
        certificate_id: options.certificate_id,
    };
    output::print_call(gateway.client().detach_domains(gateway.request(message)).await, options.output)
}

impl Options {
    fn domains(&self, verified_client_certificate_enabled: Option<bool>) -> Vec<AttachOrDetachDomainInfo> {
        let domain = |domain: &String| AttachOrDetachDomainInfo {
            domain: domain.clone(),
            instance_ids: self.instance_ids.clone(),
            verified_client_certificate_enabled,
        };
        self.domains.iter().map(domain).collect()
    }
}
