//! The gateway that one would write in an afternoon, honestly: tonic in, reqwest out, one thread. No validation, no
//! request ids, no metrics, no log, no limits, no repeats, no details.

use std::{env, error::Error};

use apig_grpc_gateway_bench::pb::{
    AttachDomainsRequest, AttachDomainsResponse,
    certificate_service_server::{CertificateService, CertificateServiceServer},
};
use reqwest::{Client, StatusCode};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

struct Certificates {
    client: Client,
    upstream: String,
}

#[tonic::async_trait]
impl CertificateService for Certificates {
    async fn attach_domains(
        &self,
        request: Request<AttachDomainsRequest>,
    ) -> Result<Response<AttachDomainsResponse>, Status> {
        let token = request.metadata().get("x-auth-token").map(|token| token.as_bytes().to_vec()).unwrap_or_default();
        let request = request.into_inner();
        let url = format!(
            "{}/v2/{}/apic/certificates/{}/domains/attach",
            self.upstream, request.project_id, request.certificate_id
        );
        let body = serde_json::to_vec(&request).map_err(|fault| Status::internal(fault.to_string()))?;
        let answer = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("x-auth-token", token)
            .body(body)
            .send()
            .await
            .map_err(|fault| Status::unavailable(fault.to_string()))?;
        match answer.status() {
            StatusCode::NO_CONTENT => Ok(Response::new(AttachDomainsResponse {})),
            StatusCode::NOT_FOUND => Err(Status::not_found(answer.text().await.unwrap_or_default())),
            other => Err(Status::internal(other.to_string())),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(upstream)) = (arguments.next(), arguments.next()) else {
        return Err("plain LISTEN UPSTREAM, each HOST:PORT".into());
    };
    let upstream = format!("http://{upstream}");
    let client = Client::builder().no_proxy().build()?;
    let incoming = TcpIncoming::from(TcpListener::bind(address).await?).with_nodelay(Some(true));
    let service = CertificateServiceServer::new(Certificates { client, upstream });
    Server::builder().add_service(service).serve_with_incoming(incoming).await?;
    Ok(())
}
