//! The gateway as a process: where it serves, what it says, what it uses, how it ends.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::admin;

/// The clock that `/proc` counts processor time by.
const TICKS_A_SECOND: u32 = 100;

/// Less than this share of one processor is idle.
const IDLE_SHARE: f64 = 0.1;

/// A bound on what must happen soon on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the log has said so far.
#[derive(Debug, Default)]
struct Said {
    serving: Option<SocketAddr>,
    draining: bool,
    panics: Vec<String>,
    /// Lines that tell of no call, and lines that tell of one.
    lines: u64,
    calls: u64,
    last: String,
    ended: bool,
}

/// A running gateway. It ends with the value.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    said: watch::Receiver<Said>,
    say: Arc<watch::Sender<Said>>,
    /// The log, while nobody reads it.
    unread: Arc<Mutex<Option<Log>>>,
}

type Log = BufReader<ChildStderr>;

/// Where the gateway's outputs go.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) stdout: Stdio,
    /// Whether the log is read after the gateway has begun to serve.
    pub(crate) reads_log: bool,
}

impl Gateway {
    /// Starts one before this upstream and waits until it serves.
    pub(crate) async fn start(upstream: SocketAddr, flags: &[&str]) -> Self {
        Self::start_with(upstream, flags, Outputs { stdout: Stdio::null(), reads_log: true }).await
    }

    /// The same with other outputs.
    pub(crate) async fn start_with(upstream: SocketAddr, flags: &[&str], outputs: Outputs) -> Self {
        let upstream = format!("http://{upstream}");
        // The log does not tell an admin port that the system chose.
        let admin = free_port();
        let usual = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_apig-grpc-gateway"))
            .args(usual)
            .args(["--admin-listen", &admin.to_string(), "--upstream", &upstream])
            .args(flags)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(outputs.stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway's program can be run");
        let log = child.stderr.take().expect("it is piped");
        let (say, mut said) = watch::channel(Said::default());
        let say = Arc::new(say);
        let unread: Arc<Mutex<Option<Log>>> = Arc::default();
        let (saying, rest) = (Arc::clone(&say), Arc::clone(&unread));
        std::thread::spawn(move || {
            let mut log = BufReader::new(log);
            if outputs.reads_log {
                read(&mut log, &saying, |_| false);
            } else {
                read(&mut log, &saying, |said| said.serving.is_some());
                *rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
            }
        });
        let serving = tokio::time::timeout(PATIENCE, said.wait_for(|said| said.serving.is_some() || said.ended)).await;
        let serving = serving.ok().and_then(|said| said.ok()?.serving);
        let Some(address) = serving else {
            let _ = child.kill();
            panic!("the gateway does not serve: {}", said.borrow().last);
        };
        Self { child, address, admin, said, say, unread }
    }

    /// Reads the log on from where its reader stopped.
    pub(crate) fn read_log_on(&self) {
        let log = self.unread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let say = Arc::clone(&self.say);
        let mut log = log.expect("its reader has stopped");
        std::thread::spawn(move || read(&mut log, &say, |_| false));
    }

    /// How many lines of the log tell of a call.
    pub(crate) fn calls_logged(&self) -> u64 {
        self.said.borrow().calls
    }

    /// The other end of its standard output, if that is a pipe.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends SIGTERM.
    pub(crate) fn signal(&self) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &id]).status().expect("there is a kill program");
        assert!(told.success(), "the gateway has gone before it was told to");
    }

    /// Sends SIGTERM and waits until the log says that the drain has begun.
    pub(crate) async fn terminate(&mut self) {
        self.signal();
        let draining = self.said.wait_for(|said| said.draining || said.ended);
        tokio::time::timeout(PATIENCE, draining).await.expect("a drain begins").expect("the reader lives on");
    }

    /// Waits for its end: the exit code and the time it took; `None` when it goes on.
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<(i32, Duration)> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return Some((status.code().unwrap_or(-1), started.elapsed()));
            }
            if started.elapsed() > within {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What panicked.
    pub(crate) fn panics(&self) -> Vec<String> {
        self.said.borrow().panics.clone()
    }

    /// How many lines the log has besides one for each call.
    pub(crate) fn lines(&self) -> u64 {
        self.said.borrow().lines
    }

    /// The most memory that it has held so far, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().map_or(u64::MAX, |kib| kib / 1024)
    }

    /// Processor time so far.
    fn processor_time(&self) -> Duration {
        let stat = self.proc("stat");
        // The program's name, in parentheses, may hold anything.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).unwrap_or_default();
        Duration::from_secs(1) * (ticks(11) + ticks(12)) / TICKS_A_SECOND
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }

    /// Waits until the processor is left alone for a while; says after what time that was.
    pub(crate) async fn idle(&self, within: Duration) -> Option<Duration> {
        const WINDOW: Duration = Duration::from_millis(150);
        let started = Instant::now();
        loop {
            let (at, before) = (started.elapsed(), self.processor_time());
            if at > within {
                return None;
            }
            tokio::time::sleep(WINDOW).await;
            let used = self.processor_time().saturating_sub(before);
            if used.as_secs_f64() < WINDOW.as_secs_f64() * IDLE_SHARE {
                return Some(at);
            }
        }
    }

    /// The status and the body of an admin page.
    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        tokio::time::timeout(Duration::from_secs(5), admin::page(self.admin, path)).await.ok()?.ok()
    }

    /// A metric that has no labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<u64> {
        let (_, page) = self.page("/metrics").await?;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// How many connections the gateway has on the admin port.
    pub(crate) fn admin_connections(&self) -> usize {
        open_connections(self.admin.port())
    }

    /// Waits until the gateway has no connection on the admin port; says how many it has in the end.
    pub(crate) async fn admin_settles(&self, within: Duration) -> usize {
        let started = Instant::now();
        loop {
            let now = self.admin_connections();
            if now == 0 || started.elapsed() > within {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a metric to have this value; says which it has in the end.
    pub(crate) async fn settles(&self, name: &str, value: u64, within: Duration) -> Option<u64> {
        let started = Instant::now();
        loop {
            let now = self.metric(name).await;
            if now == Some(value) || started.elapsed() > within {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log to its end, or until there is enough: a full pipe may hold a gateway up.
fn read(log: &mut Log, say: &watch::Sender<Said>, enough: impl Fn(&Said) -> bool) {
    for line in log.lines().map_while(Result::ok) {
        say.send_modify(|said| {
            if line.contains("\"call ended\"") {
                said.calls += 1;
                return;
            }
            if line.contains("panicked") {
                said.panics.push(line.clone());
            } else if line.contains("\"draining\"") {
                said.draining = true;
            } else if line.contains("\"serving\"") {
                said.serving = address(&line);
            }
            said.lines += 1;
            said.last = line;
        });
        if enough(&say.borrow()) {
            return;
        }
    }
    say.send_modify(|said| said.ended = true);
}

/// The address in the line "serving".
fn address(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("address")?.as_str()?.parse().ok()
}

/// How many connections the process that listens on this port of loopback has not closed yet.
fn open_connections(port: u16) -> usize {
    // ESTABLISHED, and CLOSE_WAIT: the peer has gone.
    const OPEN: [&str; 2] = ["01", "08"];
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = format!(":{port:04X}");
    let is_open = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        local.ends_with(&port) && OPEN.contains(&state)
    };
    sockets.lines().filter(is_open).count()
}

/// A port that nobody listens on now.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound")
}
