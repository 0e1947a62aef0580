//! The program in a process of its own.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use super::soon;

/// A running program whose log is read line by line.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The program as a command, its streams piped.
pub(crate) fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apig-grpc-gateway"));
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

impl Program {
    /// Runs it to its end.
    pub(crate) async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let output = soon(command(arguments, variables).output()).await.unwrap();
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::of(&mut command(arguments, variables))
    }

    /// Starts it by a command that becomes it.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log }
    }

    /// Starts `serve` and waits until it serves; says where.
    pub(crate) async fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> (Self, String) {
        let listen = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--log-format", "json"];
        let mut program = Self::start(&[&listen[..], arguments].concat(), variables);
        let line = program.log_line("serving").await;
        let address = serde_json::from_str::<serde_json::Value>(&line).unwrap()["address"].as_str().unwrap().to_owned();
        (program, address)
    }

    /// Waits for a line of the log that has this in it.
    pub(crate) async fn log_line(&mut self, part: &str) -> String {
        soon(async {
            loop {
                let line = self.log.next_line().await.unwrap().expect("the program still runs");
                if line.contains(part) {
                    return line;
                }
            }
        })
        .await
    }

    /// What it prints, up to the line that has this in it.
    pub(crate) async fn printed_until(&mut self, part: &str) -> String {
        let mut lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        soon(async {
            while !printed.contains(part) {
                printed += &lines.next_line().await.unwrap().expect("it still prints");
                printed.push('\n');
            }
        })
        .await;
        // Read on: a program whose output nobody takes ends.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        printed
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("the program still runs").to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    /// The most memory that it has held so far, in KiB.
    pub(crate) fn peak_memory(&self) -> usize {
        let id = self.child.id().expect("the program still runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Everything that it logs from here to its end.
    pub(crate) async fn rest_of_log(&mut self) -> String {
        let mut rest = String::new();
        soon(self.log.get_mut().read_to_string(&mut rest)).await.unwrap();
        rest
    }

    /// Does some work, asks it to stop, and gives everything that it logs meanwhile: a full pipe would hold it up.
    pub(crate) async fn log_of(&mut self, work: impl Future<Output = ()>) -> String {
        let id = self.child.id().expect("the program still runs").to_string();
        let work = async {
            work.await;
            assert!(Command::new("kill").args(["-s", "TERM", &id]).status().await.unwrap().success());
        };
        let mut log = String::new();
        let ((), read) = tokio::join!(work, self.log.get_mut().read_to_string(&mut log));
        read.unwrap();
        log
    }

    /// Waits for its end, at most this long, and reads none of its output.
    pub(crate) async fn ended_unread(&mut self, within: Duration) -> ExitStatus {
        tokio::time::timeout(within, self.child.wait()).await.expect("the program ends in time").unwrap()
    }

    /// Waits for its end, at most this long.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        // A full pipe would hold the program up.
        let mut rest = Vec::new();
        let drain = self.log.get_mut().read_to_end(&mut rest);
        let (status, _) = tokio::join!(tokio::time::timeout(within, self.child.wait()), drain);
        status.expect("the program ends in time").unwrap()
    }
}
