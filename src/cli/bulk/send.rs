//! Sends batches: each noted in the journal before and after, repeated only when it certainly changed nothing, and none
//! after an interruption.

use std::{cell::RefCell, io, pin::pin, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    Action, Bindings, Report, State,
    input::{Entry, Group},
    journal::{Journal, Outcome, Past},
    progress::Progress,
};
use crate::{
    cli::{Failure, client::Gateway, output::CallOutput, pages, serve::Signals},
    log,
    pb::{AttachDomainsRequest, DetachDomainsRequest},
};

/// Attempts at one batch that changed nothing, the first included.
const ATTEMPTS: u32 = 6;

/// The longest delay that a run waits out.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Reasons for which a single domain of a batch may be refused: the others pass when they are sent without it.
const ABOUT_A_DOMAIN: [&str; 5] = ["APIG_2012", "APIG_2024", "APIG_2051", "APIG_2103", "APIG_3020"];

/// Reasons for which every other batch would be refused, too.
const ABOUT_EVERY_CALL: [&str; 2] = ["TOKEN_MISSING", "CREDENTIALS_REFUSED"];

/// The sender of a run.
pub(in crate::cli) struct Sender {
    pub(in crate::cli) gateway: Gateway,
    pub(in crate::cli) journal: RefCell<Journal>,
    pub(in crate::cli) report: RefCell<Report>,
    stop: CancellationToken,
    progress: Progress,
    batch_size: usize,
}

/// Whether a batch is given up between two attempts when the run is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Stop {
    Heeded,
    Ignored,
}

/// The end of one batch.
#[derive(Debug)]
pub(in crate::cli) enum Delivery {
    Done,
    Failed(Refusal),
    /// The run has been stopped, and nothing was changed.
    NotSent,
}

/// A failure of a batch.
#[derive(Debug)]
pub(in crate::cli) struct Refusal {
    /// Whether the change may have been made.
    pub(in crate::cli) outcome: Outcome,
    /// `ErrorInfo.reason`; empty when the failure is not the gateway's.
    pub(in crate::cli) reason: String,
    /// One line for people.
    pub(in crate::cli) line: String,
    code: Code,
    retry_delay: Option<Duration>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        // Without details the connection was lost, and the call may have arrived.
        let is_unknown = info.is_none_or(|info| info.metadata.get("outcome").is_some_and(|it| it == "unknown"));
        let may_repeat = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Aborted);
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        Self {
            outcome: if is_unknown { Outcome::Unknown } else { Outcome::Failed },
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            code: status.code(),
            retry_delay: delay.filter(|delay| may_repeat && !is_unknown && *delay <= LONGEST_DELAY),
            line: CallOutput::of::<()>(Err(status)).line(),
        }
    }
}

impl Refusal {
    /// Whether the rest of the batch may pass without one of its domains.
    pub(in crate::cli) fn is_about_a_domain(&self) -> bool {
        self.outcome == Outcome::Failed && ABOUT_A_DOMAIN.contains(&self.reason.as_str())
    }

    fn is_about_every_call(&self) -> bool {
        let is_lost = self.reason.is_empty() && self.code == Code::Unavailable;
        is_lost || self.code == Code::Unauthenticated || ABOUT_EVERY_CALL.contains(&self.reason.as_str())
    }
}

impl Sender {
    pub(in crate::cli) fn new(gateway: Gateway, journal: Journal, report: Report, batch_size: usize) -> Self {
        let progress = Progress::of(report.domains());
        Self {
            gateway,
            journal: RefCell::new(journal),
            report: RefCell::new(report),
            stop: CancellationToken::new(),
            progress,
            batch_size,
        }
    }

    /// Does some work; a signal ends it after the batches in flight, and a second one at once.
    ///
    /// # Errors
    ///
    /// A second signal, or no signal can be received.
    pub(in crate::cli) async fn until_interrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let mut signals = Signals::listen()?;
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return Ok(done),
            name = signals.next() => {
                self.halt(format!("interrupted by {name}"));
                self.say(&format!("{name}: the batches in flight end first; a second signal ends at once"));
            }
        }
        tokio::select! {
            done = &mut work => Ok(done),
            _ = signals.next() => Err(Failure::Told),
        }
    }

    /// Whether the run has been stopped.
    pub(in crate::cli) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Stops the run: no further batch is sent.
    pub(in crate::cli) fn halt(&self, why: String) {
        if !self.stop.is_cancelled() {
            self.report.borrow_mut().stopped = Some(why);
            self.stop.cancel();
        }
    }

    /// Writes a line to standard error, above the progress.
    pub(in crate::cli) fn say(&self, text: &str) {
        self.progress.suspend(|| log::say(text));
    }

    /// Sends groups, several at once: changes of one certificate would wait for each other.
    pub(in crate::cli) async fn groups(&self, action: Action, groups: Vec<Group>, past: &Past, concurrency: usize) {
        stream::iter(groups).for_each_concurrent(concurrency, |group| self.group(action, group, past)).await;
    }

    async fn group(&self, action: Action, group: Group, past: &Past) {
        let Group { certificate_id, entries } = group;
        let (mut open, mut unfinished, mut earlier) = (Vec::new(), Vec::new(), 0);
        for entry in entries {
            match past.state(action, &certificate_id, &entry) {
                State::Done => earlier += 1,
                State::Unfinished => unfinished.push(entry),
                State::Open => open.push(entry),
            }
        }
        self.report.borrow_mut().earlier += earlier;
        self.progress.exclude(earlier);
        if !unfinished.is_empty() {
            open.extend(self.look_up(action, &certificate_id, unfinished).await);
        }
        for entries in open.chunks(self.batch_size) {
            let certificate_id = certificate_id.clone();
            self.batch(action, Group { certificate_id, entries: entries.to_vec() }).await;
        }
    }

    /// Compares domains of unfinished batches with the cloud's list, and returns those that are to be sent.
    async fn look_up(&self, action: Action, certificate_id: &str, entries: Vec<Entry>) -> Vec<Entry> {
        let of = |entries: Vec<Entry>| Group { certificate_id: certificate_id.to_owned(), entries };
        if self.is_stopped() {
            self.report.borrow_mut().not_sent += entries.len();
            return Vec::new();
        }
        let rows = match pages::attached(&self.gateway, certificate_id).await {
            Ok(rows) => rows,
            Err(status) => {
                let line = format!("can't be looked up: {}", CallOutput::of::<()>(Err(status)).line());
                self.fail(&of(entries), Outcome::Unknown, &line);
                return Vec::new();
            }
        };
        let list = Bindings::of(&rows);
        let (found, missing): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| list.confirm(action, entry));
        self.found(action, of(found));
        missing
    }

    /// Notes domains that the cloud lists as asked.
    pub(in crate::cli) fn found(&self, action: Action, found: Group) {
        let count = found.entries.len();
        if count > 0 {
            self.noted(self.journal.borrow_mut().found(action, found));
            self.report.borrow_mut().found += count;
            self.advance(count);
        }
    }

    /// Sends one batch, in halves if a domain of it is refused, until each refused domain is alone.
    async fn batch(&self, action: Action, batch: Group) {
        let mut pending = vec![batch];
        while let Some(mut batch) = pending.pop() {
            let count = batch.entries.len();
            match self.deliver(action, &batch).await {
                Delivery::Done => self.done(count),
                Delivery::NotSent => self.report.borrow_mut().not_sent += count,
                Delivery::Failed(refusal) if refusal.is_about_a_domain() && count > 1 => {
                    let second = batch.entries.split_off(count / 2);
                    pending.push(Group { certificate_id: batch.certificate_id.clone(), entries: second });
                    pending.push(batch);
                }
                Delivery::Failed(refusal) => self.fail(&batch, refusal.outcome, &refusal.line),
            }
        }
    }

    /// Counts domains as done.
    pub(in crate::cli) fn done(&self, count: usize) {
        self.report.borrow_mut().done += count;
        self.advance(count);
    }

    /// Reports a failure, in one line.
    pub(in crate::cli) fn fail(&self, batch: &Group, outcome: Outcome, line: &str) {
        let text = self.report.borrow_mut().fail(batch, outcome, line);
        self.say(&text);
        self.advance(batch.entries.len());
    }

    fn advance(&self, count: usize) {
        self.progress.advance(count);
    }

    /// Sends one batch and notes it in the journal, unless the run has been stopped.
    pub(in crate::cli) async fn deliver(&self, action: Action, batch: &Group) -> Delivery {
        if self.is_stopped() {
            return Delivery::NotSent;
        }
        self.deliver_at_once(action, batch, Stop::Heeded).await
    }

    /// Sends one batch and notes it in the journal, also after an interruption.
    pub(in crate::cli) async fn deliver_at_once(&self, action: Action, batch: &Group, stop: Stop) -> Delivery {
        let begun = self.journal.borrow_mut().begin(action, batch);
        let Ok(number) = begun else {
            self.noted(begun.map(drop));
            return Delivery::NotSent;
        };
        match self.call(action, batch, stop).await {
            Ok(()) => {
                self.noted(self.journal.borrow_mut().end(number, Outcome::Done, None));
                Delivery::Done
            }
            Err(refusal) => {
                self.noted(self.journal.borrow_mut().end(number, refusal.outcome, Some(&refusal.line)));
                if refusal.is_about_every_call() {
                    self.halt(refusal.line.clone());
                    // The reason is told once, and not for each batch in flight.
                    if refusal.outcome == Outcome::Failed {
                        return Delivery::NotSent;
                    }
                }
                Delivery::Failed(refusal)
            }
        }
    }

    /// A run without its journal could not be continued.
    fn noted(&self, written: io::Result<()>) {
        if let Err(error) = written {
            self.halt(format!("the journal can't be written: {error}"));
        }
    }

    /// Makes the call of a batch, again as long as it certainly changed nothing and waiting helps.
    async fn call(&self, action: Action, batch: &Group, stop: Stop) -> Result<(), Refusal> {
        for _ in 1..ATTEMPTS {
            let Err(refusal) = self.call_once(action, batch).await else { return Ok(()) };
            let Some(delay) = refusal.retry_delay else { return Err(refusal) };
            // Up to a quarter more, so that several batches do not come back at once.
            let delay = delay.mul_f64(1.0 + fastrand::f64() / 4.0);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.stop.cancelled(), if stop == Stop::Heeded => return Err(refusal),
            }
        }
        self.call_once(action, batch).await
    }

    async fn call_once(&self, action: Action, batch: &Group) -> Result<(), Refusal> {
        let mut client = self.gateway.client();
        let project_id = self.gateway.project_id.clone();
        let Group { certificate_id, entries } = batch.clone();
        let domains = entries.into_iter().map(Into::into).collect();
        let result = match action {
            Action::Attach => {
                let message = AttachDomainsRequest { project_id, certificate_id, domains };
                client.attach_domains(self.gateway.request(message)).await.map(drop)
            }
            Action::Detach => {
                let message = DetachDomainsRequest { project_id, certificate_id, domains };
                client.detach_domains(self.gateway.request(message)).await.map(drop)
            }
        };
        result.map_err(Into::into)
    }

    /// Ends the run. Its journal is complete if nothing is left to do or to clear up.
    pub(in crate::cli) fn finish(self, is_settled: impl FnOnce(&Report) -> bool) -> Report {
        self.progress.clear();
        let is_settled = is_settled(&self.report.borrow());
        if is_settled {
            self.noted(self.journal.borrow_mut().complete());
        }
        self.report.into_inner()
    }
}
