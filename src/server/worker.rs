//! Runs one worker: serves the connections that are dealt to it on one thread, and drains them. All workers share the
//! process's limits.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc::Receiver, oneshot},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::{Limits, Settings, Shared, acceptor::Dealt, connection, inbound::Inbound};
use crate::tls::Tls;

/// Time for idle peers to close after GOAWAY: a compliant peer needs one round trip.
const LINGER: Duration = Duration::from_secs(1);

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    queue: Receiver<Dealt>,
    inbound: Inbound,
    /// `None`: plain text.
    tls: Option<Arc<Tls>>,
    limits: Limits,
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
        queue: Receiver<Dealt>,
        inbound: Inbound,
        tls: Option<Arc<Tls>>,
        settings: &Settings,
        shared: Arc<Shared>,
    ) -> Self {
        Self { queue, inbound, tls, limits: settings.connection, drain_timeout: settings.drain_timeout, shared }
    }

    /// Starts the worker on a new thread with a runtime.
    pub(super) fn spawn(self, number: usize) -> io::Result<Thread> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let abandoned = CancellationToken::new();
        let alive = abandoned.clone().drop_guard();
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let _ = runtime.block_on(abandoned.run_until_cancelled(self.run()));
            // A hanging file read must not keep the process alive.
            runtime.shutdown_background();
            let _ = tell.send(());
        })?;
        Ok(Thread { ended, _alive: alive })
    }

    /// Serves until no connection is accepted any more, then drains.
    pub(super) async fn run(mut self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                dealt = self.queue.recv() => match dealt {
                    Some(dealt) => self.serve(dealt, &mut connections),
                    None => break,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        self.inbound.closing().cancel();
        drain(connections, &self.shared, self.drain_timeout).await;
    }

    fn serve(&self, Dealt { connection, peer, ticket, share }: Dealt, connections: &mut JoinSet<()>) {
        let stream = match connection.register() {
            Ok(stream) => stream,
            Err(fault) => {
                debug!(error = %fault, "can't register a connection");
                return;
            }
        };
        let (tls, inbound, shared) = (self.tls.clone(), self.inbound.clone(), Arc::clone(&self.shared));
        let gauge = self.inbound.count_connection();
        let serving = connection::serve(stream, peer, ticket, tls, inbound, self.limits, shared);
        connections.spawn(async move {
            serving.await;
            drop(share);
            drop(gauge);
        });
    }
}

impl Thread {
    /// Waits until the worker has drained.
    pub(super) async fn ended(self) {
        let _ = self.ended.await;
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
