//! Calls as bytes, which no gRPC client would send.

use std::convert::Infallible;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{ATTACH, Failed, Gateway, soon};

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
    soon(status_of(answer)).await
}

/// A connection on which calls are made piece by piece.
#[derive(Debug)]
pub(crate) struct RawConnection {
    client: hyper::client::conn::http2::SendRequest<Pieces>,
    connection: tokio::task::JoinHandle<()>,
}

/// A call with a body that comes in pieces.
#[derive(Debug)]
pub(crate) struct OpenCall {
    pieces: Option<mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>>,
    answer: tokio::task::JoinHandle<Failed>,
}

type Pieces = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

impl RawConnection {
    pub(crate) async fn connect(gateway: &Gateway) -> Self {
        Self::connect_from("127.0.0.1", gateway).await
    }

    /// Connects from one of this machine's own addresses.
    pub(crate) async fn connect_from(address: &str, gateway: &Gateway) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        let stream = socket.connect(gateway.address.to_string().parse().unwrap()).await.unwrap();
        let (client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { client, connection }
    }

    /// Sends the head of a call.
    pub(crate) async fn open(&mut self, path: &str, headers: &[(&str, &str)]) -> OpenCall {
        let (pieces, mut receiver) = mpsc::unbounded_channel();
        let body = http_body_util::StreamBody::new(futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)));
        let mut request = http::Request::post(format!("http://gateway{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-auth-token", "t");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        soon(self.client.ready()).await.unwrap();
        let answer = self.client.send_request(request.body(body.boxed_unsync()).unwrap());
        let answer = tokio::spawn(async move { status_of(answer.await.unwrap()).await });
        OpenCall { pieces: Some(pieces), answer }
    }

    /// Sends a whole call.
    pub(crate) async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> OpenCall {
        let mut call = self.open(path, headers).await;
        call.send(body);
        call.finish();
        call
    }
}

impl Drop for RawConnection {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl OpenCall {
    pub(crate) fn send(&self, bytes: impl Into<Bytes>) {
        // A call that was answered early takes no more.
        let _ = self.pieces.as_ref().unwrap().send(Ok(Frame::data(bytes.into())));
    }

    /// Ends the body.
    pub(crate) fn finish(&mut self) {
        self.pieces = None;
    }

    /// Ends the body with trailers.
    pub(crate) fn finish_with_trailers(&mut self) {
        let trailers = http::HeaderMap::from_iter([("x-end".parse().unwrap(), "1".parse().unwrap())]);
        let _ = self.pieces.take().unwrap().send(Ok(Frame::trailers(trailers)));
    }

    /// Waits for the answer.
    pub(crate) async fn answer(mut self) -> Failed {
        soon(&mut self.answer).await.unwrap()
    }

    /// Whether the answer is there.
    pub(crate) fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }
}

/// Gives the call up.
impl Drop for OpenCall {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

async fn status_of(answer: http::Response<hyper::body::Incoming>) -> Failed {
    assert_eq!(answer.status(), 200);
    let (parts, body) = answer.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let status = Status::from_header_map(&parts.headers).or_else(|| Status::from_header_map(&trailers)).unwrap();
    Failed { details: status.check_error_details().unwrap(), status }
}

/// Waits until the gateway has so many calls in progress.
pub(crate) async fn in_progress(gateway: &Gateway, calls: usize) {
    let line = format!("apig_gateway_calls_in_progress {calls}\n");
    soon(async { while !gateway.admin("/metrics").await.1.contains(&line) {} }).await;
}

/// A connection that has said that it speaks HTTP/2, and nothing more.
pub(crate) async fn greet(address: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    tokio::io::AsyncWriteExt::write_all(&mut stream, greeting).await.unwrap();
    stream
}

/// A call with a message that never comes.
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
