//! Where the gateway listens: a TCP port or a Unix socket. It knows no HTTP.

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::peer::{Identity, Peer};

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

impl Address {
    /// Whether anyone but this host's own processes can reach it. A name is a stranger's unless it can't be: what it
    /// resolves to may change.
    pub(crate) fn is_for_strangers(&self) -> bool {
        let Self::Tcp(address) = self else { return false };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match host.parse::<IpAddr>() {
            Ok(ip) => !ip.to_canonical().is_loopback(),
            // Always loopback, by RFC 6761.
            Err(_) => !host.eq_ignore_ascii_case("localhost"),
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
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// An open port or socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// A socket's file, which goes when its listener goes.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Listener {
    pub(super) async fn bind(address: &Address, mode: u32) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let address = listener.local_addr()?;
                Ok(Self::Tcp(listener, address))
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
                let listener = bind_private(path, mode)?;
                Ok(Self::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    pub(super) fn address(&self) -> Address {
        match self {
            Self::Tcp(_, address) => Address::Tcp(address.to_string()),
            Self::Unix(_, file) => Address::Unix(file.0.clone()),
        }
    }

    /// The next connection, and whom the kernel says it is from.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, address) = listener.accept().await?;
                // Answers are small: waiting to fill a packet would only delay them.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(stream), Peer { identity: Identity::Nobody, address: Some(address) }))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let identity = stream.peer_cred().map_or(Identity::Nobody, |peer| Identity::Uid(peer.uid()));
                Ok((Either::Right(stream), Peer { identity, address: None }))
            }
        }
    }
}

/// Binds a socket that nobody else can connect to before it has its mode: in a folder of its own, and linked from there.
/// The umask belongs to the whole process, and its default lets others in.
fn bind_private(path: &Path, mode: u32) -> io::Result<UnixListener> {
    // A short name: a socket's path has room for about a hundred bytes.
    // Process ids are no help: in containers that share a folder all of them may be 1.
    let folder = path.with_file_name(format!(".{:08x}", fastrand::u32(..)));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let socket = folder.join("s");
    let bound = UnixListener::bind(&socket).and_then(|listener| {
        fs::set_permissions(&socket, fs::Permissions::from_mode(mode))?;
        // Unlike a rename, a link replaces nothing that is there.
        fs::hard_link(&socket, path)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&folder);
    bound
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

    #[test]
    fn strangers_reach_all_that_is_not_loopback() {
        for ours in
            ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "LOCALHOST:1", "unix:/s"]
        {
            assert!(!Address::parse(ours).unwrap().is_for_strangers(), "{ours}");
        }
        for open in [
            "0.0.0.0:1",
            "[::]:1",
            "[::ffff:0.0.0.0]:1",
            "10.0.0.1:1",
            "[fe80::1]:1",
            "host:1",
            "localhost.evil.example:1",
        ] {
            assert!(Address::parse(open).unwrap().is_for_strangers(), "{open}");
        }
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_taken_over_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address, 0o600).await.unwrap();
        assert_eq!(Listener::bind(&address, 0o600).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_has_the_mode_that_was_asked_for_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.sock");
        for mode in [0o600, 0o666] {
            let _listener = Listener::bind(&Address::Unix(path.clone()), mode).await.unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            UnixStream::connect(&path).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(Listener::bind(&Address::Unix(path.clone()), 0o600).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
