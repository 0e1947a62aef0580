//! Waiting for events, always with a bound.

use std::time::{Duration, Instant};

/// The bound on waiting for an event that has to come: a test that meets it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The pause between two polls of a state that signals no changes.
const POLL: Duration = Duration::from_millis(5);

/// Waits for an event that has to come.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Polls a state until it is the wanted one or the time is over, and returns the last value.
pub async fn settles<T>(within: Duration, mut poll: impl AsyncFnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let now = poll().await;
        if wanted(&now) || started.elapsed() > within {
            return now;
        }
        tokio::time::sleep(POLL).await;
    }
}
