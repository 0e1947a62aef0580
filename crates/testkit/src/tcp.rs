//! Ports of loopback, and the system's table of TCP connections.

use std::{
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::rng::Rng;

const ESTABLISHED: u8 = 1;
const FIN_WAIT_1: u8 = 4;
const CLOSE_WAIT: u8 = 8;

/// A port of loopback that is free now, below those of outgoing connections: no connection takes it while its listener is
/// closed for a moment.
pub fn free_port() -> u16 {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut rng = Rng::of(u64::from(std::process::id()), DRAWN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_000 + rng.below(20_000)).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The number of connections that the process with this listening port has not closed yet, also those that the peer has
/// closed.
pub fn open_connections(port: u16) -> usize {
    let is_open = |state| state == ESTABLISHED || state == CLOSE_WAIT;
    connections().into_iter().filter(|(local, _, state)| *local == port && is_open(*state)).count()
}

/// Whether the peer's system has not acknowledged the end of this closed connection yet.
pub(crate) fn is_end_in_flight(local: SocketAddr, peer: SocketAddr) -> bool {
    connections().contains(&(local.port(), peer.port(), FIN_WAIT_1))
}

/// Local port, remote port and state of each IPv4 connection.
fn connections() -> Vec<(u16, u16, u8)> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    let connection = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        Some((port(local)?, port(remote)?, u8::from_str_radix(state, 16).ok()?))
    };
    table.lines().filter_map(connection).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn connections_are_counted_until_they_are_closed() {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(open_connections(address.port()), 0);
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(open_connections(address.port()), 1);
        // The peer's end alone does not count as closed.
        drop(client);
        assert_eq!(open_connections(address.port()), 1);
        drop(server);
        assert_eq!(open_connections(address.port()), 0);
    }
}
