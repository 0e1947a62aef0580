//! The progress of a run: one line on a terminal, drawn again as it changes. A library's progress bar brought floating-point
//! functions that cost every gateway 0.3 MiB of idle memory.

use std::{
    cell::Cell,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// The least time between two drawings.
const INTERVAL: Duration = Duration::from_millis(100);

/// The length of the bar.
const BAR: usize = 30;

/// Deletes the current line of a terminal.
const CLEAR: &str = "\r\x1b[2K";

/// The line of a run.
#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
    begun: Instant,
    drawn: Cell<Option<Instant>>,
    done: Cell<usize>,
    total: Cell<usize>,
}

impl Progress {
    /// Shown where standard error is a terminal.
    pub(super) fn of(total: usize) -> Self {
        let (begun, is_shown) = (Instant::now(), io::stderr().is_terminal());
        Self { is_shown, begun, drawn: Cell::default(), done: Cell::default(), total: Cell::new(total) }
    }

    /// So many of the total were done before this run: they would make the rest look fast.
    pub(super) fn exclude(&self, count: usize) {
        self.total.set(self.total.get().saturating_sub(count));
        self.draw();
    }

    pub(super) fn advance(&self, count: usize) {
        self.done.set(self.done.get() + count);
        self.draw();
    }

    /// Does something that writes to standard error, above the line.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.clear();
        write();
        self.drawn.set(None);
        self.draw();
    }

    pub(super) fn clear(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }

    fn draw(&self) {
        let now = Instant::now();
        let is_due = self.drawn.get().is_none_or(|drawn| now.duration_since(drawn) >= INTERVAL);
        if self.is_shown && is_due {
            self.drawn.set(Some(now));
            let width = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| usize::from(width.0));
            let line = line(self.done.get(), self.total.get(), now.duration_since(self.begun));
            // A line that wraps could not be deleted.
            let line: String = line.chars().take(width.saturating_sub(1)).collect();
            let _ = write!(io::stderr(), "{CLEAR}{line}");
        }
    }
}

/// Bar, numbers, rate and the time left, after `took`.
fn line(done: usize, total: usize, took: Duration) -> String {
    let filled = (BAR * done).checked_div(total).unwrap_or(BAR).min(BAR);
    let mut line = format!("{}{} {done} of {total} domains", "#".repeat(filled), "-".repeat(BAR - filled));
    let millis = took.as_millis().max(1);
    if done > 0 {
        let (done, total) = (done as u128, total as u128);
        let rate = done * 1000 / millis;
        let left = total.saturating_sub(done) * millis / done / 1000;
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX));
        let _ = write!(line, ", {rate}/s, {} left", humantime::format_duration(left));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_share_the_rate_and_the_time_left() {
        let bar = |filled| format!("{}{}", "#".repeat(filled), "-".repeat(BAR - filled));
        let seconds = Duration::from_secs;
        assert_eq!(line(0, 300, seconds(0)), format!("{} 0 of 300 domains", bar(0)));
        assert_eq!(line(100, 300, seconds(50)), format!("{} 100 of 300 domains, 2/s, 1m 40s left", bar(10)));
        assert_eq!(line(300, 300, seconds(150)), format!("{} 300 of 300 domains, 2/s, 0s left", bar(30)));
        // Of an empty run, and of one that found more than it had counted.
        assert_eq!(line(0, 0, seconds(1)), format!("{} 0 of 0 domains", bar(30)));
        assert_eq!(line(5, 3, seconds(1)), format!("{} 5 of 3 domains, 5/s, 0s left", bar(30)));
    }
}
