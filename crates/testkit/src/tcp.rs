//! Ports of loopback, and the system's table of TCP connections.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::rng::Rng;

const ESTABLISHED: u8 = 1;
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

/// An address of loopback that no other listener has. A gateway of another test, perhaps in another process, may still try
/// an upstream that is gone: its requests must not reach a new listener that was given the same port.
pub fn own_address() -> Ipv4Addr {
    static DRAWN: AtomicU64 = AtomicU64::new(1 << 32);
    let mut rng = Rng::of(u64::from(std::process::id()), DRAWN.fetch_add(1, Ordering::Relaxed));
    let mut byte = || u8::try_from(1 + rng.below(254)).unwrap();
    Ipv4Addr::new(127, byte(), byte(), byte())
}

/// The number of connections that the process with this listening port has not closed yet, also those that the peer has
/// closed.
pub fn open_connections(port: u16) -> usize {
    let is_open = |state| state == ESTABLISHED || state == CLOSE_WAIT;
    connections().into_iter().filter(|(local, state)| *local == port && is_open(*state)).count()
}

/// Local port and state of each IPv4 connection.
fn connections() -> Vec<(u16, u8)> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let connection = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        Some((u16::from_str_radix(local.split_once(':')?.1, 16).ok()?, u8::from_str_radix(state, 16).ok()?))
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
