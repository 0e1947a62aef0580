//! The gateway as a process: started with the flags that it knows, asked what it holds, and ended.

use std::{
    process::Stdio,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};
use tokio_util::task::AbortOnDropHandle;

use super::{clock::Lag, request::TOKEN, rng::free_port};

const PROGRAM: &str = env!("CARGO_BIN_EXE_apig-grpc-gateway");

/// Calls are not logged: the log must not be what is measured.
const LOG: &str = "warn,apig_grpc_gateway::server=info,apig_grpc_gateway::server::inbound=warn";

/// Whether `serve` has this flag.
pub(crate) fn knows(flag: &str) -> bool {
    static HELP: OnceLock<String> = OnceLock::new();
    let help = HELP.get_or_init(|| {
        let output = std::process::Command::new(PROGRAM).args(["serve", "--help"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    help.contains(&format!("--{flag} "))
}

/// Asks the admin port.
async fn ask(admin: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Asks for what costs nothing, again and again: how long that takes is how far behind the gateway is.
async fn ping(admin: String, lag: Arc<Lag>) {
    loop {
        let began = Instant::now();
        let _ = tokio::time::timeout(Duration::from_secs(5), ask(&admin, "/livez")).await;
        lag.note(began.elapsed());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    process: u32,
    pub(crate) address: String,
    admin: String,
    /// Open files when it had served nothing.
    pub(crate) files_at_rest: usize,
    pinging: Option<AbortOnDropHandle<()>>,
}

impl Gateway {
    /// Starts one before this upstream. Flags that the program does not know are left out.
    pub(crate) async fn start(upstream: std::net::SocketAddr, flags: &[(&str, &str)], lag: &Arc<Lag>) -> Self {
        Self::start_before(&format!("http://{upstream}"), flags, lag).await
    }

    /// The same for an upstream of any scheme.
    pub(crate) async fn start_before(upstream: &str, flags: &[(&str, &str)], lag: &Arc<Lag>) -> Self {
        let admin = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(PROGRAM);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", &admin, "--log-format", "json"])
            .args(["--log-level", LOG, "--upstream", upstream])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (flag, value) in flags.iter().filter(|(flag, _)| knows(flag)) {
            command.args([&format!("--{flag}"), *value]);
        }
        if flags.contains(&("credentials", "token")) && flags.iter().all(|(flag, _)| *flag != "token-file") {
            command.env("APIG_GATEWAY_TOKEN", TOKEN);
        }
        let mut child = command.spawn().unwrap();
        let process = child.id().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let serving = async {
            loop {
                let line = log.next_line().await.unwrap().expect("the gateway starts");
                if line.contains("\"serving\"") {
                    return line;
                }
                println!("gateway: {line}");
            }
        };
        let line = tokio::time::timeout(Duration::from_secs(20), serving).await.expect("the gateway starts in time");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = line["address"].as_str().unwrap().to_owned();
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                if !line.contains("\"INFO\"") {
                    println!("gateway: {line}");
                }
            }
        });
        let mut gateway = Self { child, process, address, admin, files_at_rest: 0, pinging: None };
        let _ = gateway.gauge("apig_gateway_connections").await;
        // The look above has opened a connection, which needs a moment to go.
        let mut least = gateway.files();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            least = least.min(gateway.files());
        }
        gateway.files_at_rest = least;
        gateway.pinging = Some(AbortOnDropHandle::new(tokio::spawn(ping(gateway.admin.clone(), Arc::clone(lag)))));
        gateway
    }

    /// One measure without labels.
    pub(crate) async fn gauge(&self, name: &str) -> Option<u64> {
        let text = tokio::time::timeout(Duration::from_secs(5), ask(&self.admin, "/metrics")).await.ok()?.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// How many files it has open.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process)).map_or(0, Iterator::count)
    }

    /// The memory that it holds, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    /// Asks it to stop; says its exit code, and how long it took.
    pub(crate) async fn stop(mut self) -> (Option<i32>, Duration) {
        self.pinging = None;
        let began = Instant::now();
        let classify = Command::new("kill").args(["-s", "TERM", &self.process.to_string()]).status().await.unwrap();
        assert!(classify.success(), "the gateway still runs");
        let ended = tokio::time::timeout(Duration::from_secs(40), self.child.wait()).await;
        (ended.ok().and_then(|status| status.unwrap().code()), began.elapsed())
    }
}
