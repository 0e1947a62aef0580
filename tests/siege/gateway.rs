//! The gateway under siege: its addresses, a summary of its log, and its end.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use testkit::{
    admin,
    program::{self, ADMIN, Log, SERVE},
    tcp::open_connections,
    thread::on_a_thread,
    wait::{PATIENCE, settles},
};
use tokio::{process::ChildStdout, sync::watch};

/// The file of the gateway.
#[derive(Debug)]
struct Binary;

impl program::Binary for Binary {
    const PATH: &'static str = env!("CARGO_BIN_EXE_apig-grpc-gateway");
}

type Program = program::Program<Binary>;

/// The log so far.
#[derive(Debug, Default)]
struct Summary {
    draining: bool,
    panics: Vec<String>,
    /// The number of lines other than those of calls, and of lines of calls.
    lines: u64,
    calls: u64,
    ended: bool,
}

/// A running gateway. It ends with the value.
#[derive(Debug)]
pub(crate) struct Gateway {
    program: Program,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    summary: watch::Sender<Summary>,
}

impl Gateway {
    /// Starts one before this upstream and waits until it serves.
    pub(crate) async fn start(upstream: SocketAddr, flags: &[&str]) -> Self {
        let mut gateway = Self::start_unread(upstream, flags).await;
        gateway.read_log();
        gateway
    }

    /// The same with a log that is not read after the start.
    pub(crate) async fn start_unread(upstream: SocketAddr, flags: &[&str]) -> Self {
        let upstream = format!("http://{upstream}");
        let mut program = Program::start(&[&SERVE[..], &ADMIN, &["--upstream", &upstream], flags].concat(), &[]);
        let serving = program.serving().await;
        let address = |text: &str| text.parse().expect("it is on a port");
        let (address, admin) = (address(&serving.address), address(&serving.admin.expect("the admin port is on")));
        Self { program, address, admin, summary: watch::Sender::default() }
    }

    /// Reads the log from now on.
    pub(crate) fn read_log(&mut self) {
        on_a_thread("log", read(self.program.take_log(), self.summary.clone()));
    }

    /// The number of calls in the log.
    pub(crate) fn calls_logged(&self) -> u64 {
        self.summary.borrow().calls
    }

    /// The far end of its standard output.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.program.take_stdout()
    }

    /// Sends SIGTERM.
    pub(crate) async fn signal(&self) {
        self.program.signal("TERM").await;
    }

    /// Sends SIGTERM and waits until the drain has begun, by the log.
    pub(crate) async fn terminate(&mut self) {
        self.signal().await;
        let mut summary = self.summary.subscribe();
        let draining = summary.wait_for(|summary| summary.draining || summary.ended);
        tokio::time::timeout(PATIENCE, draining).await.expect("a drain begins").expect("the sender is ours");
    }

    /// Waits for its end, and returns the exit code and the time until then; `None` if it still runs.
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<(i32, Duration)> {
        let started = Instant::now();
        let status = self.program.ends(within).await?;
        Some((status.code().unwrap_or(-1), started.elapsed()))
    }

    /// The panics in the log.
    pub(crate) fn panics(&self) -> Vec<String> {
        self.summary.borrow().panics.clone()
    }

    /// The number of lines in the log other than those of calls.
    pub(crate) fn lines(&self) -> u64 {
        self.summary.borrow().lines
    }

    /// The most memory that it has held so far, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.program.peak_memory() / 1024
    }

    /// Waits until it uses the processor no more, and returns the time until then.
    pub(crate) async fn idle(&self, within: Duration) -> Option<Duration> {
        self.program.idle(within).await
    }

    /// The status and the body of an admin page.
    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        tokio::time::timeout(Duration::from_secs(5), admin::page(self.admin, path)).await.ok()?.ok()
    }

    /// A metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<u64> {
        admin::metric(self.admin, name).await
    }

    /// The number of connections that the gateway has on the admin port.
    pub(crate) fn admin_connections(&self) -> usize {
        open_connections(self.admin.port())
    }

    /// Waits until the gateway has no connection on the admin port, and returns the number in the end.
    pub(crate) async fn admin_settles(&self, within: Duration) -> usize {
        settles(within, async || self.admin_connections(), |now| *now == 0).await
    }

    /// Waits for a metric to have this value, and returns its value in the end.
    pub(crate) async fn settles(&self, name: &str, value: u64, within: Duration) -> Option<u64> {
        settles(within, async || self.metric(name).await, |now| *now == Some(value)).await
    }
}

/// Reads the log to its end: a full pipe could delay a gateway.
async fn read(mut log: Log, summary: watch::Sender<Summary>) {
    while let Some(line) = log.next().await {
        summary.send_modify(|summary| {
            if line.contains("\"call ended\"") {
                summary.calls += 1;
                return;
            }
            summary.lines += 1;
            if line.contains("panicked") {
                summary.panics.push(line);
            } else if line.contains("\"draining\"") {
                summary.draining = true;
            }
        });
    }
    summary.send_modify(|summary| summary.ended = true);
}
