//! One worker: a listener of its own, its connections, and their end. It shares the limits with the other workers and
//! knows no call.

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

/// How long a drained worker waits for peers to close: whoever understands GOAWAY needs a round trip.
const LINGER: Duration = Duration::from_secs(1);

/// How often a failing accept is logged, at most.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// A worker to be, or one at work.
#[derive(Debug)]
pub(super) struct Worker<L = Socket> {
    listener: L,
    inbound: Inbound,
    /// For a port that speaks TLS.
    tls: Option<Arc<Tls>>,
    limits: Limits,
    drain_delay: Duration,
    drain_timeout: Duration,
    shared: Arc<Shared>,
}

/// A worker on a thread of its own. Dropped, it ends at once.
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

    /// Makes the current runtime its home.
    pub(super) fn listen(self) -> io::Result<Worker<Listener>> {
        let Self { listener, inbound, tls, limits, drain_delay, drain_timeout, shared } = self;
        Ok(Worker { listener: listener.listen()?, inbound, tls, limits, drain_delay, drain_timeout, shared })
    }

    /// Gives it a thread and a runtime.
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
            // A file read that hangs must not keep the program alive.
            runtime.shutdown_background();
            let _ = tell.send(());
        })?;
        Ok(Thread { ended, _alive: alive })
    }
}

impl Thread {
    /// Waits until it has drained.
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
                        let (ticket, has_evicted) = self.shared.greeting.admit(peer.address.map(|address| address.ip()));
                        let (tls, inbound, shared) = (self.tls.clone(), self.inbound.clone(), Arc::clone(&self.shared));
                        connections.spawn(connection::serve(stream, peer, ticket, tls, inbound, self.limits, shared));
                        if has_evicted {
                            // It has a descriptor until its task has run.
                            tokio::task::yield_now().await;
                        }
                    }
                    Err(fault) => {
                        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                            warn!(error = %fault, "can't accept a connection");
                            warned = Some(Instant::now());
                        }
                        self.shared.greeting.relieve().await;
                    }
                },
            }
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        self.shared.greeting.room().await;
        self.listener.accept().await
    }
}

/// Waits for the calls in progress and then for the connections, and ends both when time is up.
async fn drain(mut connections: JoinSet<()>, shared: &Shared, timeout: Duration) {
    let end = Instant::now() + timeout;
    let mut quiet_since = None;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !connections.is_empty() && Instant::now() < end {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            _ = look.tick() => {
                // Streams of health and reflection, and peers that never answer GOAWAY, are nobody's call.
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
        warn!(calls = left, "time is up for the calls in progress");
        shared.expired.cancel();
        let answered = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LINGER / 2, answered).await;
    }
}
