//! Opens connections to an upstream: TCP, a proxy's tunnel, TLS, and the handshake of HTTP, all within one timeout.

use std::{
    future::ready,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper::client::conn::{http1, http2};
use hyper_util::{
    client::legacy::connect::{HttpConnector, proxy::Tunnel},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tower::{Service as _, ServiceExt as _};

use super::{
    Fault, PING_INTERVAL, PING_TIMEOUT, Settings,
    body::Outgoing,
    line::{Gate, Line, Socket, Stream},
    pool::Sender,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Opens connections to one upstream.
#[derive(Debug)]
pub(super) struct Connector {
    /// The upstream: scheme and authority.
    target: Uri,
    proxy: Option<(Uri, Option<http::HeaderValue>)>,
    tcp: HttpConnector,
    tls: TlsConnectors,
    timeout: Duration,
}

/// TLS with the upstream and with the proxy, which is spoken to in HTTP/1.1.
struct TlsConnectors {
    upstream: TlsConnector,
    proxy: TlsConnector,
}

impl std::fmt::Debug for TlsConnectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsConnectors(_)")
    }
}

impl Connector {
    /// # Errors
    ///
    /// The proxy's address can't be used.
    pub(super) fn new(settings: &Settings, tls: &Arc<ClientConfig>) -> Result<Self, Fault> {
        let uri = |url: &Url| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            let host = url.host_str().unwrap_or_default();
            format!("{}://{host}{port}/", url.scheme()).parse::<Uri>().map_err(|error| error.to_string())
        };
        let target = uri(&settings.base).map_err(|error| ("upstream", error))?;
        let proxy = settings.proxy.as_ref().map(|proxy| Ok((uri(proxy.url())?, proxy.authorization().cloned())));
        let proxy = proxy.transpose().map_err(|error| ("upstream-proxy", error))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divides the time between the addresses of a name; the timeout around everything stays.
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let mut to_proxy = ClientConfig::clone(tls);
        to_proxy.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnectors { upstream: Arc::clone(tls).into(), proxy: Arc::new(to_proxy).into() };
        Ok(Self { target, proxy, tcp, tls, timeout: settings.connect_timeout })
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// Nothing of a request has left.
    pub(super) async fn connect(&self) -> Result<(Sender, Arc<Gate>), Error> {
        let gate = Arc::<Gate>::default();
        let connecting = async {
            let (stream, is_http2) = self.stream(&gate).await?;
            let line = TokioIo::new(Line::new(stream, Arc::clone(&gate)));
            if is_http2 { handshake_http2(line).await } else { handshake_http1(line).await }
        };
        let sender = tokio::time::timeout(self.timeout, connecting).await;
        Ok((sender.map_err(|_| format!("no connection within {:?}", self.timeout))??, gate))
    }

    /// The stream to the upstream, and whether it is for HTTP/2.
    async fn stream(&self, gate: &Arc<Gate>) -> Result<(Stream, bool), Error> {
        let socket = async |uri: &Uri| -> Result<Socket, Error> {
            let stream = self.tcp.clone().oneshot(uri.clone()).await?.into_inner();
            Ok(Socket::new(stream, gate))
        };
        let is_tls = self.target.scheme() == Some(&Scheme::HTTPS);
        let Some((proxy, _)) = &self.proxy else {
            let socket = socket(&self.target).await?;
            return if is_tls { self.secure(socket).await } else { Ok((Stream::Plain(socket), false)) };
        };
        let socket = socket(proxy).await?;
        if proxy.scheme() != Some(&Scheme::HTTPS) {
            return if is_tls {
                self.secure(self.tunnel(socket).await?).await
            } else {
                Ok((Stream::Plain(socket), false))
            };
        }
        let to_proxy = self.tls.proxy.connect(server_name(proxy)?, socket).await?;
        if !is_tls {
            return Ok((Stream::Tls(Box::new(to_proxy)), false));
        }
        let inner = self.tunnel(to_proxy).await?;
        let stream = self.tls.upstream.connect(server_name(&self.target)?, inner).await?;
        let is_http2 = is_http2(&stream);
        Ok((Stream::Nested(Box::new(stream)), is_http2))
    }

    async fn secure(&self, socket: Socket) -> Result<(Stream, bool), Error> {
        let stream = self.tls.upstream.connect(server_name(&self.target)?, socket).await?;
        let is_http2 = is_http2(&stream);
        Ok((Stream::Tls(Box::new(stream)), is_http2))
    }

    /// Has the proxy connect to the upstream. The proxy's credential goes no further than this.
    async fn tunnel<T>(&self, stream: T) -> Result<T, Error>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some((proxy, authorization)) = &self.proxy else { return Ok(stream) };
        // The tunnel opens its stream through a service; this one has it already.
        let stream = Mutex::new(Some(stream));
        let opened = tower::service_fn(move |_: Uri| {
            let stream = stream.lock().ok().and_then(|mut stream| stream.take());
            ready(stream.map(TokioIo::new).ok_or_else(|| io::Error::other("a tunnel takes one stream")))
        });
        let mut tunnel = Tunnel::new(proxy.clone(), opened);
        if let Some(authorization) = authorization {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Ok(tunnel.call(self.target.clone()).await?.into_inner())
    }
}

fn server_name(uri: &Uri) -> Result<ServerName<'static>, Error> {
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(ServerName::try_from(bare.to_owned())?)
}

fn is_http2<T>(stream: &TlsStream<T>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

async fn handshake_http1(line: TokioIo<Line>) -> Result<Sender, Error> {
    let (mut sender, connection) = http1::handshake::<_, Outgoing>(line).await?;
    tokio::spawn(async move {
        // Its errors reach the request that they end.
        let _ = connection.await;
    });
    sender.ready().await?;
    Ok(Sender::Http1(sender))
}

async fn handshake_http2(line: TokioIo<Line>) -> Result<Sender, Error> {
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        // Idle connections are dropped by the pool; pings are for those that calls wait on.
        .keep_alive_while_idle(false)
        .handshake::<_, Outgoing>(line)
        .await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender.ready().await?;
    Ok(Sender::Http2(sender))
}
