//! Spans that have ended wait in a bounded queue until a background task exports them. Nothing waits for the task: a span that
//! finds the queue full is dropped and counted.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

use super::export::{Exporter, Rejected};

/// Interval between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The bounds of the queue, `OTEL_BSP_*`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Spans that wait.
    pub(crate) queue: usize,
    /// Spans of one export.
    pub(crate) batch: usize,
    /// The longest wait for a full batch.
    pub(crate) delay: Duration,
    /// The time for one export, repeats included.
    pub(crate) timeout: Duration,
}

/// The way into the queue.
#[derive(Debug)]
pub(super) struct Queue {
    sender: Sender<SpanData>,
    lost: Counter,
}

/// The way out of it.
pub(super) struct Spans {
    receiver: Receiver<SpanData>,
    limits: Limits,
    closing: CancellationToken,
    lost: Counter,
}

/// The task that exports spans.
#[derive(Debug)]
pub(crate) struct Exports {
    task: AbortOnDropHandle<()>,
    closing: CancellationToken,
}

impl Queue {
    pub(super) fn new(limits: Limits, lost: Counter) -> (Self, Spans) {
        let (sender, receiver) = mpsc::channel(limits.queue);
        let spans = Spans { receiver, limits, closing: CancellationToken::new(), lost: lost.clone() };
        (Self { sender, lost }, spans)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.lost.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Exports {
    pub(super) fn new(task: AbortOnDropHandle<()>, closing: CancellationToken) -> Self {
        Self { task, closing }
    }

    /// Exports the spans that wait, within this time, and ends the task.
    pub(crate) async fn finish(self, within: Duration) {
        self.closing.cancel();
        if tokio::time::timeout(within, self.task).await.is_err() {
            warn!("the last spans could not be exported in time");
        }
    }
}

impl Spans {
    /// Cancelled when no further spans are to be waited for.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Exports batches until the queue is closed and empty.
    pub(super) async fn export(mut self, exporter: Exporter) {
        let mut warned: Option<Instant> = None;
        let mut is_failing = false;
        loop {
            let batch = self.batch().await;
            let size = batch.len();
            if size == 0 {
                return;
            }
            let until = Instant::now() + self.limits.timeout;
            let Err(Rejected { spans, cause }) = exporter.export(batch, until).await else {
                if std::mem::take(&mut is_failing) {
                    info!("spans are exported again");
                }
                continue;
            };
            is_failing = true;
            self.lost.inc_by(u64::try_from(spans.unwrap_or(size)).unwrap_or(u64::MAX));
            if warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
                warned = Some(Instant::now());
                warn!(error = cause, lost = self.lost.get(), "spans could not be exported");
            }
        }
    }

    /// The next batch: full, or as many spans as came in its time; empty at the end.
    async fn batch(&mut self) -> Vec<SpanData> {
        let mut batch = Vec::new();
        let mut due = None;
        while batch.len() < self.limits.batch {
            let room = self.limits.batch - batch.len();
            tokio::select! {
                biased;
                () = self.closing.cancelled(), if !self.receiver.is_closed() => self.receiver.close(),
                count = self.receiver.recv_many(&mut batch, room) => {
                    if count == 0 {
                        break;
                    }
                    due.get_or_insert_with(|| Instant::now() + self.limits.delay);
                }
                () = async { if let Some(due) = due { sleep_until(due).await } }, if due.is_some() => break,
            }
        }
        batch
    }
}
