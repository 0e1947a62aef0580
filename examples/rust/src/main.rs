//! Attaches a certificate to the domain names that it reads from standard input, one a line.
//!
//!     cargo run -- [TARGET]
//!
//! TARGET is host:port or unix:/path; without it, the variable GATEWAY is. README.md lists the other variables.

mod connect;
mod details;
mod retry;

use std::{env, error::Error, process::ExitCode, time::Duration};

use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};
use tonic::metadata::MetadataMap;

use apic::{AttachDomainsRequest, AttachOrDetachDomainInfo, certificate_service_client::CertificateServiceClient};

#[allow(clippy::all, reason = "generated code")]
mod apic {
    tonic::include_proto!("huaweicloud.apic.v2");
}

fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

/// The ids are those of `apig-grpc-gateway demo`.
fn message(domain: &str) -> AttachDomainsRequest {
    AttachDomainsRequest {
        project_id: variable("PROJECT_ID", "73d69ae0cfcf460190522d06b60f05ad"),
        certificate_id: variable("CERTIFICATE_ID", "a27be832f2e9441c8127fe48e3b5ac67"),
        domains: vec![AttachOrDetachDomainInfo {
            domain: domain.to_owned(),
            instance_ids: vec![variable("INSTANCE_ID", "f0fa1789-3b76-433b-a787-9892951c620e")],
            verified_client_certificate_enabled: None,
        }],
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let target = env::args().nth(1).unwrap_or_else(|| variable("GATEWAY", "127.0.0.1:50051"));
    // Longer than the gateway's own timeout: the error then comes from the gateway, and tells the outcome.
    let deadline = Duration::from_secs_f64(variable("DEADLINE", "40").parse()?);
    let client = CertificateServiceClient::new(connect::channel(&target)?);
    let mut lines = BufReader::new(stdin()).lines();
    let mut code = ExitCode::SUCCESS;
    // Asynchronous, so that the connection is kept alive meanwhile.
    while let Some(domain) = lines.next_line().await? {
        let id = format!("{:032x}", fastrand::u128(..));
        // In a service, OpenTelemetry's propagator writes the trace of the request that is being served.
        let trace = format!("00-{:032x}-{:016x}-01", fastrand::u128(1..), fastrand::u64(1..));
        println!("{domain}: x-request-id {id}, traceparent {trace}");
        let mut metadata = MetadataMap::new();
        metadata.insert("x-auth-token", variable("TOKEN", "demo-operator-token").parse()?);
        metadata.insert("x-request-id", id.parse()?);
        metadata.insert("traceparent", trace.parse()?);
        let attach = |request| {
            let mut client = client.clone();
            async move { client.attach_domains(request).await }
        };
        match retry::call(deadline, metadata, message(&domain), attach).await {
            Ok(_) => println!("{domain}: attached"),
            Err(status) => {
                println!("{domain}: {}: {}", details::code_name(&status), status.message());
                details::print(&status);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
