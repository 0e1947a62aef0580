//! The floor: HTTP/2 in, HTTP/1.1 out, on one thread. It reads no message and writes no JSON: what a gateway costs
//! above it is what it does.

use std::{
    env,
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

type Fault = Box<dyn Error + Send + Sync>;

const PATH: &str =
    "/v2/73d69ae0cfcf460190522d06b60f05ad/apic/certificates/a27be832f2e9441c8127fe48e3b5ac67/domains/attach";
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Connections to the upstream that no call has.
struct Pool {
    upstream: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(upstream)) = (arguments.next(), arguments.next()) else {
        return Err("floor LISTEN UPSTREAM, each HOST:PORT".into());
    };
    let pool = Arc::new(Pool { upstream: upstream.parse()?, idle: Mutex::default() });
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pool = Arc::clone(&pool);
        let service = service_fn(move |request| answer(request, Arc::clone(&pool)));
        tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    pool: Arc<Pool>,
) -> Result<Response<impl Body<Data = Bytes, Error = std::convert::Infallible>>, Fault> {
    let (mut head, body) = request.into_parts();
    let message = body.collect().await?.to_bytes();
    let mut request = Request::post(PATH).header(header::HOST, "upstream");
    if let Some(token) = head.headers.remove(TOKEN) {
        request = request.header(TOKEN, token);
    }
    let mut connection = pool.take().await?;
    let response = connection.send_request(request.body(Full::new(message))?).await?;
    let status = if response.status() == StatusCode::NO_CONTENT { "0" } else { "13" };
    response.into_body().collect().await?;
    pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    // An empty message and a status in trailers, as every gRPC answer has them.
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
    Ok(Response::builder().header(header::CONTENT_TYPE, "application/grpc").body(body)?)
}

impl Pool {
    async fn take(&self) -> Result<SendRequest<Full<Bytes>>, Fault> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut connection) = idle else { break };
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
