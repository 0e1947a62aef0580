//! Socket activation: takes the sockets that a service manager has bound and passes on, as in `sd_listen_fds(3)`.

use listenfd::ListenFd;

use crate::{
    config::{Environment, Faults},
    server::{Socket, Sockets},
};

/// The name (`FileDescriptorName=`) of the admin port; a socket with any other name is for gRPC.
const ADMIN: &str = "admin";

/// One socket for gRPC, and one for the admin port.
const MAX_SOCKETS: usize = 2;

/// The number of the first descriptor that is passed.
const FIRST: usize = 3;

/// Takes the sockets that were passed to this process. Removes the variables from the environment, so it must run before any
/// other thread, and before any descriptor is opened.
///
/// # Errors
///
/// A descriptor is not a listening TCP or Unix socket, or there are more than the gateway can use.
pub(super) fn take(environment: Environment<'_>) -> Result<Sockets, Faults> {
    let number = |name| environment(name).and_then(|text| text.parse::<usize>().ok());
    // Variables for another process, such as the parent, are inherited and mean nothing here.
    if number("LISTEN_PID") != usize::try_from(std::process::id()).ok() {
        return Ok(Sockets::default());
    }
    let fault = |text: String| Faults(vec![format!("socket activation: {text}")]);
    let number = number("LISTEN_FDS").ok_or_else(|| fault("LISTEN_FDS is not a number".to_owned()))?;
    if number > MAX_SOCKETS {
        return Err(fault(format!(
            "{number} sockets were passed (limit {MAX_SOCKETS}): one for gRPC, and one with the name {ADMIN}"
        )));
    }
    let names = environment("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for at in 0..number {
        let descriptor = FIRST + at;
        let is_admin = names.next() == Some(ADMIN);
        let socket = one(&mut passed, at).map_err(|what| fault(format!("descriptor {descriptor} {what}")))?;
        let is_second = match socket {
            Socket::Tcp(listener, _) if is_admin => sockets.admin.replace(listener).is_some(),
            Socket::Unix(..) if is_admin => {
                return Err(fault(format!("descriptor {descriptor} ({ADMIN}) must be a TCP socket")));
            }
            socket => sockets.grpc.replace(socket).is_some(),
        };
        if is_second {
            return Err(fault(format!("two sockets for one port; only the admin port's has the name {ADMIN}")));
        }
    }
    Ok(sockets)
}

/// The socket at a place among those passed.
fn one(passed: &mut ListenFd, at: usize) -> Result<Socket, String> {
    if let Ok(Some(listener)) = passed.take_tcp_listener(at) {
        return Socket::inherited_tcp(listener);
    }
    if let Ok(Some(listener)) = passed.take_unix_listener(at) {
        return Socket::inherited_unix(listener);
    }
    Err("is not a TCP or Unix stream socket".to_owned())
}
