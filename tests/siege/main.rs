//! The program under siege: HTTP/2 attacks, drains, rolling swaps and overload, each against a gateway in a process of
//! its own before a cloud of a few lines.
//!
//!     cargo test --test siege -- [--seconds S] [--cell S] [--rounds R] [--calls N] [PART OF A NAME]...
//!
//! `--seconds` is the time of each attack, and of each stretch of load, 0.6 if not given; `--cell` that of each cell of the
//! table, a sixth of it if not given; `--rounds` how often a drain is repeated; `--calls` how many calls each sink must
//! survive, 2,000 if not given.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that prints what it finds"
)]

mod age;
mod attack;
mod caller;
mod drain;
mod gateway;
mod honest;
mod load;
mod overload;
mod rotation;
mod sinks;
mod swap;
mod table;
mod transport;
mod upstream;
mod wire;

use std::{process::ExitCode, time::Duration};

use testkit::{report::Report, thread::runtime};

use crate::{transport::Certificates, upstream::Upstream};

/// How much more time a debug build is given, on a machine that may be busy: its figures say little.
const LENIENCE: u32 = if cfg!(debug_assertions) { 10 } else { 1 };

/// By when a probe has to be answered: the shortest timeout that orchestrators use.
const PROBE_TIMEOUT: Duration = Duration::from_secs(LENIENCE as u64);

/// The arguments.
#[derive(Debug)]
struct Plan {
    time: Duration,
    /// The time of each cell of the table.
    cell: Duration,
    rounds: u32,
    /// Calls before each sink.
    calls: u64,
    /// Parts of names; none means all.
    parts: Vec<String>,
}

impl Plan {
    /// Reads the arguments; `None` when there is nothing to run.
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let time = Duration::from_millis(600);
        let mut plan = Self { time, cell: time / 6, rounds: 2, calls: 2_000, parts: Vec::new() };
        let mut cell = None;
        let seconds = |flag: &str, text: Option<String>, least: f64| {
            let seconds = text.and_then(|text| text.parse().ok()).filter(|seconds| (least..=3_600.0).contains(seconds));
            seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{flag} takes a number, {least} to 3600"))
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--seconds" => plan.time = seconds("--seconds", arguments.next(), 0.5)?,
                "--cell" => cell = Some(seconds("--cell", arguments.next(), 0.05)?),
                "--rounds" => {
                    let rounds = arguments.next().and_then(|text| text.parse().ok());
                    plan.rounds =
                        rounds.filter(|rounds| (1..=1_000).contains(rounds)).ok_or("--rounds takes a number")?;
                }
                "--calls" => {
                    let calls = arguments.next().and_then(|text| text.parse().ok());
                    plan.calls =
                        calls.filter(|calls| (1..=10_000_000).contains(calls)).ok_or("--calls takes a number")?;
                }
                // Arguments that cargo and its kin pass to every test program.
                "--list" | "--ignored" => return Ok(None),
                "--test-threads" | "--format" | "--color" | "--skip" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                part => plan.parts.push(part.to_owned()),
            }
        }
        plan.cell = cell.unwrap_or(plan.time / 6);
        Ok(Some(plan))
    }

    fn wants(&self, name: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|part| name.contains(part.as_str()))
    }
}

fn main() -> ExitCode {
    let plan = match Plan::read(std::env::args().skip(1)) {
        Ok(Some(plan)) => plan,
        Ok(None) => return ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("siege: {fault}");
            return ExitCode::from(2);
        }
    };
    let well = runtime().block_on(run(&plan));
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(plan: &Plan) -> bool {
    let upstream = Upstream::start();
    let report = Report::default();
    let certificates = Certificates::new();
    for attack in attack::all() {
        if plan.wants(&attack::name(&attack)) {
            let quiet = (plan.time / 4).min(Duration::from_secs(3));
            report.add(&attack::check(attack, &upstream, &certificates, plan.time, quiet).await);
        }
    }
    table::run(plan, &upstream, &certificates, &report).await;
    for sink in sinks::Sink::ALL {
        if plan.wants(sink.name()) {
            report.add(&sinks::check(sink, &upstream, plan.calls).await);
        }
    }
    for kind in drain::Kind::ALL {
        if plan.wants(kind.name()) {
            report.add(&drain::check(kind, &upstream, plan.rounds).await);
        }
    }
    if plan.wants(swap::NAME) {
        report.add(&swap::check(&upstream, plan.rounds).await);
    }
    if plan.wants(overload::NAME) {
        report.add(&overload::check(&upstream, plan.time).await);
    }
    if plan.wants(overload::LATE) {
        report.add(&overload::check_late(&upstream).await);
    }
    if plan.wants(overload::TRAILERS) {
        report.add(&overload::check_trailers(&upstream).await);
    }
    if plan.wants(rotation::NAME) {
        report.add(&rotation::check(&upstream, plan.time).await);
    }
    if plan.wants(age::NAME) {
        report.add(&age::check(&upstream, plan.time).await);
    }
    report.end()
}
