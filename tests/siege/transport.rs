//! Transports to the gateway: plain TCP, TLS, and mutual TLS, for clients with a certificate and for those without one.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use testkit::{
    authority::{Authority, Mount, Pair},
    tls,
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tokio_util::either::Either;

/// A connection, with TLS or without.
pub(crate) type Channel = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Honest clients and attackers have addresses of their own: without certificates, the address is the identity by which
/// the gateway shares its limits.
pub(crate) const HONEST_ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
pub(crate) const ATTACKER_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The way in which the gRPC port is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
    MutualTls,
}

impl Transport {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::MutualTls];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "TLS",
            Self::MutualTls => "mTLS",
        }
    }
}

/// An authority, the gateway's files, and a certificate for each side.
pub(crate) struct Certificates {
    files: Mount,
    authority: String,
    honest: Pair,
    attacker: Pair,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let server = authority.issue(&["gateway.example"]);
        let pem = authority.pem();
        let files = Mount::new(&[("crt", &server.certificate), ("key", &server.key), ("ca", &pem)]);
        let honest = authority.issue(&["honest.example"]);
        let attacker = authority.issue(&["attacker.example"]);
        Self { files, authority: pem, honest, attacker }
    }

    /// The flags of a gateway that serves this transport.
    pub(crate) fn flags(&self, transport: Transport) -> Vec<String> {
        let flag = |name: &str, file| [format!("--{name}"), self.files.path(file)];
        let mut flags = Vec::new();
        if transport != Transport::Plain {
            flags.extend(flag("tls-certificate", "crt"));
            flags.extend(flag("tls-key", "key"));
        }
        if transport == Transport::MutualTls {
            flags.extend(flag("tls-client-ca", "ca"));
        }
        flags
    }

    pub(crate) fn honest(&self, transport: Transport, gateway: SocketAddr) -> Dialer {
        Dialer { gateway, source: HONEST_ADDRESS, tls: self.connector(transport, Some(&self.honest)) }
    }

    pub(crate) fn attacker(&self, transport: Transport, gateway: SocketAddr) -> Dialer {
        Dialer { gateway, source: ATTACKER_ADDRESS, tls: self.connector(transport, Some(&self.attacker)) }
    }

    /// A peer without a certificate, which mutual TLS must refuse.
    pub(crate) fn stranger(&self, transport: Transport, gateway: SocketAddr) -> Dialer {
        Dialer { gateway, source: ATTACKER_ADDRESS, tls: self.connector(transport, None) }
    }

    fn connector(&self, transport: Transport, pair: Option<&Pair>) -> Option<TlsConnector> {
        if transport == Transport::Plain {
            return None;
        }
        Some(tls::connector(&self.authority, pair.filter(|_| transport == Transport::MutualTls)))
    }
}

/// Opens connections to one gateway for one client.
#[derive(Clone)]
pub(crate) struct Dialer {
    gateway: SocketAddr,
    source: Ipv4Addr,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dialer({} to {})", self.source, self.gateway)
    }
}

impl Dialer {
    /// One without TLS, from the honest client's address.
    pub(crate) fn plain(gateway: SocketAddr) -> Self {
        Self { gateway, source: HONEST_ADDRESS, tls: None }
    }

    /// The same client from another address.
    pub(crate) fn from(self, source: Ipv4Addr) -> Self {
        Self { source, ..self }
    }

    /// A TCP connection, before any greeting.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        // An explicit bind uses a local port up for every peer; only other addresses need it.
        if self.source != HONEST_ADDRESS {
            socket.bind((self.source, 0).into())?;
        }
        let stream = socket.connect(self.gateway).await?;
        if stream.local_addr()? == stream.peer_addr()? {
            // On loopback a socket can meet itself at a port that nobody listens on.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection after the TLS handshake, if there is one.
    pub(crate) async fn dial(&self) -> io::Result<Channel> {
        let stream = self.connect().await?;
        let Some(tls) = &self.tls else { return Ok(Either::Left(stream)) };
        let name = ServerName::try_from("gateway.example").expect("it is a name");
        Ok(Either::Right(Box::new(tls.connect(name, stream).await?)))
    }
}
