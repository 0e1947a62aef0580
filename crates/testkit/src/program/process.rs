//! The use of memory, files and processor by a program, as `/proc` has it.

use std::time::{Duration, Instant};

use super::{Binary, Program};

/// The clock of processor time in `/proc`.
const TICKS_PER_SECOND: u32 = 100;

/// A program that uses less than this share of one processor is idle.
const IDLE_SHARE: f64 = 0.1;

impl<B: Binary> Program<B> {
    /// The memory that it holds, in KiB; the highest number after its end.
    pub fn memory(&self) -> u64 {
        self.kib("VmRSS:")
    }

    /// The most memory that it has held so far, in KiB; the highest number after its end.
    pub fn peak_memory(&self) -> u64 {
        self.kib("VmHWM:")
    }

    fn kib(&self, key: &str) -> u64 {
        let status = self.proc("status");
        let value = status.lines().find_map(|line| line.strip_prefix(key));
        value.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(u64::MAX)
    }

    /// The number of files that it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id)).map_or(0, Iterator::count)
    }

    /// Its processor time so far.
    fn processor_time(&self) -> Duration {
        let stat = self.proc("stat");
        // The name of the program, in parentheses, may contain spaces.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).unwrap_or_default();
        Duration::from_secs(1) * (ticks(11) + ticks(12)) / TICKS_PER_SECOND
    }

    /// Waits until it uses the processor no more, and returns the time until then; `None` if it still does after `within`.
    pub async fn idle(&self, within: Duration) -> Option<Duration> {
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

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.id)).unwrap_or_default()
    }
}
