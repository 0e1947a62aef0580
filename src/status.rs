//! Makes a gRPC status of a failure that a program can act on: code, message, `google.rpc` details, and the metadata
//! beside them.

#![warn(clippy::wildcard_enum_match_arm)]

mod detail;
mod local;
mod size_limit;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use tonic::{Code, Status};

use self::detail::Detail;
pub(crate) use self::local::Local;
pub(crate) use self::local::{
    caller_not_allowed, deadline_exceeded, invalid_request, malformed_timeout, message_too_large, panicked, rejected,
    request_stalled, shutting_down, too_far_ahead, too_many_entries, unimplemented, unreadable_message,
    unsupported_encoding,
};
use crate::{
    cloud::{Error, Kind, Observed, Plane, Processed, Refusal, Throttle},
    resources::{self, Resources},
};

/// `ErrorInfo.domain` of the cloud's refusals.
const CLOUD: &str = "apig.huaweicloud.com";

/// The vendor's page on error codes of the API gateway.
const ERROR_CODES: &str = "https://support.huaweicloud.com/intl/en-us/usermanual-apig/apig-ug-180530090.html";

/// The advice on a server error without a row in the catalogue.
const CHECK_CLOUD: &str = "Check the cloud, and any proxy before it.";

/// The key of the listed state in `ErrorInfo.metadata`.
const OBSERVED: &str = "observed";

/// As many parameters of a message as are worth naming.
const MOST_PARAMETERS: usize = 3;

/// The canonical code for a kind of refusal.
pub(crate) fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// The status for a call that the cloud did not serve.
pub(crate) fn from_cloud(error: &Error, observed: Option<Observed>, request: &Resources<'_>) -> Status {
    let local = |local: Local| local.observed(observed).status(request.method.is_change);
    let mut status = match error {
        Error::Refused(refusal) => refused(refusal, observed, request),
        Error::CredentialsRefused(refusal, skew) => local(local::credentials_refused(refusal, *skew)),
        Error::Unauthorized(missing) => local(local::unauthorized(missing, request.project)),
        Error::CircuitOpen(wait) => local(local::circuit_open(*wait)),
        Error::RateLimited(limited) => local(local::rate_limited(*limited)),
        Error::LockQueueFull(full) => local(local::queue_full(*full)),
        Error::Unreachable(cause) => local(local::unreachable(cause)),
        Error::ConnectionLost(cause) => local(local::lost(cause)),
        Error::ReadInterrupted(cause) => local(local::read_interrupted(cause)),
        Error::Decode(cause) => local(local::garbled(cause)),
        Error::Malformed { status, cause, .. } => local(local::malformed(status.as_u16(), cause)),
        Error::NoMemory => local(local::no_memory()),
        Error::Redirected { status, .. } => local(local::redirected(status.as_u16())),
        Error::Unexpected { status, content_type, .. } => {
            local(local::unexpected(status.as_u16(), content_type.as_deref()))
        }
        Error::UnsafeRequest(field) => local(local::unsafe_request(field)),
    };
    if let Some(id) = error.request_id().and_then(|id| id.parse().ok()) {
        status.metadata_mut().insert("apig-request-id", id);
    }
    status
}

/// The status for a refusal of the cloud.
fn refused(refusal: &Refusal, observed: Option<Observed>, request: &Resources<'_>) -> Status {
    let is_unknown = request.method.is_change && refusal.processed() == Processed::Unknown;
    let reason = reason(refusal);
    let kind = refusal.kind();
    let mut metadata = metadata(refusal, is_unknown);
    metadata.extend(observed.map(|observed| (OBSERVED, observed.as_str().to_owned())));
    let description = || refusal.row().map_or("", |row| row.meaning);
    let mut details = vec![Detail::error_info(&reason, CLOUD, metadata)];
    details.extend(refusal.wait().map(Detail::retry_info));
    match kind {
        Kind::NotFound | Kind::AlreadyExists => details.push(resource(refusal, request)),
        Kind::ResourceExhausted => details.push(quota(refusal)),
        Kind::FailedPrecondition => {
            let type_ = refusal.row().and_then(|row| row.subject).unwrap_or("CLOUD_STATE");
            let subject = request.certificate().map(|id| format!("certificates/{id}")).unwrap_or_default();
            details.push(Detail::precondition_failure(type_, subject, description()));
        }
        Kind::InvalidArgument
        | Kind::Unauthenticated
        | Kind::PermissionDenied
        | Kind::Aborted
        | Kind::DeadlineExceeded
        | Kind::Unimplemented
        | Kind::Unavailable
        | Kind::Internal => {}
    }
    let violation = |parameter| (request.field(parameter).to_string(), description());
    let mut violations = refusal.parameters().take(MOST_PARAMETERS).map(violation).peekable();
    if violations.peek().is_some() {
        details.push(Detail::bad_request(violations));
    }
    details.extend(refusal.request_id.as_deref().map(Detail::request_info));
    details.push(Detail::help("Error codes of the API gateway", ERROR_CODES));
    let mut status = size_limit::status(code(kind), &refusal.message, details);
    pushback(&mut status, refusal, is_unknown);
    let outcome = is_unknown.then_some(Outcome::Unknown);
    let advice = refusal.row().map(|row| row.advice).or((refusal.status >= 500).then_some(CHECK_CLOUD));
    status.set_source(Arc::new(Ending { reason: reason.into(), outcome, observed, advice }));
    status
}

/// A program's name for the refusal: the cloud's code, or the HTTP status when there is none.
fn reason(refusal: &Refusal) -> String {
    match &refusal.code {
        Some(code) if code.starts_with(|first: char| first.is_ascii_alphabetic()) && code.len() <= 63 => {
            code.replace(['.', '-'], "_").to_ascii_uppercase()
        }
        _ => format!("HTTP_{}", refusal.status),
    }
}

/// The facts of a refusal that a program can use.
fn metadata(refusal: &Refusal, is_unknown: bool) -> Vec<(&'static str, String)> {
    let mut metadata = vec![("http_status", refusal.status.to_string())];
    let mut note =
        |name: &'static str, value: Option<&str>| metadata.extend(value.map(|value| (name, value.to_owned())));
    note("error_code", refusal.code.as_deref());
    note("request_id", refusal.request_id.as_deref());
    note(
        "plane",
        refusal.plane().map(|plane| match plane {
            Plane::Front => "front",
            Plane::Service => "service",
        }),
    );
    note("advice", refusal.row().map(|row| row.advice));
    if let Some(Throttle { policy, limit, window }) = refusal.throttle() {
        note("quota_policy", Some(policy));
        note("quota_limit", Some(&limit.to_string()));
        note("quota_window", Some(&format!("{}s", window.as_secs())));
    }
    note("outcome", is_unknown.then_some("unknown"));
    let encoded = refusal.encoded_authorization_message.as_deref();
    // Half of it could not be decoded, so it is whole or not there at all.
    note("encoded_authorization_message", encoded.filter(|text| text.len() <= size_limit::MOST_OPAQUE));
    metadata
}

/// The quota that is used up, and its size.
fn quota(refusal: &Refusal) -> Detail {
    let row = refusal.row();
    let subject = row.and_then(|row| row.subject).unwrap_or("requests");
    match refusal.throttle() {
        Some(Throttle { policy, limit, window }) => {
            Detail::quota_failure(format!("{subject}:{policy}"), format!("{limit} in {} s", window.as_secs()))
        }
        None => Detail::quota_failure(subject.to_owned(), row.map_or("", |row| row.meaning).to_owned()),
    }
}

/// The resource that is missing, or there already. The catalogue knows its type; its name is the request's, where only one
/// can be meant.
fn resource(refusal: &Refusal, request: &Resources<'_>) -> Detail {
    let row = refusal.row();
    let type_ = row.and_then(|row| row.resource).unwrap_or("resource");
    let meant = |kind| request.meant(kind, &refusal.message);
    let name = match type_ {
        "project" => meant(resources::Kind::Project),
        "certificate" => meant(resources::Kind::Certificate),
        "instance" => meant(resources::Kind::Instance),
        "api-group" => meant(resources::Kind::ApiGroup),
        "domain" => meant(resources::Kind::Domain).or_else(|| meant(resources::Kind::DomainId)),
        _ => None,
    };
    let owner = if request.project.is_empty() { String::new() } else { format!("projects/{}", request.project) };
    Detail::resource_info(type_, name.unwrap_or_default(), owner, row.map_or("", |row| row.meaning))
}

/// Tells clients that repeat by themselves when to do so (gRFC A6), or not to.
fn pushback(status: &mut Status, refusal: &Refusal, is_unknown: bool) {
    let delay = match (refusal.processed(), refusal.retry_after) {
        // A repeat could make the change twice.
        _ if is_unknown && status.code() == Code::Unavailable => "-1".to_owned(),
        (Processed::No, Some(wait)) => millis(wait),
        _ => return,
    };
    if let Ok(value) = delay.parse() {
        status.metadata_mut().insert("grpc-retry-pushback-ms", value);
    }
}

fn millis(wait: Duration) -> String {
    wait.as_millis().to_string()
}

/// The known effect of a change when its call ends without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has certainly not been made.
    NotSent,
    /// It may or may not have been made.
    Unknown,
}

impl Outcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
        }
    }
}

/// Reason and outcome of a failed call, for logs. It travels beside the status, as its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) reason: Cow<'static, str>,
    /// `None` for reads, and where the cloud has answered for good.
    pub(crate) outcome: Option<Outcome>,
    /// The state that the cloud listed after an unknown outcome.
    pub(crate) observed: Option<Observed>,
    /// Advice for the operator, if there is any.
    pub(crate) advice: Option<&'static str>,
}

impl Ending {
    /// That of a status which this module made.
    pub(crate) fn of(status: &Status) -> Option<&Self> {
        std::error::Error::source(status)?.downcast_ref()
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Ending {}

#[cfg(test)]
mod tests;
