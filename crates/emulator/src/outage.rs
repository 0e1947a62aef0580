//! Injects outages for tests: a service of the cloud answers late, or refuses all requests, until the
//! outage is removed. The control endpoints are ours.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::Shared;
use super::answer::Refusal;

/// A service that can fail independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    Api,
    Iam,
    Sts,
    Metadata,
    Container,
}

/// The failure of a service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    /// The status of every response; without it, requests are handled as usual.
    #[serde(default, deserialize_with = "status")]
    status: Option<StatusCode>,
    /// Every Nth request fails, from this one on; by default each one.
    every: Option<NonZeroU32>,
    /// Whether requests are handled nevertheless, but the caller is not told.
    #[serde(default)]
    processed: bool,
    /// The `Retry-After` header in seconds, sent with `status`.
    retry_after: Option<u32>,
    /// The delay of every response.
    #[serde(default, deserialize_with = "time")]
    delay: Duration,
}

/// The current outages.
#[derive(Default)]
pub(super) struct Outages(Mutex<HashMap<Part, Current>>);

/// An outage, and the requests that it has met.
struct Current {
    outage: Outage,
    requests: u32,
}

impl Outages {
    /// The outage that a request meets.
    fn of(&self, part: Part) -> Option<Outage> {
        let mut outages = self.lock();
        let current = outages.get_mut(&part)?;
        current.requests = current.requests.wrapping_add(1);
        let is_hit = current.outage.every.is_none_or(|every| current.requests.is_multiple_of(every.get()));
        is_hit.then(|| current.outage.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Part, Current>> {
        // A panic while the lock was held cannot leave the map half updated: each update is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `PUT /emulator/outages/{part}`
pub(super) async fn begin(
    State(cloud): State<Shared>,
    part: Result<Path<Part>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refusal> {
    let Path(part) = part.map_err(|_| Refusal::unknown_path())?;
    let outage = serde_json::from_slice(&body?)
        .map_err(|fault| Refusal::keystone(StatusCode::BAD_REQUEST, format!("invalid outage: {fault}")))?;
    cloud.outages.lock().insert(part, Current { outage, requests: 0 });
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /emulator/outages/{part}`
pub(super) async fn end(
    State(cloud): State<Shared>,
    part: Result<Path<Part>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    let Path(part) = part.map_err(|_| Refusal::unknown_path())?;
    cloud.outages.lock().remove(&part);
    Ok(StatusCode::NO_CONTENT)
}

/// Middleware that applies the current outage of a service.
pub(super) async fn apply(State((cloud, part)): State<(Shared, Part)>, request: Request, next: Next) -> Response {
    let outage = cloud.outages.of(part);
    let Some(Outage { status, retry_after, delay, processed, every: _ }) = outage else {
        return next.run(request).await;
    };
    tokio::time::sleep(delay).await;
    let Some(status) = status else { return next.run(request).await };
    if processed {
        let answer = next.run(request).await;
        tracing::debug!(status = answer.status().as_u16(), "response replaced by the outage");
    }
    let wait = retry_after.map(|seconds| AppendHeaders([("retry-after", seconds.to_string())]));
    (wait, refusal(part, status)).into_response()
}

/// The error of a service with this status. The codes are documented for these statuses, as are the
/// texts of both throttling errors; the choice of the codes for an outage and the other texts are ours.
fn refusal(part: Part, status: StatusCode) -> Refusal {
    match (part, status) {
        (Part::Api, StatusCode::TOO_MANY_REQUESTS) => Refusal::front(
            status,
            "APIG.0308",
            "The throttling threshold has been reached: policy user over ratelimit,limit:100,time:1 minute",
        ),
        (Part::Api, StatusCode::SERVICE_UNAVAILABLE) => {
            Refusal::front(status, "APIG.0613", "The service is not available.")
        }
        (Part::Api, _) => Refusal::service(status, "APIG.9999", "System error."),
        (Part::Iam, StatusCode::TOO_MANY_REQUESTS) => {
            Refusal::service(status, "IAM.0012", "Threshold: 5 times per 60 seconds")
        }
        (Part::Iam, StatusCode::INTERNAL_SERVER_ERROR) => Refusal::service(status, "IAM.0006", "System error."),
        _ => Refusal::keystone(status, "The service is not available."),
    }
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<StatusCode>, D::Error> {
    match u16::deserialize(deserializer)? {
        429 => Ok(Some(StatusCode::TOO_MANY_REQUESTS)),
        500 => Ok(Some(StatusCode::INTERNAL_SERVER_ERROR)),
        503 => Ok(Some(StatusCode::SERVICE_UNAVAILABLE)),
        other => Err(D::Error::custom(format!("status {other} is not one of 429, 500, 503"))),
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    humantime::parse_duration(&String::deserialize(deserializer)?)
        .map_err(|_| D::Error::custom("delay is not a time such as \"250ms\" or \"5s\""))
}
