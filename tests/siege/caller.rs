//! A caller that knows what GOAWAY promises: a call that the gateway has not taken is not a failed call. It counts what
//! happened to each call and repeats nothing by itself.

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

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Fate {
    Succeeded,
    /// The gateway's answer, which is no success.
    Refused(Status),
    /// The gateway has said that it did not take it, or it was never sent: any client may repeat it.
    NotTaken(String),
    /// Sent, and nobody can know more.
    Failed(String),
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Succeeded => f.write_str("done"),
            Self::Refused(status) => write!(f, "{:?}: {}", status.code(), status.message()),
            Self::NotTaken(fault) => write!(f, "not taken: {fault}"),
            Self::Failed(fault) => write!(f, "lost: {fault}"),
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
    /// Connects, and waits until the gateway answers.
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
        let (answer, mut body) = send.send_request(request, false)?;
        let mut message = frame(0, &vec![0; length]);
        message.pop();
        body.send_data(Bytes::from(message), false)?;
        Ok((answer, body))
    }

    /// What health says of a service: 1 is serving, 2 is not.
    pub(crate) async fn health(&self, service: &str) -> Result<u8, Fate> {
        // `string service = 1`
        let mut message = vec![10, u8::try_from(service.len()).expect("a short name")];
        message.extend_from_slice(service.as_bytes());
        let answer = self.call(HEALTH, &message, "siege-health").await?;
        // A frame's five bytes, then `ServingStatus status = 1`.
        Ok(answer.get(6).copied().unwrap_or_default())
    }

    async fn call(&self, path: &str, message: &[u8], id: &str) -> Result<Vec<u8>, Fate> {
        match tokio::time::timeout(PATIENCE, self.exchange(path, message, id)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fate::Failed(format!("no answer in {PATIENCE:?}"))),
        }
    }

    async fn exchange(&self, path: &str, message: &[u8], id: &str) -> Result<Vec<u8>, Fate> {
        let request = head(path, id);
        let unsent = |fault: h2::Error| Fate::NotTaken(fault.to_string());
        let mut send = self.send.clone().ready().await.map_err(unsent)?;
        let (answer, mut body) = send.send_request(request, false).map_err(unsent)?;
        // What is wrong with it, the answer tells better.
        let _ = body.send_data(Bytes::from(frame(0, message)), true);
        let (head, mut body) = answer.await.map_err(|fault| fate(&fault))?.into_parts();
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
    if is_unprocessed(fault) { Fate::NotTaken(fault.to_string()) } else { Fate::Failed(fault.to_string()) }
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
