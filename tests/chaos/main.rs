//! The gateway under everything that can go wrong at once: an upstream that breaks each response in its own way, callers
//! that leave, deadlines that pass. The script of each call determines the ends that are allowed for it.
//!
//! `cargo test --test chaos -- --calls 200000 --seed 7`; `--only N` repeats one call of a seed, `--configuration NAME` runs
//! one configuration alone.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that meets them has failed, and tells what it found"
)]

mod cancels;
mod chaos;
mod clock;
mod driver;
mod fault;
mod gateway;
mod leak;
mod ledger;
mod metrics;
mod model;
mod plan;
mod read_back;
mod refusal;
mod request;
mod scene;
mod storm;
mod timing;
mod token;
mod upstream;
mod wire;

use std::{process::ExitCode, sync::Arc, time::Instant};

use testkit::{report::Report, thread::runtime};

use self::clock::Lag;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) calls: u64,
    pub(crate) seed: u64,
    /// This call alone.
    pub(crate) only: Option<u64>,
    /// The configuration with this name alone.
    configuration: Option<String>,
}

impl Arguments {
    /// Whether somebody waits for it, as at the end of `cargo test`.
    pub(crate) fn is_short(&self) -> bool {
        self.calls < 10_000
    }

    /// `None` when the test runner wants other tests, or a list of them.
    fn read() -> Option<Self> {
        let mut arguments = Self { calls: 2_000, seed: 1, only: None, configuration: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if word == "--configuration" {
                arguments.configuration = Some(words.next().expect("a name follows"));
                continue;
            }
            let mut number = || words.next().and_then(|text| text.parse().ok()).expect("a number follows");
            match word.as_str() {
                "--calls" => arguments.calls = number(),
                "--seed" => arguments.seed = number(),
                "--only" => arguments.only = Some(number()),
                "--list" => return None,
                // The standard harness has flags that mean nothing here.
                flag if flag.starts_with('-') => {}
                name if "chaos".contains(name) => {}
                _ => return None,
            }
        }
        Some(arguments)
    }
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read() else { return ExitCode::SUCCESS };
    let well = runtime().block_on(run(&arguments));
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(arguments: &Arguments) -> bool {
    let began = Instant::now();
    let lag = Arc::new(Lag::default());
    tokio::spawn(Arc::clone(&lag).watch());
    let report = Report::default();
    println!("chaos: {} calls, seed {}", arguments.calls, arguments.seed);
    let is_wanted = |name| arguments.configuration.as_deref().is_none_or(|wanted| wanted == name);
    let configurations = chaos::CONFIGURATIONS.iter().chain([&chaos::NEVER_TWICE]);
    let configurations = configurations.filter(|configuration| is_wanted(configuration.name));
    let runs = configurations.map(|configuration| chaos::run(configuration, arguments, &lag, &report));
    let read_back = async {
        if is_wanted(read_back::NAME) {
            read_back::run(arguments, &lag, &report).await;
        }
    };
    if arguments.is_short() {
        // They mostly wait.
        futures_util::future::join(futures_util::future::join_all(runs), read_back).await;
    } else {
        for run in runs {
            lag.reset();
            run.await;
        }
        lag.reset();
        read_back.await;
    }
    if arguments.configuration.is_none() {
        storm::run(arguments, &lag, &report).await;
        timing::run(arguments, &lag, &report).await;
        cancels::run(arguments, &lag, &report).await;
    }
    println!("\n{:.1?} in all", began.elapsed());
    report.end()
}
