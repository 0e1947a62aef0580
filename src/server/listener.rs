//! Binds the listening address, a TCP port or a Unix socket, and accepts connections from it.

use std::{
    fmt, fs, io,
    net::{self, IpAddr, SocketAddr},
    os::unix::{
        self,
        fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::authority::AuthorityFilter;
use crate::peer::{Identity, Peer};

/// An address to listen on or to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`
    Tcp(String),
    /// `unix:/path`
    Unix(PathBuf),
}

impl Address {
    /// Parses `host:port` or `unix:/path`.
    ///
    /// # Errors
    ///
    /// The text has neither format.
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
    /// Whether other hosts can connect to it. Host names other than localhost count as remote, because their addresses
    /// may change.
    pub(crate) fn is_remote(&self) -> bool {
        let Self::Tcp(address) = self else { return false };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match host.parse::<IpAddr>() {
            Ok(ip) => !ip.to_canonical().is_loopback(),
            // RFC 6761: always loopback.
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

/// The permissions of a Unix socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    /// `None`: the user that runs the gateway.
    pub(crate) owner: Option<Owner>,
}

/// The owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    user: u32,
    /// `None`: unchanged.
    group: Option<u32>,
}

impl Owner {
    /// Parses `UID` or `UID:GID`.
    ///
    /// # Errors
    ///
    /// The text has neither format. Names are not accepted, because they may map to other ids inside a container.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be numbers: UID or UID:GID";
        let number = |text: &str| text.parse().map_err(|_| FORM);
        Ok(match text.split_once(':') {
            None => Self { user: number(text)?, group: None },
            Some((user, group)) => Self { user: number(user)?, group: Some(number(group)?) },
        })
    }
}

/// An accepted connection that is not registered with a runtime yet.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(net::TcpStream),
    Unix(unix::net::UnixStream),
}

impl Accepted {
    /// Registers it with the current runtime.
    pub(super) fn register(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Either::Left(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Either::Right(AuthorityFilter::new(UnixStream::from_std(stream)?)),
        })
    }
}

/// A connection from a peer.
pub(super) type Stream = Either<TcpStream, AuthorityFilter<UnixStream>>;

/// The length of the queue of connections to accept; the kernel cuts it to its own limit (4,096 by default). When it is full,
/// the kernel drops handshakes, and an honest peer tries again only after a second.
const BACKLOG: u32 = 4096;

/// A bound port or socket that is not registered with a runtime yet.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(net::TcpListener, SocketAddr),
    Unix(unix::net::UnixListener, SocketFile),
}

/// A port or socket registered with the current runtime.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// The file of a Unix socket, removed when it is dropped, unless another program has made it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    is_removed: bool,
}

impl SocketFile {
    fn of_ours(path: &Path) -> Self {
        Self { path: path.into(), is_removed: true }
    }

    pub(super) fn of_another(path: &Path) -> Self {
        Self { path: path.into(), is_removed: false }
    }
}

impl Socket {
    /// Binds the address.
    pub(super) async fn open(address: &Address, access: Access) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let (listener, address) = first_port(address).await?;
                Ok(Self::Tcp(listener, address))
            }
            Address::Unix(path) => {
                // A killed gateway leaves its socket behind. A socket that accepts connections is in use, and other
                // files are never removed.
                if fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
                    if UnixStream::connect(path).await.is_ok() {
                        return Err(io::ErrorKind::AddrInUse.into());
                    }
                    fs::remove_file(path)?;
                }
                let listener = bind_private(path, access)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, SocketFile::of_ours(path)))
            }
        }
    }

    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Tcp(_, address) => Address::Tcp(address.to_string()),
            Self::Unix(_, file) => Address::Unix(file.path.clone()),
        }
    }

    /// Registers it with the current runtime.
    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener, _) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener, file) => Listener::Unix { listener: UnixListener::from_std(listener)?, _file: file },
        })
    }
}

/// Binds the first address of a `host:port` that can be bound.
async fn first_port(address: &str) -> io::Result<(net::TcpListener, SocketAddr)> {
    let mut error = io::Error::new(io::ErrorKind::InvalidInput, "the host has no address");
    for address in tokio::net::lookup_host(address).await? {
        match port(address) {
            Ok(bound) => return Ok(bound),
            Err(reason) => error = reason,
        }
    }
    Err(error)
}

fn port(address: SocketAddr) -> io::Result<(net::TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As in the standard library: a restart need not wait for connections in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Binds the admin port.
pub(super) async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::from_std(first_port(address).await?.0)
}

impl Listener {
    /// Accepts the next connection, with its peer as the kernel reports it.
    pub(super) async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Responses are small: Nagle's algorithm would only delay them.
                let _ = stream.set_nodelay(true);
                let peer = Peer { identity: Identity::Nobody, address: Some(address) };
                Ok((Accepted::Tcp(stream.into_std()?), peer))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let identity = stream.peer_cred().map_or(Identity::Nobody, |peer| Identity::Uid(peer.uid()));
                Ok((Accepted::Unix(stream.into_std()?), Peer { identity, address: None }))
            }
        }
    }
}

/// Binds a socket that is not reachable before its mode and owner are set: it is bound in a private directory and then
/// hard-linked to its path. The umask is no alternative, because it applies to the whole process.
fn bind_private(path: &Path, Access { mode, owner }: Access) -> io::Result<unix::net::UnixListener> {
    // A short name, because a socket's path is limited to about a hundred bytes, and a random one, because process ids in
    // containers that share a directory may all be 1.
    let folder = path.with_file_name(format!(".{:08x}", fastrand::u32(..)));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let socket = folder.join("s");
    let bound = unix::net::UnixListener::bind(&socket).and_then(|listener| {
        fs::set_permissions(&socket, fs::Permissions::from_mode(mode))?;
        if let Some(Owner { user, group }) = owner {
            unix::fs::chown(&socket, Some(user), group)?;
        }
        // Unlike a rename, a link never replaces an existing file.
        fs::hard_link(&socket, path)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&folder);
    bound
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_removed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Access = Access { mode: 0o600, owner: None };

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
    fn addresses_other_than_loopback_are_remote() {
        for local in
            ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "LOCALHOST:1", "unix:/s"]
        {
            assert!(!Address::parse(local).unwrap().is_remote(), "{local}");
        }
        for remote in [
            "0.0.0.0:1",
            "[::]:1",
            "[::ffff:0.0.0.0]:1",
            "10.0.0.1:1",
            "[fe80::1]:1",
            "host:1",
            "localhost.evil.example:1",
        ] {
            assert!(Address::parse(remote).unwrap().is_remote(), "{remote}");
        }
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_taken_over_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let address = Address::Unix(path.clone());
        let socket = Socket::open(&address, OURS).await.unwrap();
        assert_eq!(Socket::open(&address, OURS).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_port_is_shared_with_nobody_else() {
        let socket = Socket::open(&Address::Tcp("127.0.0.1:0".into()), OURS).await.unwrap();
        assert_eq!(Socket::open(&socket.address(), OURS).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_socket_has_the_mode_that_was_asked_for_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.sock");
        for mode in [0o600, 0o666] {
            let _socket = Socket::open(&Address::Unix(path.clone()), Access { mode, ..OURS }).await.unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            UnixStream::connect(&path).await.unwrap();
        }
    }

    #[test]
    fn an_owner_is_given_in_numbers() {
        assert_eq!(Owner::parse("7"), Ok(Owner { user: 7, group: None }));
        assert_eq!(Owner::parse("7:8"), Ok(Owner { user: 7, group: Some(8) }));
        for wrong in ["", "root", "-1", "7:", ":8", "7:8:9", "4294967296"] {
            assert!(Owner::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_socket_gets_the_configured_owner() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let data = fs::metadata(folder.path()).unwrap();
        let (current, group) = (data.uid(), data.gid());
        // Only root may change the owner of a file.
        let user = if current == 0 { 4_711 } else { current };
        let path = folder.path().join("gw.sock");
        let owner = Some(Owner { user, group: Some(group) });
        let _socket = Socket::open(&Address::Unix(path.clone()), Access { owner, ..OURS }).await.unwrap();
        let data = fs::metadata(&path).unwrap();
        assert_eq!((data.uid(), data.gid(), data.permissions().mode() & 0o777), (user, group, 0o600));
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(Socket::open(&Address::Unix(path.clone()), OURS).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
