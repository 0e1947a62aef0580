//! Accepts connections and deals them out: each goes to the worker that has the fewest.
//!
//! Listeners of each worker on one port (`SO_REUSEPORT`) would leave that to a hash of addresses, which gives most of a few
//! connections to one worker.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::Instant,
};
use tracing::{info, warn};

use super::{
    Settings, Shared,
    eviction::Ticket,
    listener::{Accepted, Listener, Socket},
};
use crate::peer::Peer;

/// Minimum interval between log lines about failed accepts.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// Connections that wait for their worker's thread. When it is busy, new ones stay in the kernel's queue.
const WAITING: usize = 64;

/// The acceptor, before (`Socket`) or after (`Listener`) the registration of its port with a runtime.
#[derive(Debug)]
pub(super) struct Acceptor<L = Socket> {
    listener: L,
    lanes: Vec<Lane>,
    drain_delay: Duration,
    drain_timeout: Duration,
    shared: Arc<Shared>,
}

/// The way to a worker.
#[derive(Debug)]
struct Lane {
    queue: Sender<Dealt>,
    /// Connections that the worker has, or will have.
    open: Arc<AtomicUsize>,
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Dealt {
    pub(super) connection: Accepted,
    pub(super) peer: Peer,
    pub(super) ticket: Ticket,
    pub(super) share: Share,
}

/// A worker's count of a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Share(Arc<AtomicUsize>);

impl Share {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Acceptor {
    pub(super) fn new(socket: Socket, settings: &Settings, shared: Arc<Shared>) -> Self {
        let (drain_delay, drain_timeout) = (settings.drain_delay, settings.drain_timeout);
        Self { listener: socket, lanes: Vec::new(), drain_delay, drain_timeout, shared }
    }

    /// Adds a worker; returns its queue, which ends when no connection is accepted any more.
    pub(super) fn add_worker(&mut self) -> Receiver<Dealt> {
        let (queue, receiver) = mpsc::channel(WAITING);
        self.lanes.push(Lane { queue, open: Arc::default() });
        receiver
    }

    /// Registers the port with the current runtime.
    pub(super) fn listen(self) -> io::Result<Acceptor<Listener>> {
        let Self { listener, lanes, drain_delay, drain_timeout, shared } = self;
        Ok(Acceptor { listener: listener.listen()?, lanes, drain_delay, drain_timeout, shared })
    }
}

impl Acceptor<Listener> {
    /// Accepts until the gateway drains, and for the drain delay.
    pub(super) async fn run(self) {
        self.accept_until(self.shared.draining.cancelled()).await;
        info!(delay = ?self.drain_delay, timeout = ?self.drain_timeout, "draining");
        self.accept_until(tokio::time::sleep(self.drain_delay)).await;
    }

    async fn accept_until(&self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                () = &mut end => return,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((connection, peer)) => {
                    let (ticket, has_evicted) = self.shared.handshakes.admit(peer.address.map(|address| address.ip()));
                    self.deal(connection, peer, ticket).await;
                    if has_evicted {
                        // Lets the task of the evicted connection run, which closes the descriptor.
                        tokio::task::yield_now().await;
                    }
                }
                Err(fault) => {
                    if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                        warn!(error = %fault, "can't accept a connection");
                        warned = Some(Instant::now());
                    }
                    self.shared.handshakes.relieve().await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        self.shared.handshakes.room().await;
        self.listener.accept().await
    }

    async fn deal(&self, connection: Accepted, peer: Peer, ticket: Ticket) {
        // The first one of equals.
        let Some(lane) = self.lanes.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed)) else { return };
        let share = Share::new(&lane.open);
        // A worker that has ended drops its connections.
        let _ = lane.queue.send(Dealt { connection, peer, ticket, share }).await;
    }
}
