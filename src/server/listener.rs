//! Where the gateway listens: a TCP port or a Unix socket. It knows no HTTP.

use std::{
    fmt, fs, io,
    net::{self, SocketAddr},
    os::unix::{self, fs::FileTypeExt as _},
    path::PathBuf,
    sync::Arc,
};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

/// An address to listen on, or to reach a gateway at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`
    Tcp(String),
    /// `unix:/path`
    Unix(PathBuf),
}

impl Address {
    /// Reads `host:port` or `unix:/path`.
    ///
    /// # Errors
    ///
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be host:port or unix:/path";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(FORM) };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self::Tcp(text.to_owned())),
            _ => Err(FORM),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A connection from a peer.
pub(super) type Peer = Either<TcpStream, UnixStream>;

/// The queue of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// An open port or socket, which no runtime knows yet.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(net::TcpListener, SocketAddr),
    Unix(unix::net::UnixListener, Arc<SocketFile>),
}

/// An open port or socket whose connections the current runtime accepts.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: Arc<SocketFile> },
}

/// A socket's file, which goes when its listener goes.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Socket {
    /// Opens the address for so many runtimes, a socket each. The system deals a port's connections out to them.
    pub(super) async fn open(address: &Address, number: usize) -> io::Result<Vec<Self>> {
        match address {
            Address::Tcp(address) => {
                // Without sharing the port: a port that is in use must not be shared with whoever uses it.
                let first = TcpListener::bind(address).await?;
                let address = first.local_addr()?;
                if number == 1 {
                    return Ok(vec![Self::Tcp(first.into_std()?, address)]);
                }
                drop(first);
                (0..number).map(|_| Ok(Self::Tcp(shared_port(address)?, address))).collect()
            }
            Address::Unix(path) => {
                // A killed gateway leaves its socket behind. One that somebody answers on is in use, and a file that is
                // no socket is not ours to remove.
                if fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
                    if UnixStream::connect(path).await.is_ok() {
                        return Err(io::ErrorKind::AddrInUse.into());
                    }
                    fs::remove_file(path)?;
                }
                let listener = unix::net::UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                let file = Arc::new(SocketFile(path.clone()));
                (0..number).map(|_| Ok(Self::Unix(listener.try_clone()?, Arc::clone(&file)))).collect()
            }
        }
    }

    pub(super) fn address(&self) -> Address {
        match self {
            Self::Tcp(_, address) => Address::Tcp(address.to_string()),
            Self::Unix(_, file) => Address::Unix(file.0.clone()),
        }
    }

    /// Has the current runtime accept its connections.
    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener, _) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener, file) => Listener::Unix { listener: UnixListener::from_std(listener)?, _file: file },
        })
    }
}

fn shared_port(address: SocketAddr) -> io::Result<net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the standard library has it, so that a restart need not wait for old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Peer> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small: waiting to fill a packet would only delay them.
                let _ = stream.set_nodelay(true);
                Ok(Either::Left(stream))
            }
            Self::Unix { listener, .. } => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_or_a_socket() {
        assert_eq!(Address::parse("127.0.0.1:0"), Ok(Address::Tcp("127.0.0.1:0".into())));
        assert_eq!(Address::parse("[::1]:50051"), Ok(Address::Tcp("[::1]:50051".into())));
        assert_eq!(Address::parse("unix:/run/gw.sock"), Ok(Address::Unix("/run/gw.sock".into())));
        assert_eq!(Address::parse("unix:///run/gw.sock"), Ok(Address::Unix("/run/gw.sock".into())));
        for wrong in ["", "host", ":1", "host:", "host:99999", "unix:", "unix:relative", "unix://relative"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_taken_over_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let address = Address::Unix(path.clone());
        let sockets = Socket::open(&address, 2).await.unwrap();
        assert_eq!(Socket::open(&address, 1).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_port_is_shared_among_workers_and_with_nobody_else() {
        let sockets = Socket::open(&Address::Tcp("127.0.0.1:0".into()), 3).await.unwrap();
        assert_eq!(sockets.len(), 3);
        let address = sockets[0].address();
        for number in [1, 2] {
            assert_eq!(Socket::open(&address, number).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(Socket::open(&Address::Unix(path.clone()), 1).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
