//! The program as a process: how it is started, its log, its signals, its end, and its use of memory, files and processor.

mod log;
mod process;

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
};

pub use self::log::Log;
use crate::wait::soon;

/// The file of a program. Only the test crate itself knows `CARGO_BIN_EXE_…` of its package.
pub trait Binary: fmt::Debug {
    /// The path of the file.
    const PATH: &'static str;
}

/// A running program, killed with the value. Its log is read line by line, and waits in a pipe until then.
#[derive(Debug)]
pub struct Program<B> {
    child: Child,
    id: u32,
    log: Log,
    binary: PhantomData<B>,
}

/// A program that has ended, and its output.
#[derive(Debug)]
pub struct Ended {
    /// `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The addresses that a gateway serves on.
#[derive(Debug, Clone)]
pub struct Serving {
    /// The gRPC port.
    pub address: String,
    /// The admin port, unless it is off.
    pub admin: Option<String>,
}

/// The arguments of a gateway on a port that the system chooses, with a log of JSON.
pub const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json"];

/// The arguments of an admin port that the system chooses.
pub const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

impl<B: Binary> Program<B> {
    /// The program as a command: an environment of these variables alone, its streams piped.
    pub fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(B::PATH);
        command
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let output = soon(Self::command(arguments, variables).output()).await.unwrap();
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::of(&mut Self::command(arguments, variables))
    }

    /// Starts it by a command that becomes it.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let id = child.id().expect("it has just been started");
        let log = Log::of(child.stderr.take().expect("it is piped"));
        Self { child, id, log, binary: PhantomData }
    }

    /// Starts a gateway without an admin port, waits until it serves, and returns its address.
    pub async fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> (Self, String) {
        let mut program = Self::start(&[&SERVE[..], &["--admin-listen", "off"], arguments].concat(), variables);
        let address = program.serving().await.address;
        (program, address)
    }

    /// Whether `serve` has this flag, so that suites run on versions without it too.
    pub fn knows(flag: &str) -> bool {
        static HELP: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());
        let mut help = HELP.lock().unwrap_or_else(PoisonError::into_inner);
        let help = help.entry(B::PATH).or_insert_with(|| {
            let output = std::process::Command::new(B::PATH).args(["serve", "--help"]).env_clear().output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        });
        help.contains(&format!("--{flag} "))
    }

    /// Those of the flags that `serve` has, as arguments.
    pub fn known(flags: &[(&str, &str)]) -> Vec<String> {
        let known = flags.iter().filter(|(flag, _)| Self::knows(flag));
        known.flat_map(|(flag, value)| [format!("--{flag}"), (*value).to_owned()]).collect()
    }

    /// Waits until the gateway serves.
    pub async fn serving(&mut self) -> Serving {
        let line: serde_json::Value = serde_json::from_str(&self.log_line(r#""serving""#).await).unwrap();
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        Serving { address: text("address").expect("the line has the address"), admin: text("admin") }
    }

    /// Waits for a line of the log with this part.
    pub async fn log_line(&mut self, part: &str) -> String {
        let mut last = String::new();
        soon(async {
            while let Some(line) = self.log.next().await {
                if line.contains(part) {
                    return line;
                }
                last = line;
            }
            panic!("the program has ended without a line of {part}, with: {last}")
        })
        .await
    }

    /// The log from here on, for a reader of its own.
    pub fn take_log(&mut self) -> Log {
        self.log.take()
    }

    /// Everything that it logs from here to its end.
    pub async fn rest_of_log(&mut self) -> String {
        soon(self.log.rest()).await
    }

    /// Does some work, asks the program to stop, and returns everything that it logs meanwhile.
    pub async fn log_of(&mut self, work: impl Future<Output = ()>) -> String {
        let id = self.id;
        let work = async {
            work.await;
            send(id, "TERM").await;
        };
        // At the same time, as a full pipe would delay the program.
        let ((), log) = tokio::join!(work, self.log.rest());
        log
    }

    /// Its standard output, up to the line with this part.
    pub async fn printed_until(&mut self, part: &str) -> String {
        let mut lines = BufReader::new(self.take_stdout().unwrap()).lines();
        let mut printed = String::new();
        soon(async {
            while !printed.contains(part) {
                printed += &lines.next_line().await.unwrap().expect("it still prints");
                printed.push('\n');
            }
        })
        .await;
        // Read on: a program with a closed output ends.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        printed
    }

    /// The far end of its standard output, if that is a pipe.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends a signal.
    pub async fn signal(&self, name: &str) {
        assert!(self.child.id().is_some(), "the program still runs");
        send(self.id, name).await;
    }

    /// Waits for its end, at most this long, and reads none of its output.
    pub async fn ended_unread(&mut self, within: Duration) -> ExitStatus {
        self.ends(within).await.expect("the program ends in time")
    }

    /// Waits for its end, at most this long.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        // A full pipe would delay the program.
        let mut log = self.take_log();
        let (status, _) = tokio::join!(self.ended_unread(within), log.rest());
        status
    }

    /// Waits for its end; `None` if it still runs after this time.
    pub async fn ends(&mut self, within: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(within, self.child.wait()).await.ok().map(Result::unwrap)
    }
}

async fn send(id: u32, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, &id.to_string()]).status().await.unwrap();
    assert!(status.success(), "the program still runs");
}
