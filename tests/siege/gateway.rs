//! The gateway as a process: where it serves, what it says, what it uses, how it ends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::sync::watch;

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
    /// Lines that tell of no call.
    lines: u64,
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
}

impl Gateway {
    /// Starts one before this upstream and waits until it serves.
    pub(crate) async fn start(upstream: SocketAddr, flags: &[&str]) -> Self {
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
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway's program can be run");
        let log = child.stderr.take().expect("it is piped");
        let (say, mut said) = watch::channel(Said::default());
        std::thread::spawn(move || read(log, &say));
        let serving = tokio::time::timeout(PATIENCE, said.wait_for(|said| said.serving.is_some() || said.ended)).await;
        let serving = serving.ok().and_then(|said| said.ok()?.serving);
        let Some(address) = serving else {
            let _ = child.kill();
            panic!("the gateway does not serve: {}", said.borrow().last);
        };
        Self { child, address, admin, said }
    }

    /// Sends SIGTERM and waits until the log says that the drain has begun.
    pub(crate) async fn terminate(&mut self) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &id]).status().expect("there is a kill program");
        assert!(told.success(), "the gateway has gone before it was told to");
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
        const WINDOW: Duration = Duration::from_millis(300);
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
    pub(crate) fn page(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.admin, Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// A metric that has no labels.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let (_, page) = self.page("/metrics")?;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits for a metric to have this value; says which it has in the end.
    pub(crate) async fn settles(&self, name: &str, value: u64, within: Duration) -> Option<u64> {
        let started = Instant::now();
        loop {
            let now = self.metric(name);
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

/// Reads the log to its end: a full pipe would hold the gateway up.
fn read(log: ChildStderr, say: &watch::Sender<Said>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        if line.contains("\"call ended\"") {
            continue;
        }
        say.send_modify(|said| {
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
    }
    say.send_modify(|said| said.ended = true);
}

/// The address in the line "serving".
fn address(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("address")?.as_str()?.parse().ok()
}

/// A port that nobody listens on now.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound")
}
