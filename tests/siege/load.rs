//! Callers that call without a break on one gateway or on several in turn, with the retries of any gRPC client: an
//! unprocessed call goes elsewhere, and `UNAVAILABLE` is repeated as the gateway asks.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use testkit::thread::on_a_thread;
use tokio::{sync::watch, time::sleep};
use tonic::{Code, Status};

use crate::{
    caller::{Fate, Line},
    upstream::Upstream,
};

/// gRPC's own bound on tries (gRFC A6).
const TRIES: u32 = 5;

/// The time for which a caller looks for a gateway that responds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The ends of all calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The times of calls that ended well.
    pub(crate) times: Vec<Duration>,
    /// Calls that were repeated because no gateway had processed them.
    pub(crate) unprocessed: usize,
    /// Calls that were repeated because the gateway answered that they can be.
    pub(crate) repeated: usize,
    pub(crate) connections: usize,
    pub(crate) failed: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.unprocessed += other.unprocessed;
        self.repeated += other.repeated;
        self.connections += other.connections;
        self.failed.extend(other.failed);
    }

    pub(crate) fn figure(&self) -> String {
        let Self { times, unprocessed, repeated, connections, .. } = self;
        format!("{} calls on {connections} connections, {unprocessed} unprocessed, {repeated} repeated", times.len())
    }
}

/// Callers at work, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Load {
    thread: JoinHandle<Tally>,
    stop: watch::Sender<bool>,
    calls: watch::Receiver<usize>,
}

impl Load {
    /// So many callers on the gateways in this list, which may change.
    pub(crate) fn of(callers: usize, gateways: &watch::Receiver<Vec<SocketAddr>>, upstream: &Upstream) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (count, calls) = watch::channel(0);
        let workers: Vec<_> = (0..callers)
            .map(|number| Worker {
                certificate: format!("load-{number}"),
                gateways: gateways.clone(),
                upstream: upstream.clone(),
                stopped: stopped.clone(),
                count: count.clone(),
                lines: HashMap::new(),
                next: number,
                tally: Tally::default(),
            })
            .collect();
        let thread = on_a_thread("load", async move {
            let workers: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(worker.run())).collect();
            let mut all = Tally::default();
            for worker in workers {
                all.add(worker.await.expect("a caller does not panic"));
            }
            all
        });
        Self { thread, stop, calls }
    }

    /// Waits until so many calls have ended well since it began.
    pub(crate) async fn calls(&mut self, number: usize) {
        let enough = self.calls.wait_for(|calls| *calls >= number);
        // Those that fail are in the tally.
        let _ = tokio::time::timeout(PATIENCE, enough).await;
    }

    /// Lets calls in progress end.
    pub(crate) fn end(self) -> Tally {
        self.stop.send_replace(true);
        self.thread.join().expect("the callers do not panic")
    }
}

struct Worker {
    certificate: String,
    gateways: watch::Receiver<Vec<SocketAddr>>,
    upstream: Upstream,
    stopped: watch::Receiver<bool>,
    count: watch::Sender<usize>,
    lines: HashMap<SocketAddr, Line>,
    next: usize,
    tally: Tally,
}

impl Worker {
    async fn run(mut self) -> Tally {
        while !*self.stopped.borrow() {
            self.call().await;
        }
        self.tally
    }

    /// One call, wherever and as often as it takes.
    async fn call(&mut self) {
        let began = Instant::now();
        let mut tries = 0;
        loop {
            let Some(gateway) = self.next().await else {
                if *self.stopped.borrow() {
                    return;
                }
                if began.elapsed() > PATIENCE {
                    return self.tally.failed.push(format!("nobody to call for {PATIENCE:?}"));
                }
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let id = new_id();
            let started = Instant::now();
            let fate = self.lines[&gateway].attach(&self.certificate, &id).await;
            let reached = self.upstream.saw(&id);
            match fate {
                Fate::Succeeded => {
                    self.tally.times.push(started.elapsed());
                    self.count.send_modify(|calls| *calls += 1);
                    return;
                }
                Fate::Unprocessed(fault) => {
                    self.tally.unprocessed += 1;
                    if reached {
                        self.tally.failed.push(format!("said to be unprocessed, but sent to the cloud: {fault}"));
                    }
                    self.lines.remove(&gateway);
                }
                Fate::Refused(status) => {
                    tries += 1;
                    let Some(backoff) = backoff(&status).filter(|_| tries < TRIES) else {
                        let (code, text) = (status.code(), status.message());
                        return self.tally.failed.push(format!("{code:?} (sent to the cloud: {reached}): {text}"));
                    };
                    self.tally.repeated += 1;
                    sleep(backoff).await;
                }
                Fate::Failed(fault) => {
                    self.lines.remove(&gateway);
                    return self.tally.failed.push(format!("failed (sent to the cloud: {reached}): {fault}"));
                }
            }
        }
    }

    /// The next gateway in turn that can be reached.
    async fn next(&mut self) -> Option<SocketAddr> {
        let gateways = self.gateways.borrow().clone();
        for _ in 0..gateways.len() {
            self.next += 1;
            let gateway = gateways[self.next % gateways.len()];
            if self.lines.get(&gateway).is_some_and(|line| !line.is_over()) {
                return Some(gateway);
            }
            if let Ok(line) = Line::to(gateway).await {
                self.tally.connections += 1;
                self.lines.insert(gateway, line);
                return Some(gateway);
            }
        }
        None
    }
}

/// The delay before a repeat; `None` when the call must not be repeated.
fn backoff(status: &Status) -> Option<Duration> {
    const BACKOFF: Duration = Duration::from_millis(50);
    if status.code() != Code::Unavailable {
        return None;
    }
    match status.metadata().get("grpc-retry-pushback-ms") {
        None => Some(BACKOFF),
        // -1, or anything else that is no number: don't.
        Some(pushback) => pushback.to_str().ok()?.parse().ok().map(Duration::from_millis),
    }
}

/// An id that no other call has.
fn new_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("siege-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
