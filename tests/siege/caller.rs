//! A caller by the rules of GOAWAY: an unprocessed call is not a failed one. It returns the end of each call and repeats
//! nothing by itself.

use std::{io, net::SocketAddr, time::Duration};

use apig_grpc_gateway::pb::{AttachDomainsRequest, AttachOrDetachDomainInfo};
use bytes::Bytes;
use h2::{Ping, client::SendRequest};
use http::{HeaderMap, Request};
use prost::Message as _;
use testkit::grpc::{ATTACH, frame, is_unprocessed};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use crate::transport::Dialer;

/// Longer than any call takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(15);

const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// The end of a call.
#[derive(Debug)]
pub(crate) enum Fate {
    Succeeded,
    /// A status other than OK.
    Refused(Status),
    /// The gateway has said that it did not process it, or it was never sent: any client may repeat it.
    Unprocessed(String),
    /// Sent, without a status.
    Failed(String),
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Refused(status) => write!(f, "{:?}: {}", status.code(), status.message()),
            Self::Unprocessed(fault) => write!(f, "unprocessed: {fault}"),
            Self::Failed(fault) => write!(f, "failed: {fault}"),
        }
    }
}

/// A connection to the gateway.
#[derive(Debug)]
pub(crate) struct Line {
    send: SendRequest<Bytes>,
    /// Resolves when the connection has ended.
    connection: AbortOnDropHandle<()>,
}

impl Line {
    /// Connects, and waits until the gateway responds.
    pub(crate) async fn to(address: SocketAddr) -> Result<Self, String> {
        Self::over(&Dialer::plain(address)).await
    }

    /// The same over another transport.
    pub(crate) async fn over(dialer: &Dialer) -> Result<Self, String> {
        let opened = async {
            let (send, mut connection) = h2::client::handshake(dialer.dial().await?).await.map_err(io::Error::other)?;
            let mut ping = connection.ping_pong().expect("nobody else has taken it");
            let connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
            // A connection that the gateway has not greeted is none, as gRPC's own clients have it.
            ping.ping(Ping::opaque()).await.map_err(io::Error::other)?;
            Ok(Self { send, connection })
        };
        let opened = tokio::time::timeout(PATIENCE, opened).await.map_err(|_| "no connection in time".to_owned())?;
        opened.map_err(|fault: io::Error| fault.to_string())
    }

    /// Whether the connection is over.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_finished()
    }

    /// Attaches a domain to this certificate.
    pub(crate) async fn attach(&self, certificate: &str, id: &str) -> Fate {
        let message = attach_message(certificate);
        self.call(ATTACH, &message, id).await.map_or_else(|fate| fate, |_| Fate::Succeeded)
    }

    /// Sends a call's message but for its last byte. The call stays open as long as the value lives.
    pub(crate) async fn attach_almost(&self, length: usize) -> Result<impl Send + use<>, h2::Error> {
        let request = head(ATTACH, "siege-almost");
        let mut send = self.send.clone().ready().await?;
        let (response, mut body) = send.send_request(request, false)?;
        let mut message = frame(0, &vec![0; length]);
        message.pop();
        body.send_data(Bytes::from(message), false)?;
        Ok((response, body))
    }

    /// The health of a service: 1 is serving, 2 is not.
    pub(crate) async fn health(&self, service: &str) -> Result<u8, Fate> {
        // `string service = 1`
        let mut message = vec![10, u8::try_from(service.len()).expect("a short name")];
        message.extend_from_slice(service.as_bytes());
        let response = self.call(HEALTH, &message, "siege-health").await?;
        // A frame's five bytes, then `ServingStatus status = 1`.
        Ok(response.get(6).copied().unwrap_or_default())
    }

    async fn call(&self, path: &str, message: &[u8], id: &str) -> Result<Vec<u8>, Fate> {
        match tokio::time::timeout(PATIENCE, self.exchange(path, message, id)).await {
            Ok(response) => response,
            Err(_) => Err(Fate::Failed(format!("no response in {PATIENCE:?}"))),
        }
    }

    async fn exchange(&self, path: &str, message: &[u8], id: &str) -> Result<Vec<u8>, Fate> {
        let request = head(path, id);
        let unsent = |fault: h2::Error| Fate::Unprocessed(fault.to_string());
        let mut send = self.send.clone().ready().await.map_err(unsent)?;
        let (response, mut body) = send.send_request(request, false).map_err(unsent)?;
        // The response has the better error.
        let _ = body.send_data(Bytes::from(frame(0, message)), true);
        let (head, mut body) = response.await.map_err(|fault| fate(&fault))?.into_parts();
        refusal(&head.headers)?;
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(|fault| fate(&fault))?;
            let _ = body.flow_control().release_capacity(data.len());
            bytes.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.map_err(|fault| fate(&fault))?.unwrap_or_default();
        if !head.headers.contains_key("grpc-status") && !trailers.contains_key("grpc-status") {
            return Err(Fate::Failed(format!("HTTP {} without grpc-status", head.status)));
        }
        refusal(&trailers)?;
        Ok(bytes)
    }
}

fn head(path: &str, id: &str) -> Request<()> {
    Request::post(format!("http://gateway{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-auth-token", "siege")
        .header("x-request-id", id)
        .body(())
        .expect("all of it is valid")
}

fn refusal(headers: &HeaderMap) -> Result<(), Fate> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != tonic::Code::Ok => Err(Fate::Refused(status)),
        _ => Ok(()),
    }
}

fn fate(fault: &h2::Error) -> Fate {
    if is_unprocessed(fault) { Fate::Unprocessed(fault.to_string()) } else { Fate::Failed(fault.to_string()) }
}

/// The message of a call, valid in every part.
pub(crate) fn attach_message(certificate: &str) -> Vec<u8> {
    let domain = AttachOrDetachDomainInfo {
        domain: "www.example.com".into(),
        instance_ids: Vec::new(),
        verified_client_certificate_enabled: None,
    };
    let request =
        AttachDomainsRequest { project_id: "p".into(), certificate_id: certificate.into(), domains: vec![domain] };
    request.encode_to_vec()
}
