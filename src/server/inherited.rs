//! Sockets that a service manager has bound: they listen already, and stay when the gateway ends.

use std::{net, os::fd::AsFd, os::unix};

use super::{
    Address,
    listener::{Socket, SocketFile},
};

/// The sockets to use instead of those that the settings name.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(crate) grpc: Option<Socket>,
    pub(crate) admin: Option<net::TcpListener>,
}

impl Sockets {
    /// The addresses by the settings that they replace.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&'static str, Address)> {
        let grpc = self.grpc.as_ref().map(|socket| ("listen", socket.address()));
        let admin = self.admin.as_ref().and_then(|listener| listener.local_addr().ok());
        grpc.into_iter().chain(admin.map(|address| ("admin-listen", Address::Tcp(address.to_string()))))
    }
}

impl Socket {
    /// Takes a TCP port.
    ///
    /// # Errors
    ///
    /// It does not listen.
    pub(crate) fn inherited_tcp(listener: net::TcpListener) -> Result<Self, String> {
        check(&listener)?;
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        Ok(Self::Tcp(listener, address))
    }

    /// Takes a Unix socket.
    ///
    /// # Errors
    ///
    /// It does not listen, or has no path.
    pub(crate) fn inherited_unix(listener: unix::net::UnixListener) -> Result<Self, String> {
        check(&listener)?;
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let path = address.as_pathname().ok_or("is a Unix socket without a path")?;
        Ok(Self::Unix(listener, SocketFile::of_another(path)))
    }
}

/// A connection, as of `Accept=yes`, can't be accepted from.
fn check(socket: impl AsFd) -> Result<(), String> {
    match rustix::net::sockopt::socket_acceptconn(socket) {
        Ok(true) => Ok(()),
        Ok(false) => Err("does not listen; a socket unit needs Accept=no".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
