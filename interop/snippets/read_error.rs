//! Makes a call and prints what a program can read of its error: code, reason, outcome, milliseconds to wait.
//!
//! `read_error GATEWAY_HOST:PORT CERTIFICATE_ID`

#![allow(clippy::print_stdout, reason = "it is a program of the command line")]

use std::{env, error::Error};

use apig_grpc_gateway::pb::{
    AttachDomainsRequest, AttachOrDetachDomainInfo, certificate_service_client::CertificateServiceClient,
};
use tonic::{Request, transport::Endpoint};
use tonic_types::StatusExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let [address, certificate_id] = env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "two arguments")?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    let mut client = CertificateServiceClient::new(channel);
    let domain = AttachOrDetachDomainInfo {
        domain: "www.example.com".into(),
        instance_ids: vec!["f0fa1789-3b76-433b-a787-9892951c620e".into()],
        verified_client_certificate_enabled: None,
    };
    let project_id = "73d69ae0cfcf460190522d06b60f05ad".into();
    let mut request = Request::new(AttachDomainsRequest { project_id, certificate_id, domains: vec![domain] });
    request.metadata_mut().insert("x-auth-token", "demo-operator-token".parse()?);
    let status = client.attach_domains(request).await.err().ok_or("the call did not fail")?;

    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    let outcome = details.error_info().and_then(|info| info.metadata.get("outcome"));
    let delay = details.retry_info().and_then(|retry| retry.retry_delay);

    println!(
        "{} {} {} {}",
        i32::from(status.code()),
        reason.unwrap_or("-"),
        outcome.map_or("-", String::as_str),
        delay.unwrap_or_default().as_millis(),
    );
    Ok(())
}
