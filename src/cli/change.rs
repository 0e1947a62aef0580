//! `attach` and `detach`: one `AttachDomains` or `DetachDomains` call, or the many of a file.

use std::path::PathBuf;

use clap::Args;

use super::{
    Failure,
    bulk::{self, Action, FromFile, RunOptions},
    client,
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
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "from_file",
        default_value = "",
        hide_default_value = true
    )]
    certificate_id: String,
    /// Domain name to bind the certificate to, or to unbind it from; may be repeated
    #[arg(long = "domain", value_name = "NAME", required_unless_present = "from_file")]
    domains: Vec<String>,
    /// Gateway instance to change, for every domain; may be repeated. By default every instance that serves a domain
    #[arg(long = "instance-id", value_name = "ID")]
    instance_ids: Vec<String>,
    /// File with many: CSV with the header `certificate_id,domain,instance_ids,verified_client_certificate_enabled` (instance
    /// ids separated by spaces; the last two may be missing), or JSON Lines with these names; `-` is standard input
    #[arg(long, value_name = "PATH", conflicts_with_all = ["certificate_id", "domains", "instance_ids"])]
    from_file: Option<PathBuf>,
    #[command(flatten)]
    run: RunOptions,
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
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, conflicts_with = "from_file")]
    verify_client_certificate: Option<bool>,
}

pub(super) async fn attach(options: AttachOptions, environment: Environment<'_>) -> Result<(), Failure> {
    let AttachOptions { change, verify_client_certificate } = options;
    if let Some(many) = change.many(Action::Attach)? {
        return bulk::run(many, environment).await;
    }
    let gateway = change.gateway.connect(environment).await?;
    let message = AttachDomainsRequest {
        project_id: gateway.project_id.clone(),
        domains: change.domains(verify_client_certificate),
        certificate_id: change.certificate_id,
    };
    output::print_call(gateway.client().attach_domains(gateway.request(message)).await, change.output)
}

pub(super) async fn detach(options: Options, environment: Environment<'_>) -> Result<(), Failure> {
    if let Some(many) = options.many(Action::Detach)? {
        return bulk::run(many, environment).await;
    }
    let gateway = options.gateway.connect(environment).await?;
    let message = DetachDomainsRequest {
        project_id: gateway.project_id.clone(),
        domains: options.domains(None),
        certificate_id: options.certificate_id,
    };
    output::print_call(gateway.client().detach_domains(gateway.request(message)).await, options.output)
}

impl Options {
    /// The run from a file, if there is one.
    fn many(&self, action: Action) -> Result<Option<FromFile<'_>>, Failure> {
        let Self { gateway, run: options, output, .. } = self;
        match &self.from_file {
            Some(file) => Ok(Some(FromFile { action, file, gateway, options, output: *output })),
            None if options.is_given() => Err(Failure::Usage(
                "--journal, --continue, --concurrency, --batch-size and --dry-run are for --from-file".into(),
            )),
            None => Ok(None),
        }
    }

    fn domains(&self, verified_client_certificate_enabled: Option<bool>) -> Vec<AttachOrDetachDomainInfo> {
        let domain = |domain: &String| AttachOrDetachDomainInfo {
            domain: domain.clone(),
            instance_ids: self.instance_ids.clone(),
            verified_client_certificate_enabled,
        };
        self.domains.iter().map(domain).collect()
    }
}
