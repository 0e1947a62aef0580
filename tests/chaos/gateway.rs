//! The gateway under chaos: started with those of the flags that it has, pinged for its delay, and ended.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::{
    admin,
    program::{self, ADMIN, Log, SERVE},
    wait::settles,
};
use tokio_util::task::AbortOnDropHandle;

use super::{clock::Lag, request::TOKEN};

/// Calls are not logged: the log must not be part of the measurement.
const LOG: &str = "warn,apig_grpc_gateway::server=info,apig_grpc_gateway::server::inbound=warn";

/// The file of the gateway.
#[derive(Debug)]
pub(crate) struct Binary;

impl program::Binary for Binary {
    const PATH: &'static str = env!("CARGO_BIN_EXE_apig-grpc-gateway");
}

type Program = program::Program<Binary>;

/// Whether `serve` has this flag.
pub(crate) fn knows(flag: &str) -> bool {
    Program::knows(flag)
}

/// Probes the gateway again and again: the time of a probe is its delay.
async fn ping(admin: String, lag: Arc<Lag>) {
    loop {
        let began = Instant::now();
        let _ = admin::live(&admin, Duration::from_secs(5)).await;
        lag.note(began.elapsed());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Prints warnings and errors.
async fn print(mut log: Log) {
    while let Some(line) = log.next().await {
        if !line.contains("\"INFO\"") {
            println!("gateway: {line}");
        }
    }
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    program: Program,
    pub(crate) address: String,
    admin: String,
    /// The number of open files before the first call.
    pub(crate) files_at_rest: usize,
    pinging: Option<AbortOnDropHandle<()>>,
}

impl Gateway {
    /// Starts one before this upstream. Flags that the program does not have are left out.
    pub(crate) async fn start(upstream: SocketAddr, flags: &[(&str, &str)], lag: &Arc<Lag>) -> Self {
        Self::start_before(&format!("http://{upstream}"), flags, lag).await
    }

    /// The same for an upstream of any scheme.
    pub(crate) async fn start_before(upstream: &str, flags: &[(&str, &str)], lag: &Arc<Lag>) -> Self {
        // Unknown outcomes are looked up in a part of their own; a look-up of every other call would hide its end.
        let has_read_back = flags.iter().any(|(flag, _)| *flag == "read-back");
        let usual = [("log-level", LOG), ("upstream", upstream), ("read-back", "false")];
        let usual = if has_read_back { &usual[..2] } else { &usual[..] };
        let flags = Program::known(&[usual, flags].concat());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let has_own_token = flags.windows(2).any(|pair| pair == ["--credentials", "token"]);
        let token = (has_own_token && !flags.contains(&"--token-file")).then_some(("APIG_GATEWAY_TOKEN", TOKEN));
        let mut program = Program::start(&[&SERVE[..], &ADMIN, &flags].concat(), token.as_slice());
        let serving = program.serving().await;
        tokio::spawn(print(program.take_log()));
        let (address, admin) = (serving.address, serving.admin.expect("the admin port is on"));
        let mut gateway = Self { program, address, admin, files_at_rest: 0, pinging: None };
        let _ = gateway.metric("apig_gateway_connections").await;
        // This query has opened a connection, which needs a moment to go.
        let mut least = gateway.files();
        let rest = Duration::from_millis(100);
        settles(rest, async || least = least.min(gateway.files()), |()| false).await;
        gateway.files_at_rest = least;
        gateway.pinging = Some(AbortOnDropHandle::new(tokio::spawn(ping(gateway.admin.clone(), Arc::clone(lag)))));
        gateway
    }

    /// A metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<u64> {
        admin::metric(&self.admin, name).await
    }

    /// All metrics as text.
    pub(crate) async fn metrics(&self) -> String {
        admin::page(&self.admin, "/metrics").await.expect("the admin port responds").1
    }

    /// The number of files that it has open.
    pub(crate) fn files(&self) -> usize {
        self.program.open_files()
    }

    /// The memory that it holds, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        self.program.memory()
    }

    /// Asks it to stop, and returns its exit code and the time until its end.
    pub(crate) async fn stop(mut self) -> (Option<i32>, Duration) {
        self.pinging = None;
        let began = Instant::now();
        self.program.signal("TERM").await;
        let ended = self.program.ends(Duration::from_secs(40)).await;
        (ended.and_then(|status| status.code()), began.elapsed())
    }
}
