//! A call as bytes, for what a gRPC client would not send.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{Failed, Gateway, soon};

/// The path of the one method.
pub(crate) const ATTACH: &str = "/huaweicloud.apic.v2.CertificateService/AttachDomains";

/// Sends bytes where a gRPC message should be, from a client that adds nothing of its own.
pub(crate) async fn send_bytes(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Failed {
    let stream = tokio::net::TcpStream::connect(gateway.address.to_string()).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post(format!("http://gateway{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = soon(client.send_request(request.body(Full::new(Bytes::from(body))).unwrap())).await.unwrap();
    assert_eq!(answer.status(), 200);
    let (parts, body) = answer.into_parts();
    let trailers = soon(body.collect()).await.unwrap().trailers().cloned().unwrap_or_default();
    let status = Status::from_header_map(&parts.headers).or_else(|| Status::from_header_map(&trailers)).unwrap();
    Failed { details: status.check_error_details().unwrap(), status }
}

/// A connection that has said that it speaks HTTP/2, and nothing more.
pub(crate) async fn greet(address: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    tokio::io::AsyncWriteExt::write_all(&mut stream, greeting).await.unwrap();
    stream
}

/// A message with its five bytes of frame.
pub(crate) fn frame(compressed: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![compressed];
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// A call whose message never comes.
#[derive(Debug)]
pub(crate) struct SilentCall {
    connection: tokio::task::JoinHandle<()>,
}

impl SilentCall {
    /// Sends the head, and waits until the gateway has it.
    pub(crate) async fn begin(gateway: &Gateway) -> Self {
        let stream = tokio::net::TcpStream::connect(gateway.address.to_string()).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut client, connection) = handshake.await.unwrap();
        let never = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, std::convert::Infallible>>();
        let request = http::Request::post(format!("http://gateway{ATTACH}")).header("content-type", "application/grpc");
        let call = client.send_request(request.body(http_body_util::StreamBody::new(never)).unwrap());
        let connection = tokio::spawn(async move {
            let _ = tokio::join!(connection, call);
        });
        soon(async { while !gateway.admin("/metrics").await.1.contains("apig_gateway_calls_in_progress 1\n") {} })
            .await;
        Self { connection }
    }

    /// Ends the connection in the middle of the call.
    pub(crate) fn leave(self) {
        self.connection.abort();
    }
}
