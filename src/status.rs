//! What went wrong becomes a gRPC status that a program can act on: code, message, `google.rpc` details, and the
//! metadata beside them. It has never heard of HTTP headers.

#![warn(clippy::wildcard_enum_match_arm)]

mod local;
mod size_limit;

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{
    BadRequest, ErrorDetail, ErrorInfo, FieldViolation, Help, HelpLink, PreconditionFailure, PreconditionViolation,
    QuotaFailure, QuotaViolation, RequestInfo, ResourceInfo, RetryInfo,
};

pub(crate) use self::local::{
    caller_not_allowed, deadline_exceeded, invalid_request, malformed_timeout, message_too_large, panicked, rejected,
    request_stalled, shutting_down, too_far_ahead, too_many_entries, unimplemented, unreadable_message,
    unsupported_encoding,
};
use self::local::{
    circuit_open, garbled, lost, queue_full, rate_limited, redirected, unexpected, unreachable, unsafe_request,
};
use crate::{
    cloud::{Error, Kind, Plane, Processed, Refusal, Throttle},
    validate::Names,
};

/// `ErrorInfo.domain` of what the cloud refused.
const CLOUD: &str = "apig.huaweicloud.com";

/// The vendor's page on error codes of the API gateway.
const ERROR_CODES: &str = "https://support.huaweicloud.com/intl/en-us/usermanual-apig/apig-ug-180530090.html";

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
pub(crate) fn from_cloud(error: &Error, names: Names<'_>) -> Status {
    let mut status = match error {
        Error::Refused(refusal) => refused(refusal, names),
        Error::CredentialsRefused(refusal, skew) => local::credentials_refused(refusal, *skew),
        Error::Unauthorized(missing) => local::unauthorized(missing, names.project_id),
        Error::CircuitOpen(wait) => circuit_open(*wait),
        Error::RateLimited(limited) => rate_limited(*limited),
        Error::LockQueueFull(full) => queue_full(*full),
        Error::Unreachable(cause) => unreachable(cause),
        Error::ConnectionLost(cause) => lost(cause),
        Error::Decode(cause) => garbled(cause),
        Error::Redirected { status, .. } => redirected(status.as_u16()),
        Error::Unexpected { status, content_type, .. } => unexpected(status.as_u16(), content_type.as_deref()),
        Error::UnsafeRequest(field) => unsafe_request(field),
    };
    if let Some(id) = error.request_id().and_then(|id| id.parse().ok()) {
        status.metadata_mut().insert("apig-request-id", id);
    }
    status
}

/// The status for what the cloud refused.
fn refused(refusal: &Refusal, names: Names<'_>) -> Status {
    let kind = refusal.kind();
    let description = || refusal.row().map_or("", |row| row.meaning);
    let mut details: Vec<ErrorDetail> = vec![ErrorInfo::new(reason(refusal), CLOUD, metadata(refusal)).into()];
    if let Some(wait) = refusal.wait() {
        details.push(RetryInfo::new(Some(wait)).into());
    }
    match kind {
        Kind::NotFound | Kind::AlreadyExists => details.push(resource(refusal, names).into()),
        Kind::ResourceExhausted => details.push(quota(refusal).into()),
        Kind::FailedPrecondition => {
            let type_ = refusal.row().and_then(|row| row.subject).unwrap_or("CLOUD_STATE");
            let subject = format!("certificates/{}", names.certificate_id);
            details
                .push(PreconditionFailure::new(vec![PreconditionViolation::new(type_, subject, description())]).into());
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
    let violations: Vec<FieldViolation> = refusal
        .parameters()
        .take(MOST_PARAMETERS)
        .map(|parameter| FieldViolation::new(field(parameter, names), description()))
        .collect();
    if !violations.is_empty() {
        details.push(BadRequest::new(violations).into());
    }
    if let Some(id) = &refusal.request_id {
        details.push(RequestInfo::new(id, "").into());
    }
    details.push(Help::new(vec![HelpLink::new("Error codes of the API gateway", ERROR_CODES)]).into());
    let mut status = size_limit::status(code(kind), &refusal.message, details);
    pushback(&mut status, refusal);
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

/// What a program may want to know of the refusal.
fn metadata(refusal: &Refusal) -> HashMap<String, String> {
    let mut metadata = HashMap::from([("http_status".to_owned(), refusal.status.to_string())]);
    let mut note = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            metadata.insert(name.to_owned(), value.to_owned());
        }
    };
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
    note("outcome", (refusal.processed() == Processed::Unknown).then_some("unknown"));
    let encoded = refusal.encoded_authorization_message.as_deref();
    // Half of it could not be decoded, so it is whole or not there at all.
    note("encoded_authorization_message", encoded.filter(|text| text.len() <= size_limit::MOST_OPAQUE));
    metadata
}

/// What is used up, and how much of it there was.
fn quota(refusal: &Refusal) -> QuotaFailure {
    let row = refusal.row();
    let subject = row.and_then(|row| row.subject).unwrap_or("requests");
    let violation = match refusal.throttle() {
        Some(Throttle { policy, limit, window }) => {
            QuotaViolation::new(format!("{subject}:{policy}"), format!("{limit} in {} s", window.as_secs()))
        }
        None => QuotaViolation::new(subject, row.map_or("", |row| row.meaning)),
    };
    QuotaFailure::new(vec![violation])
}

/// What is missing, or there already. The catalogue knows its type; its name is the request's, where only one can be meant.
fn resource(refusal: &Refusal, names: Names<'_>) -> ResourceInfo {
    let row = refusal.row();
    let type_ = row.and_then(|row| row.resource).unwrap_or("resource");
    let name = match (type_, names.domains) {
        ("certificate", _) => names.certificate_id,
        ("project", _) => names.project_id,
        ("domain", [domain]) => &domain.domain,
        ("instance", domains) => {
            let mut instances = domains.iter().flat_map(|domain| &domain.instance_ids);
            match (
                instances.clone().find(|id| refusal.message.contains(id.as_str())),
                instances.next(),
                instances.next(),
            ) {
                (Some(meant), ..) | (None, Some(meant), None) => meant,
                _ => "",
            }
        }
        _ => "",
    };
    let owner = if names.project_id.is_empty() { String::new() } else { format!("projects/{}", names.project_id) };
    ResourceInfo::new(type_, name, owner, row.map_or("", |row| row.meaning))
}

/// The field of the request that carries a parameter of the cloud; the parameter's own name when none does.
fn field(parameter: &str, names: Names<'_>) -> String {
    let of_domain = |field: &str| match names.domains {
        [_] => format!("domains[0].{field}"),
        _ => "domains".to_owned(),
    };
    match parameter {
        "domain" | "verified_client_certificate_enabled" | "instance_ids" => of_domain(parameter),
        "instance_id" => of_domain("instance_ids"),
        _ => parameter.to_owned(),
    }
}

/// Tells clients that repeat by themselves when to do so (gRFC A6), or not to.
fn pushback(status: &mut Status, refusal: &Refusal) {
    let delay = match (refusal.processed(), refusal.retry_after) {
        // A repeat could do twice what may have been done already.
        (Processed::Unknown, _) if status.code() == Code::Unavailable => "-1".to_owned(),
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

/// What a status says of an error.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) reason: String,
    /// What is known of the change, where the cloud has not answered.
    pub(crate) outcome: Option<String>,
}

/// Reads the details of a status that this gateway made, for logs.
pub(crate) fn told(details: Bytes) -> Option<Told> {
    /// `google.rpc.Status`, no more of it than is wanted: its fields are not copied.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Outer {
        #[prost(message, repeated, tag = "3")]
        details: Vec<Detail>,
    }
    /// `google.protobuf.Any`
    #[derive(Clone, PartialEq, prost::Message)]
    struct Detail {
        #[prost(bytes = "bytes", tag = "2")]
        value: Bytes,
    }
    /// `google.rpc.ErrorInfo`
    #[derive(Clone, PartialEq, prost::Message)]
    struct Info {
        #[prost(string, tag = "1")]
        reason: String,
        #[prost(message, repeated, tag = "3")]
        metadata: Vec<Fact>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Fact {
        #[prost(bytes = "bytes", tag = "1")]
        name: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        value: Bytes,
    }

    // It always comes first.
    let info = Outer::decode(details).ok()?.details.into_iter().next()?;
    let Info { reason, metadata } = Info::decode(info.value).ok()?;
    let outcome = metadata.into_iter().find(|fact| *fact.name == *b"outcome");
    Some(Told { reason, outcome: outcome.and_then(|fact| String::from_utf8(fact.value.to_vec()).ok()) })
}

#[cfg(test)]
mod tests;
