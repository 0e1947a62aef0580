//! Retries, as service-config.json asks of other libraries: tonic has no service config.

use std::{error::Error, iter::successors, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, ConnectError, Extensions, Request, Response, Status, TimeoutExpired, metadata::MetadataMap};
use tonic_types::StatusExt as _;

const MAX_ATTEMPTS: u32 = 4;
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Makes a call, and repeats it while that is safe, helps and ends before the deadline.
pub async fn call<M: Clone, R, F: Future<Output = Result<Response<R>, Status>>>(
    deadline: Duration,
    metadata: MetadataMap,
    message: M,
    send: impl Fn(Request<M>) -> F,
) -> Result<R, Status> {
    let deadline = Instant::now() + deadline;
    let (mut attempts, mut refusals) = (0, 0);
    loop {
        let mut request = Request::from_parts(metadata.clone(), Extensions::default(), message.clone());
        // The gateway stops its request to the cloud at the deadline, too.
        request.set_timeout(deadline - Instant::now());
        let status = match timeout_at(deadline, send(request)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            // Tonic's own timer is as long; its code would be CANCELLED.
            Ok(Err(status)) if !has_cause::<TimeoutExpired>(&status) => status,
            _ => return Err(Status::deadline_exceeded("the gateway did not answer in time")),
        };
        // While the gateway restarts, nothing is sent: the call waits for it until the deadline.
        let delay = if has_cause::<ConnectError>(&status) {
            refusals += 1;
            backoff(refusals)
        } else {
            attempts += 1;
            match delay(&status).filter(|_| attempts < MAX_ATTEMPTS) {
                Some(delay) => delay.unwrap_or_else(|| backoff(attempts)),
                None => return Err(status),
            }
        };
        if Instant::now() + delay >= deadline {
            return Err(status);
        }
        sleep(delay).await;
    }
}

/// The delay before a repeat, if there may be one, and if the gateway asks for one.
#[allow(clippy::option_option, reason = "whether to repeat, and when")]
fn delay(status: &Status) -> Option<Option<Duration>> {
    let details = status.get_error_details();
    // Without ErrorInfo the error is not the gateway's: whether the change was made is unknown.
    let outcome = details.error_info()?.metadata.get("outcome");
    if status.code() != Code::Unavailable || outcome.is_some_and(|outcome| outcome == "unknown") {
        return None;
    }
    match status.metadata().get("grpc-retry-pushback-ms") {
        // `-1` is no u64: it forbids a repeat.
        Some(pushback) => pushback.to_str().ok()?.parse().ok().map(Duration::from_millis).map(Some),
        None => Some(details.retry_info().and_then(|retry| retry.retry_delay)),
    }
}

fn has_cause<E: Error + 'static>(status: &Status) -> bool {
    successors(status.source(), |&error| error.source()).any(|error| error.is::<E>())
}

/// Doubles with each attempt; random, so that clients do not come back all at once.
fn backoff(attempts: u32) -> Duration {
    let doubled = INITIAL_BACKOFF * 2_u32.pow((attempts - 1).min(8));
    doubled.min(MAX_BACKOFF).mul_f64(0.8 + 0.4 * fastrand::f64())
}
