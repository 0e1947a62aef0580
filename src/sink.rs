//! Sinks for lines: each has a bounded buffer in memory and a thread that writes it to a descriptor. A stalled reader blocks
//! only that thread; appending a line never blocks.

use std::{
    fs::File,
    io,
    os::fd::BorrowedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tracing::{error, info};

use self::output::Output;

mod output;

/// Minimum interval between reports of lost lines.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// The capacity that an idle sink keeps in each of its two buffers.
const KEPT: usize = 64 * 1024;

/// The largest batch that lines are collected for.
const BATCH: usize = 32 * 1024;

/// All sinks of the process, for the flush at exit.
static SINKS: Mutex<Vec<Weak<Queue>>> = Mutex::new(Vec::new());

/// The destination of a sink. Its functions run on the sink's thread.
pub(crate) trait Outlet: Send + 'static {
    /// The name of the sink in logs, and of its thread.
    const NAME: &'static str;

    /// The size of the buffer in bytes.
    const LIMIT: usize;

    /// The time for which the thread collects lines before it writes them.
    const LINGER: Duration;

    /// Opens the destination, initially and on each reopen.
    ///
    /// # Errors
    ///
    /// It can't be opened.
    fn open(&self) -> io::Result<File>;

    /// Handles a line that could not be written.
    fn failed(&self, line: &[u8], fault: &io::Error);

    /// Reports lines that were lost since the last report.
    fn report(&self, lines: u64);
}

/// A sink. Dropping it does not block: its thread writes the buffered lines and ends.
#[derive(Debug)]
pub(crate) struct Sink(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    name: &'static str,
    limit: usize,
    linger: Duration,
    /// The size of a batch.
    batch: usize,
    state: Mutex<State>,
    /// Wakes the thread: there is work.
    work: Condvar,
    /// Wakes [`flush`](Queue::flush): a buffer has been written.
    written: Condvar,
    lost: Counter,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    lines: Vec<u8>,
    /// Bytes that the thread has taken and not yet written.
    writing: usize,
    /// The position in `lines` at which the destination is reopened.
    reopen_at: Option<usize>,
    /// Lost lines that have not been reported.
    unreported: u64,
    /// The thread waits until this many bytes of lines are there; `None`: it does not wait. A wake-up costs a system call, so
    /// it is skipped otherwise.
    waits_for: Option<usize>,
    flushing: usize,
    is_closed: bool,
}

/// A batch for the thread; the lines are in its buffer.
struct Work {
    reopen_at: Option<usize>,
}

impl Sink {
    /// Opens the destination and starts the thread. `lost` counts lost lines.
    ///
    /// # Errors
    ///
    /// The destination can't be opened, or no thread can be started.
    pub(crate) fn start<O: Outlet>(outlet: O, lost: Counter) -> io::Result<Self> {
        let file = outlet.open()?;
        let queue = Arc::new(Queue {
            name: O::NAME,
            limit: O::LIMIT,
            linger: O::LINGER,
            batch: BATCH.min(O::LIMIT / 2),
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            lost,
        });
        let thread = Arc::clone(&queue);
        std::thread::Builder::new()
            .name(O::NAME.into())
            .spawn(move || thread.write_until_closed(&outlet, Output::to(file)))?;
        let mut sinks = SINKS.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|sink| sink.strong_count() > 0);
        sinks.push(Arc::downgrade(&queue));
        Ok(Self(queue))
    }

    /// Appends a line, which has to end with a line feed. Returns `false` if the buffer is full: the line is lost and counted.
    pub(crate) fn append(&self, line: &[u8]) -> bool {
        let mut state = self.0.lock();
        let buffered = state.lines.len() + state.writing;
        // An empty buffer takes a line longer than the limit.
        if buffered > 0 && buffered + line.len() > self.0.limit {
            state.unreported += 1;
            self.0.lost.inc();
            return false;
        }
        state.lines.extend_from_slice(line);
        self.0.wake(state);
        true
    }

    /// Reopens the destination for all later lines.
    pub(crate) fn reopen(&self) {
        let mut state = self.0.lock();
        let at = state.lines.len();
        state.reopen_at.get_or_insert(at);
        self.0.wake(state);
    }

    /// Waits until every line has been written or lost; returns `false` after the timeout.
    #[cfg(test)]
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        self.0.flush(Instant::now() + timeout)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        self.0.wake(state);
    }
}

/// Waits until all sinks of the process have written their lines, or until the timeout. Called at exit, which does not join
/// the threads because one may be blocked for ever.
pub(crate) fn flush_all(timeout: Duration) {
    let now = Instant::now();
    let sinks = SINKS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // The first sink is the log, flushed last because flushing the others may log.
    for (place, queue) in sinks.iter().enumerate().rev() {
        let Some(queue) = queue.upgrade() else { continue };
        let share = if place == 0 { timeout } else { timeout.mul_f64(0.8) };
        if !queue.flush(now + share) && place > 0 {
            let bytes = queue.unwritten();
            error!(bytes, "{} not flushed within the timeout; its last lines are lost", queue.name);
        }
    }
}

/// Duplicates the descriptor of a standard stream. Writes to the duplicate do not take the standard library's lock, which
/// would block the exit of the process.
pub(crate) fn duplicate(stream: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(stream.try_clone_to_owned()?))
}

impl State {
    /// Whether lines shall be written at once.
    fn is_urgent(&self) -> bool {
        self.flushing > 0 || self.is_closed || self.reopen_at.is_some()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread if it waits for this.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let is_due = state.waits_for.is_some_and(|bytes| state.lines.len() >= bytes || state.is_urgent());
        if is_due {
            state.waits_for = None;
        }
        drop(state);
        if is_due {
            self.work.notify_one();
        }
    }

    fn flush(&self, end: Instant) -> bool {
        let mut state = self.lock();
        state.flushing += 1;
        if state.waits_for.take().is_some() {
            self.work.notify_one();
        }
        let left = end.saturating_duration_since(Instant::now());
        let busy = |state: &mut State| state.lines.len() + state.writing > 0;
        let (mut state, waited) =
            self.written.wait_timeout_while(state, left, busy).unwrap_or_else(PoisonError::into_inner);
        state.flushing -= 1;
        !waited.timed_out()
    }

    fn unwritten(&self) -> usize {
        let state = self.lock();
        state.lines.len() + state.writing
    }

    /// The main loop of the thread.
    fn write_until_closed<O: Outlet>(&self, outlet: &O, mut output: Output<File>) {
        let mut batch = Vec::new();
        let mut reported: Option<Instant> = None;
        while let Some(Work { reopen_at }) = self.next(&mut batch, reported) {
            let (before, after) = batch.split_at(reopen_at.unwrap_or(batch.len()));
            let mut succeeded = self.write(outlet, &mut output, before);
            if reopen_at.is_some() {
                match outlet.open() {
                    Ok(file) => {
                        output = Output::to(file);
                        info!("{} reopened", O::NAME);
                    }
                    Err(fault) => {
                        error!(error = %fault, "can't reopen {}; the old file stays in use", O::NAME);
                    }
                }
                succeeded &= self.write(outlet, &mut output, after);
            }
            if succeeded && is_due(reported) {
                let lines = std::mem::take(&mut self.lock().unreported);
                if lines > 0 {
                    outlet.report(lines);
                    reported = Some(Instant::now());
                }
            }
        }
    }

    /// Waits for work and takes the buffer; returns `None` when the sink is closed and empty. The buffer is empty if only a
    /// report is due.
    fn next(&self, batch: &mut Vec<u8>, reported: Option<Instant>) -> Option<Work> {
        batch.clear();
        batch.shrink_to(KEPT);
        let mut state = self.lock();
        state.writing = 0;
        if state.flushing > 0 {
            self.written.notify_all();
        }
        while state.lines.is_empty() && state.reopen_at.is_none() {
            if state.is_closed {
                return None;
            }
            state.waits_for = Some(0);
            state = match reported.filter(|_| state.unreported > 0) {
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = (at + REPORT_EVERY).saturating_duration_since(Instant::now());
                    let (state, waited) = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() {
                        return Some(Work { reopen_at: None });
                    }
                    state
                }
            };
        }
        if !self.linger.is_zero() {
            // A write for each line would cost as much as the call that the line is about.
            state.waits_for = Some(self.batch);
            let is_waiting = |state: &mut State| state.lines.len() < self.batch && !state.is_urgent();
            let waited = self.work.wait_timeout_while(state, self.linger, is_waiting);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waits_for = None;
        std::mem::swap(&mut state.lines, batch);
        state.writing = batch.len();
        Some(Work { reopen_at: state.reopen_at.take() })
    }

    /// Writes lines; returns whether all of them were written.
    fn write<O: Outlet>(&self, outlet: &O, output: &mut Output<File>, lines: &[u8]) -> bool {
        let Err((written, fault)) = output.write_lines(lines) else { return true };
        let mut failed = 0;
        for line in lines.get(written..).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            failed += 1;
            outlet.failed(line, &fault);
        }
        self.lost.inc_by(failed);
        self.lock().unreported += failed;
        false
    }
}

/// Whether enough time has passed for the next report.
fn is_due(reported: Option<Instant>) -> bool {
    reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY)
}

#[cfg(test)]
mod tests;
