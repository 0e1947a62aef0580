//! `certificates`: list, get, create, update and delete. PEM texts and keys come from files, never from flags.

use std::{fs, io, path::PathBuf};

use clap::{Args, Subcommand};

use super::{
    Failure,
    attached::{Part, more, yes_or_no},
    client,
    output::{self, Format, Shown},
    pages, table,
};
use crate::{
    config::Environment,
    log,
    pb::{
        Certificate, CreateCertificateRequest, DeleteCertificateRequest, GetCertificateRequest,
        ListCertificatesRequest, ListCertificatesResponse, UpdateCertificateRequest,
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the certificates that an instance can use
    List(List),
    /// Print one certificate
    Get(One),
    /// Upload a certificate with its private key
    Create(Upload),
    /// Replace the content of a certificate: its domains stay bound, a renewal needs no rebinding
    ///
    /// CAUTION: a new trusted root CA switches client verification off on the domains that are bound already; attach them
    /// again with --verify-client-certificate true.
    Update(Update),
    /// Delete a certificate that no domain is bound to
    Delete(One),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    gateway: client::GatewayOptions,
    /// Id of the instance
    #[arg(long, value_name = "ID")]
    instance_id: String,
    /// Only certificates of this name; as for every filter, the cloud does not document whether it compares a part
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
    /// Only certificates of this common name
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    common_name: String,
    /// Only certificates with this signature algorithm, such as SHA256-RSA
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    signature_algorithm: String,
    /// Only certificates of this scope: instance or global
    #[arg(long = "type", value_name = "SCOPE", default_value = "", hide_default_value = true)]
    scope: String,
    /// Only certificates with this kind of key: RSA, ECC or SM2
    #[arg(long, value_name = "KIND", default_value = "", hide_default_value = true)]
    algorithm_type: String,
    #[command(flatten)]
    part: Part,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Debug, Args)]
pub(super) struct One {
    #[command(flatten)]
    gateway: client::GatewayOptions,
    /// Id of the certificate
    #[arg(long, value_name = "ID")]
    certificate_id: String,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Debug, Args)]
pub(super) struct Upload {
    #[command(flatten)]
    gateway: client::GatewayOptions,
    /// Name: 4 to 50 letters, digits and underscores, the first one a letter
    #[arg(long)]
    name: String,
    /// File with the certificate chain, PEM
    #[arg(long, value_name = "PATH")]
    cert_content_file: PathBuf,
    /// File with the private key, PEM, without a password
    #[arg(long, value_name = "PATH")]
    private_key_file: PathBuf,
    /// File with the CA that client certificates are verified against, PEM
    #[arg(long, value_name = "PATH")]
    trusted_root_ca_file: Option<PathBuf>,
    /// Scope: instance or global; by default the cloud's default, global
    #[arg(long = "type", value_name = "SCOPE", default_value = "", hide_default_value = true)]
    scope: String,
    /// Id of the instance, for --type instance
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    instance_id: String,
    /// Kind of the key: RSA, ECC or SM2
    #[arg(long, value_name = "KIND", default_value = "", hide_default_value = true)]
    algorithm_type: String,
    /// File with the signing certificate, PEM, for SM2 only
    #[arg(long, value_name = "PATH")]
    cert_content_sign_file: Option<PathBuf>,
    /// File with the signing private key, PEM, for SM2 only
    #[arg(long, value_name = "PATH")]
    private_key_sign_file: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// Id of the certificate
    #[arg(long, value_name = "ID")]
    certificate_id: String,
    #[command(flatten)]
    upload: Upload,
}

pub(super) async fn run(command: Command, environment: Environment<'_>) -> Result<(), Failure> {
    match command {
        Command::List(options) => list(options, environment).await,
        Command::Get(options) => {
            let gateway = options.gateway.connect(environment).await?;
            let message = GetCertificateRequest {
                project_id: gateway.project_id.clone(),
                certificate_id: options.certificate_id,
            };
            let answer = gateway.client().get_certificate(gateway.request(message)).await;
            output::print(answer.map(tonic::Response::into_inner), options.output)
        }
        Command::Create(options) => create(options, environment).await,
        Command::Update(options) => update(options, environment).await,
        Command::Delete(options) => {
            let gateway = options.gateway.connect(environment).await?;
            let message = DeleteCertificateRequest {
                project_id: gateway.project_id.clone(),
                certificate_id: options.certificate_id,
            };
            output::print_call(gateway.client().delete_certificate(gateway.request(message)).await, options.output)
        }
    }
}

async fn list(options: List, environment: Environment<'_>) -> Result<(), Failure> {
    let gateway = options.gateway.connect(environment).await?;
    let mut list = ListCertificatesRequest {
        project_id: gateway.project_id.clone(),
        instance_id: options.instance_id,
        offset: options.part.offset,
        limit: options.part.limit,
        name: options.name,
        common_name: options.common_name,
        signature_algorithm: options.signature_algorithm,
        r#type: options.scope,
        algorithm_type: options.algorithm_type,
    };
    let result = if options.part.all {
        pages::every_page(&gateway, &mut list).await
    } else {
        let answer = gateway.client().list_certificates(gateway.request(list)).await;
        answer.map(tonic::Response::into_inner)
    };
    output::print(result, options.output)
}

async fn create(options: Upload, environment: Environment<'_>) -> Result<(), Failure> {
    // Before the connection: a missing file must not look like a missing gateway.
    let files = options.read()?;
    let gateway = options.gateway.connect(environment).await?;
    let message = CreateCertificateRequest {
        project_id: gateway.project_id.clone(),
        name: options.name,
        cert_content: files.cert_content,
        private_key: files.private_key,
        r#type: options.scope,
        instance_id: options.instance_id,
        trusted_root_ca: files.trusted_root_ca,
        algorithm_type: options.algorithm_type,
        cert_content_sign: files.cert_content_sign,
        private_key_sign: files.private_key_sign,
    };
    let answer = gateway.client().create_certificate(gateway.request(message)).await;
    output::print(answer.map(tonic::Response::into_inner), options.output)
}

async fn update(options: Update, environment: Environment<'_>) -> Result<(), Failure> {
    let Update { certificate_id, upload: options } = options;
    let files = options.read()?;
    let gateway = options.gateway.connect(environment).await?;
    let has_ca = !files.trusted_root_ca.is_empty();
    let message = UpdateCertificateRequest {
        project_id: gateway.project_id.clone(),
        certificate_id,
        name: options.name,
        cert_content: files.cert_content,
        private_key: files.private_key,
        r#type: options.scope,
        instance_id: options.instance_id,
        trusted_root_ca: files.trusted_root_ca,
        algorithm_type: options.algorithm_type,
        cert_content_sign: files.cert_content_sign,
        private_key_sign: files.private_key_sign,
    };
    let answer = gateway.client().update_certificate(gateway.request(message)).await;
    if answer.is_ok() && has_ca {
        log::say(
            "a new trusted root CA switches client verification off on bound domains: compare `attached`, \
             and attach again with --verify-client-certificate true",
        );
    }
    output::print(answer.map(tonic::Response::into_inner), options.output)
}

/// The texts of the files; empty without a file.
struct Files {
    cert_content: String,
    private_key: String,
    trusted_root_ca: String,
    cert_content_sign: String,
    private_key_sign: String,
}

impl Upload {
    fn read(&self) -> Result<Files, Failure> {
        let read = |flag: &str, path: &PathBuf| {
            let fault = |what: String| Failure::Other(format!("{flag} {}: {what}", path.display()));
            let text = fs::read_to_string(path).map_err(|error| fault(format!("can't be read: {error}")))?;
            // The text itself may be a private key: it is in no message.
            let is_pem = text.contains("-----BEGIN ");
            if is_pem { Ok(text) } else { Err(fault("has no PEM block (-----BEGIN ...)".into())) }
        };
        let optional = |flag: &str, path: &Option<PathBuf>| match path {
            Some(path) => read(flag, path),
            None => Ok(String::new()),
        };
        Ok(Files {
            cert_content: read("cert-content-file", &self.cert_content_file)?,
            private_key: read("private-key-file", &self.private_key_file)?,
            trusted_root_ca: optional("trusted-root-ca-file", &self.trusted_root_ca_file)?,
            cert_content_sign: optional("cert-content-sign-file", &self.cert_content_sign_file)?,
            private_key_sign: optional("private-key-sign-file", &self.private_key_sign_file)?,
        })
    }
}

impl Shown for ListCertificatesResponse {
    fn show(&self) -> io::Result<()> {
        let headings = ["ID", "NAME", "ENDS", "COVERS"];
        let row = |certificate: &Certificate| {
            vec![
                certificate.id.clone(),
                certificate.name.clone(),
                // The day alone.
                certificate.not_after.map(|time| time.to_string().chars().take(10).collect()).unwrap_or_default(),
                certificate.san.join(" "),
            ]
        };
        table::print(&headings, self.certs.iter().map(row).collect())?;
        more(self.certs.len(), self.total);
        Ok(())
    }
}

impl Shown for Certificate {
    fn show(&self) -> io::Result<()> {
        let time = |time: &Option<prost_types::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        output::print_facts(vec![
            ("id", self.id.clone()),
            ("name", self.name.clone()),
            ("type", self.r#type.clone()),
            ("instance_id", self.instance_id.clone()),
            ("project_id", self.project_id.clone()),
            ("common_name", self.common_name.clone()),
            ("san", self.san.join(" ")),
            ("not_before", time(&self.not_before)),
            ("not_after", time(&self.not_after)),
            ("signature_algorithm", self.signature_algorithm.clone()),
            ("algorithm_type", self.algorithm_type.clone()),
            ("is_has_trusted_root_ca", yes_or_no(self.is_has_trusted_root_ca)),
            ("version", self.version.map(|version| version.to_string()).unwrap_or_default()),
            ("serial_number", self.serial_number.clone()),
            ("issuer", self.issuer.join(", ")),
            ("organization", self.organization.join(", ")),
            ("organizational_unit", self.organizational_unit.join(", ")),
            ("locality", self.locality.join(", ")),
            ("state", self.state.join(", ")),
            ("country", self.country.join(", ")),
            ("create_time", time(&self.create_time)),
            ("update_time", time(&self.update_time)),
        ])
    }
}
