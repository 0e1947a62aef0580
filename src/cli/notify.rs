//! Tells the service manager that the gateway has started or stops, as in `sd_notify(3)`.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use tracing::warn;

use crate::config::Environment;

/// The connection to the service manager, if there is one.
#[derive(Debug)]
pub(super) struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// Connects to the socket that `NOTIFY_SOCKET` names. A failure is logged and otherwise ignored: the gateway serves without
    /// a service manager, too.
    pub(super) fn connect(environment: Environment<'_>) -> Self {
        let Some(name) = environment("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self(None) };
        let socket = connect(&name).inspect_err(|error| warn!(%error, "can't connect to NOTIFY_SOCKET"));
        Self(socket.ok())
    }

    /// The gateway listens.
    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// The gateway drains.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Sends without waiting. If the reader is slow, the message is sent later.
    fn send(&self, state: &'static str) {
        let Some(socket) = &self.0 else { return };
        let result = match socket.send(state.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.try_clone().and_then(|socket| {
                let socket = tokio::net::UnixDatagram::from_std(socket)?;
                tokio::spawn(async move { socket.send(state.as_bytes()).await });
                Ok(())
            }),
            sent => sent.map(drop),
        };
        if let Err(error) = result {
            warn!(%error, state, "can't notify the service manager");
        }
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        None => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a path or @name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}
