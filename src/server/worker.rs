//! Runs one worker: accepts connections from its listener, serves them on one thread, and drains them. All workers share
//! the process's limits.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinSet, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use super::{
    Limits, Settings, Shared, connection,
    inbound::Inbound,
    listener::{Listener, Socket, Stream},
};
use crate::{peer::Peer, tls::Tls};

/// Time for idle peers to close after GOAWAY: a compliant peer needs one round trip.
const LINGER: Duration = Duration::from_secs(1);

/// Minimum interval between log lines about failed accepts.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// A worker, before (`Socket`) or after (`Listener`) its registration with a runtime.
#[derive(Debug)]
pub(super) struct Worker<L = Socket> {
    listener: L,
    inbound: Inbound,
    /// `None`: plain text.
    tls: Option<Arc<Tls>>,
    limits: Limits,
    drain_delay: Duration,
    drain_timeout: Duration,
    shared: Arc<Shared>,
}

/// A worker on a separate thread. Dropping it aborts the worker.
#[derive(Debug)]
pub(super) struct Thread {
    ended: oneshot::Receiver<()>,
    _alive: DropGuard,
}

impl Worker {
    pub(super) fn new(
        socket: Socket,
        inbound: Inbound,
        tls: Option<Arc<Tls>>,
        settings: &Settings,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            listener: socket,
            inbound,
            tls,
            limits: settings.connection,
            drain_delay: settings.drain_delay,
            drain_timeout: settings.drain_timeout,
            shared,
        }
    }

    /// Registers the listener with the current runtime.
    pub(super) fn listen(self) -> io::Result<Worker<Listener>> {
        let Self { listener, inbound, tls, limits, drain_delay, drain_timeout, shared } = self;
        Ok(Worker { listener: listener.listen()?, inbound, tls, limits, drain_delay, drain_timeout, shared })
    }

    /// Starts the worker on a new thread with a runtime.
    pub(super) fn spawn(self, number: usize) -> io::Result<Thread> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = {
            let _entered = runtime.enter();
            self.listen()?
        };
        let abandoned = CancellationToken::new();
        let alive = abandoned.clone().drop_guard();
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let _ = runtime.block_on(abandoned.run_until_cancelled(worker.run()));
            // A hanging file read must not keep the process alive.
            runtime.shutdown_background();
            let _ = tell.send(());
        })?;
        Ok(Thread { ended, _alive: alive })
    }
}

impl Thread {
    /// Waits until the worker has drained.
    pub(super) async fn ended(self) {
        let _ = self.ended.await;
    }
}

impl Worker<Listener> {
    /// Serves until the gateway drains, then drains.
    pub(super) async fn run(self) {
        let mut connections = JoinSet::new();
        self.accept_until(self.shared.draining.cancelled(), &mut connections).await;
        info!(delay = ?self.drain_delay, timeout = ?self.drain_timeout, "draining");
        self.accept_until(tokio::time::sleep(self.drain_delay), &mut connections).await;
        let Self { listener, inbound, shared, drain_timeout, .. } = self;
        drop(listener);
        inbound.closing().cancel();
        drain(connections, &shared, drain_timeout).await;
    }

    async fn accept_until(&self, end: impl Future<Output = ()>, connections: &mut JoinSet<()>) {
        let mut end = std::pin::pin!(end);
        let mut warned: Option<Instant> = None;
        loop {
            tokio::select! {
                () = &mut end => return,
                Some(_) = connections.join_next() => {}
                accepted = self.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let (ticket, has_evicted) = self.shared.handshakes.admit(peer.address.map(|address| address.ip()));
                        let (tls, inbound, shared) = (self.tls.clone(), self.inbound.clone(), Arc::clone(&self.shared));
                        connections.spawn(connection::serve(stream, peer, ticket, tls, inbound, self.limits, shared));
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
                },
            }
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        self.shared.handshakes.room().await;
        self.listener.accept().await
    }
}

/// Waits for the calls in progress and then for the connections; aborts both after the timeout.
async fn drain(mut connections: JoinSet<()>, shared: &Shared, timeout: Duration) {
    let end = Instant::now() + timeout;
    let mut quiet_since = None;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !connections.is_empty() && Instant::now() < end {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            _ = look.tick() => {
                // Streams of health and reflection, and idle peers that ignore GOAWAY, do not hold up the drain.
                if shared.calls_in_progress() > 0 {
                    quiet_since = None;
                } else if quiet_since.get_or_insert_with(Instant::now).elapsed() >= LINGER {
                    break;
                }
            }
        }
    }
    let left = shared.calls_in_progress();
    if left > 0 && !connections.is_empty() {
        warn!(calls = left, ?timeout, "drain timeout exceeded, aborting the calls in progress");
        shared.expired.cancel();
        let answered = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LINGER / 2, answered).await;
    }
}
