//! A caller of the gateway, and the details of a failure.

use apig_grpc_gateway::pb::{
    AttachDomainsRequest, AttachDomainsResponse, AttachOrDetachDomainInfo,
    certificate_service_client::CertificateServiceClient,
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::soon;

/// A `traceparent` of a trace that its caller records.
pub(crate) const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A domain to attach, on every instance.
pub(crate) fn domain(name: &str) -> AttachOrDetachDomainInfo {
    AttachOrDetachDomainInfo {
        domain: name.into(),
        instance_ids: Vec::new(),
        verified_client_certificate_enabled: None,
    }
}

/// The documented example.
pub(crate) fn documented() -> AttachDomainsRequest {
    AttachDomainsRequest {
        project_id: "73d69ae0cfcf460190522d06b60f05ad".into(),
        certificate_id: "a27be832f2e9441c8127fe48e3b5ac67".into(),
        domains: vec![AttachOrDetachDomainInfo {
            instance_ids: vec![
                "f0fa1789-3b76-433b-a787-9892951c620e".into(),
                "7d39549681c54d968ec2910da9da95cd".into(),
            ],
            ..domain("apigtest.xxx.com")
        }],
    }
}

/// The documented example on another certificate: calls on different certificates don't wait for each other.
pub(crate) fn on_certificate(number: usize) -> AttachDomainsRequest {
    AttachDomainsRequest { certificate_id: format!("c{number}"), ..documented() }
}

/// Somebody with a token.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client: CertificateServiceClient<Channel>,
}

impl Caller {
    pub(crate) fn on(channel: Channel) -> Self {
        Self { client: CertificateServiceClient::new(channel) }
    }

    /// A caller on a new connection to `host:port`.
    pub(crate) async fn of(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self::on(soon(endpoint.connect()).await.unwrap())
    }

    /// The client itself.
    pub(crate) fn client(&self) -> CertificateServiceClient<Channel> {
        self.client.clone()
    }

    /// Attaches with the token that the emulator knows.
    pub(crate) async fn attach(
        &self,
        message: AttachDomainsRequest,
    ) -> Result<Response<AttachDomainsResponse>, Status> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-auth-token", "demo-operator-token".parse().unwrap());
        self.send(request).await
    }

    /// Sends a request as it is.
    pub(crate) async fn send(
        &self,
        request: Request<AttachDomainsRequest>,
    ) -> Result<Response<AttachDomainsResponse>, Status> {
        soon(self.client.clone().attach_domains(request)).await
    }
}

/// A failure, its details decoded.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) status: Status,
    pub(crate) details: ErrorDetails,
}

/// Decodes a failure; a success fails the test.
pub(crate) fn failed<T: std::fmt::Debug>(result: Result<T, Status>) -> Failed {
    let status = result.unwrap_err();
    let details = status.check_error_details().unwrap();
    Failed { status, details }
}

impl Failed {
    /// Code and `ErrorInfo.reason`.
    pub(crate) fn verdict(&self) -> (Code, &str) {
        (self.status.code(), &self.details.error_info().expect("every error has ErrorInfo").reason)
    }

    /// A fact of `ErrorInfo.metadata`.
    pub(crate) fn fact(&self, name: &str) -> Option<&str> {
        self.details.error_info()?.metadata.get(name).map(String::as_str)
    }

    /// The fields that `BadRequest` names.
    pub(crate) fn fields(&self) -> Vec<&str> {
        let violations = self.details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        violations.iter().map(|violation| violation.field.as_str()).collect()
    }
}
