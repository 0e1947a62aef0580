//! Crowds of TCP peers that say nothing and come again: on a port with mutual TLS, and on the admin port.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{sleep, timeout_at},
};

use super::{Attack, Attackers, Findings, Ground};
use crate::transport::{Dialer, Transport};

/// More than the connections that the gateway takes by default (1,000).
const PEERS: usize = 1_100;

/// The peers come from several addresses: a limit for each address alone would not keep them out.
const ADDRESSES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 0, 2),
    Ipv4Addr::new(127, 0, 0, 3),
    Ipv4Addr::new(127, 0, 0, 4),
    Ipv4Addr::new(127, 0, 0, 5),
];

/// Before a peer that was dropped comes again: a debug build accepts ten times slower.
const DELAY: Duration = Duration::from_millis(if cfg!(debug_assertions) { 300 } else { 100 });

/// By when all peers must have been there.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn all() -> Vec<Attack> {
    let attack = |name: &str, admin, to: fn(Ground) -> Dialer| Attack {
        name: name.into(),
        flags: Vec::new(),
        transport: Transport::MutualTls,
        reconnects: Some(1),
        admin,
        run: Box::new(move |ground| -> Attackers {
            let end = ground.target.end;
            Box::pin(silent(to(ground), end))
        }),
    };
    vec![
        attack("1,100 silent peers on a port with mutual TLS, renewed", false, |ground| ground.stranger),
        attack("1,100 silent peers on the admin port, renewed", true, |ground| ground.admin),
    ]
}

/// Each peer connects, says nothing until it is dropped, and connects again.
async fn silent(dialer: Dialer, end: Instant) -> Findings {
    let peers: Vec<_> = (0..PEERS)
        .map(|number| tokio::spawn(peer(dialer.clone().from(ADDRESSES[number % ADDRESSES.len()]), end)))
        .collect();
    let mut findings = Findings::default();
    let (mut opened, mut refused) = (0, 0);
    for peer in peers {
        let (connections, kept) = peer.await.expect("a peer does not panic");
        opened += connections;
        refused += usize::from(connections == 0);
        findings.open.extend(kept.map(|kept| Box::new(kept) as _));
    }
    if refused > 0 {
        findings.faults.push(format!("{refused} peers found no connection"));
    }
    findings.figures.push(format!("{opened} connections of {PEERS} peers"));
    findings
}

async fn peer(dialer: Dialer, end: Instant) -> (usize, Option<TcpStream>) {
    let mut opened = 0;
    let started = Instant::now();
    loop {
        let limit = if opened == 0 { started + PATIENCE } else { end };
        if let Ok(Ok(mut stream)) = timeout_at(limit.into(), dialer.connect()).await {
            opened += 1;
            if timeout_at(end.into(), stream.read(&mut [0; 64])).await.is_err() {
                return (opened, Some(stream));
            }
        }
        if Instant::now() > end && (opened > 0 || started.elapsed() > PATIENCE) {
            return (opened, None);
        }
        sleep(DELAY).await;
    }
}
