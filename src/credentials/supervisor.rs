//! Restarts a background task after a panic, with backoff, and counts and logs the panics.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

/// The first and the longest delay after a panic.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// After a run of this length the backoff starts again with the first delay.
const STABLE: Duration = Duration::from_secs(600);

/// Runs a task until it returns or the handle is dropped. `panicked` is called after each panic, with the delay before the
/// restart. Needs a runtime.
pub(super) fn supervise<F>(
    name: String,
    panics: Counter,
    run: impl Fn() -> F + Send + 'static,
    panicked: impl Fn(Duration) + Send + 'static,
) -> AbortOnDropHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut delay = FIRST_DELAY;
        loop {
            let started = Instant::now();
            let task = AbortOnDropHandle::new(tokio::spawn(run()));
            match task.await {
                Err(ended) if ended.is_panic() => {}
                Ok(()) | Err(_) => return,
            }
            if started.elapsed() >= STABLE {
                delay = FIRST_DELAY;
            }
            panics.inc();
            // Without the message of the panic, which could contain a secret.
            error!(task = name, ?delay, "background task panicked; restarting it");
            panicked(delay);
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_with_longer_and_longer_pauses() {
        let (runs, panics, pauses) = (Arc::new(AtomicUsize::new(0)), Counter::default(), Arc::new(AtomicUsize::new(0)));
        let (counted, heard) = (Arc::clone(&runs), Arc::clone(&pauses));
        let run = move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert_eq!(number, 8, "it fails until the ninth run") }
        };
        let panicked = move |delay: Duration| {
            heard.fetch_add(usize::try_from(delay.as_secs()).unwrap(), Ordering::SeqCst);
        };
        let task = supervise("test".into(), panics.clone(), run, panicked);
        let started = Instant::now();
        task.await.unwrap();
        let expected = 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60;
        assert_eq!(started.elapsed().as_secs(), expected);
        assert_eq!((runs.load(Ordering::SeqCst), panics.get()), (9, 8));
        assert_eq!(pauses.load(Ordering::SeqCst) as u64, expected);
    }
}
