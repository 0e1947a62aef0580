//! The statuses for what went wrong in the gateway itself, or between it and the cloud.

mod admission;

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{BadRequest, ErrorDetail, ErrorInfo, FieldViolation, RequestInfo, RetryInfo};

pub(crate) use self::admission::{rejected, request_stalled, too_far_ahead, too_many_entries, unsupported_encoding};
use super::size_limit;
use crate::{
    cloud::{ClockSkew, LockQueueFull, RateLimited, Refusal},
    credentials::CredentialError,
    validate::Violations,
};

/// `ErrorInfo.domain` of what the gateway itself could not do.
const GATEWAY: &str = "apig-grpc-gateway";

/// The longest text of a transport error that is passed on.
const MOST_CAUSE: usize = 500;

/// What the named violations may take, in bytes: beside them everything else fits too. All are counted.
const VIOLATIONS_SPACE: usize = 4_500;

/// `ErrorInfo.reason` of what the gateway itself could not do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reason {
    InvalidRequest,
    TokenMissing,
    CredentialsUnavailable,
    CredentialsRefused,
    CallerNotAllowed,
    UpstreamUnreachable,
    UpstreamConnectionLost,
    UpstreamProtocolError,
    UpstreamRedirect,
    DeadlineExceeded,
    Overloaded,
    CircuitOpen,
    ShuttingDown,
    InternalError,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::TokenMissing => "TOKEN_MISSING",
            Self::CredentialsUnavailable => "CREDENTIALS_UNAVAILABLE",
            Self::CredentialsRefused => "CREDENTIALS_REFUSED",
            Self::CallerNotAllowed => "CALLER_NOT_ALLOWED",
            Self::UpstreamUnreachable => "UPSTREAM_UNREACHABLE",
            Self::UpstreamConnectionLost => "UPSTREAM_CONNECTION_LOST",
            Self::UpstreamProtocolError => "UPSTREAM_PROTOCOL_ERROR",
            Self::UpstreamRedirect => "UPSTREAM_REDIRECT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Overloaded => "OVERLOADED",
            Self::CircuitOpen => "CIRCUIT_OPEN",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// What is known of a change when a call ends without the cloud's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It has certainly not been made.
    NotSent,
    /// It may or may not have been made.
    Unknown,
}

impl Outcome {
    const fn of(unknown: bool) -> Self {
        if unknown { Self::Unknown } else { Self::NotSent }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
        }
    }
}

/// A status under construction.
struct Own {
    code: Code,
    reason: Reason,
    metadata: HashMap<String, String>,
    details: Vec<ErrorDetail>,
    outcome: Option<Outcome>,
}

impl Own {
    fn new(code: Code, reason: Reason) -> Self {
        Self { code, reason, metadata: HashMap::new(), details: Vec::new(), outcome: None }
    }

    fn fact(mut self, name: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(name.to_owned(), value.into());
        self
    }

    fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self.fact("outcome", outcome.as_str())
    }

    fn retry_in(self, wait: Duration) -> Self {
        self.detail(RetryInfo::new(Some(wait)))
    }

    fn detail(mut self, detail: impl Into<ErrorDetail>) -> Self {
        self.details.push(detail.into());
        self
    }

    fn status(self, message: &str) -> Status {
        let info = ErrorInfo::new(self.reason.as_str(), GATEWAY, self.metadata);
        let details = std::iter::once(info.into()).chain(self.details).collect();
        let mut status = size_limit::status(self.code, message, details);
        if self.code == Code::Unavailable && self.outcome == Some(Outcome::Unknown) {
            // Keeps clients that repeat `UNAVAILABLE` by themselves from making a change twice (gRFC A6).
            status.metadata_mut().insert("grpc-retry-pushback-ms", tonic::metadata::MetadataValue::from_static("-1"));
        }
        status
    }
}

/// The gateway's policy does not let this caller do that. It says which part of the request was too much, and nothing of
/// the rules.
pub(crate) fn caller_not_allowed(what: &'static str, method: &str) -> Status {
    Own::new(Code::PermissionDenied, Reason::CallerNotAllowed)
        .fact("denied", what)
        .fact("method", method)
        .outcome(Outcome::NotSent)
        .status(&format!("the policy of this gateway does not allow the caller this {what}"))
}

/// The request breaks rules that are known before anything is sent.
pub(crate) fn invalid_request(violations: &Violations) -> Status {
    let mut space = VIOLATIONS_SPACE;
    let named: Vec<FieldViolation> = violations
        .first
        .iter()
        .take_while(|violation| {
            // Two tags with their lengths, and those of the whole.
            let taken = violation.field.len() + violation.description.len() + 8;
            let fits = taken <= space;
            space = space.saturating_sub(taken);
            fits
        })
        .map(|violation| FieldViolation::new(&violation.field, violation.description))
        .collect();
    let first =
        violations.first.first().map(|first| format!("{} {}", first.field, first.description)).unwrap_or_default();
    let message = match violations.total {
        1 => first,
        total => format!("{first} (and {} more)", total - 1),
    };
    Own::new(Code::InvalidArgument, Reason::InvalidRequest)
        .fact("violations", violations.total.to_string())
        .outcome(Outcome::NotSent)
        .detail(BadRequest::new(named))
        .status(&message)
}

/// The bytes that came are no message.
pub(crate) fn unreadable_message(cause: &str) -> Status {
    Own::new(Code::InvalidArgument, Reason::InvalidRequest)
        .outcome(Outcome::NotSent)
        .status(&format!("the request message can't be read: {}", cut(cause)))
}

/// `grpc-timeout` is not what the protocol says.
pub(crate) fn malformed_timeout() -> Status {
    Own::new(Code::InvalidArgument, Reason::InvalidRequest)
        .outcome(Outcome::NotSent)
        .status("grpc-timeout must be 1 to 8 digits and a unit out of H M S m u n")
}

/// The message is larger than the gateway takes.
pub(crate) fn message_too_large(limit: usize) -> Status {
    Own::new(Code::ResourceExhausted, Reason::InvalidRequest)
        .fact("max_message_size", limit.to_string())
        .outcome(Outcome::NotSent)
        .status(&format!("the request message is larger than {limit} bytes"))
}

/// There is no such method, or not in this form.
pub(crate) fn unimplemented(cause: &str) -> Status {
    Own::new(Code::Unimplemented, Reason::InvalidRequest).outcome(Outcome::NotSent).status(cause)
}

/// The upstream is down.
pub(super) fn circuit_open(wait: Duration) -> Status {
    Own::new(Code::Unavailable, Reason::CircuitOpen)
        .outcome(Outcome::NotSent)
        .retry_in(wait)
        .status("the cloud has failed many times in a row; calls fail at once until one has come through")
}

/// The limit on requests a second leaves no slot before the deadline.
pub(super) fn rate_limited(RateLimited { wait, limit }: RateLimited) -> Status {
    Own::new(Code::Unavailable, Reason::Overloaded)
        .fact("max_requests_per_second", limit.to_string())
        .outcome(Outcome::NotSent)
        .retry_in(wait)
        .status(&format!("the rate limit ({limit} requests a second) leaves no slot before the deadline"))
}

/// Too many calls wait for one certificate.
pub(super) fn queue_full(LockQueueFull { limit, is_share }: LockQueueFull) -> Status {
    let local = Own::new(Code::Unavailable, Reason::Overloaded)
        .fact("max_queue", limit.to_string())
        .outcome(Outcome::NotSent)
        .retry_in(Duration::from_secs(1));
    if is_share {
        local.fact("share", "caller").status(&format!(
            "too many calls of this caller wait to change this certificate while others call, too (its share is {limit})"
        ))
    } else {
        local.status(&format!("too many calls wait to change this certificate (limit {limit})"))
    }
}

/// Time is up.
pub(crate) fn deadline_exceeded(sent: bool) -> Status {
    Own::new(Code::DeadlineExceeded, Reason::DeadlineExceeded).outcome(Outcome::of(sent)).status(if sent {
        "the deadline passed before the cloud answered; whether it acted is unknown"
    } else {
        "the deadline passed before the request was sent"
    })
}

/// The gateway stops, and can't wait for this call any longer.
pub(crate) fn shutting_down(sent: bool) -> Status {
    let local = Own::new(Code::Unavailable, Reason::ShuttingDown).outcome(Outcome::of(sent));
    if sent {
        local.status("the gateway shut down before the cloud answered; whether it acted is unknown")
    } else {
        local.retry_in(Duration::from_secs(1)).status("the gateway is shutting down; nothing was sent")
    }
}

/// A bug in the gateway.
pub(crate) fn panicked(sent: bool) -> Status {
    Own::new(Code::Internal, Reason::InternalError)
        .outcome(Outcome::of(sent))
        .status("the gateway failed on this call; its log says where")
}

/// There is no credential to call the cloud with.
pub(super) fn unauthorized(missing: &CredentialError, project_id: &str) -> Status {
    match missing {
        CredentialError::Token => Own::new(Code::Unauthenticated, Reason::TokenMissing)
            .fact("metadata_key", "x-auth-token")
            .outcome(Outcome::NotSent)
            .status("the call needs an IAM token in its metadata: x-auth-token"),
        CredentialError::Identity => Own::new(Code::PermissionDenied, Reason::CallerNotAllowed)
            .fact("project_id", project_id)
            .outcome(Outcome::NotSent)
            .status("the gateway serves other projects than this one"),
        CredentialError::Unavailable { cause, wait } => Own::new(Code::Unavailable, Reason::CredentialsUnavailable)
            .outcome(Outcome::NotSent)
            .retry_in(*wait)
            .status(&format!("the gateway can't get a credential for the cloud now: {}", cut(cause))),
        CredentialError::Suspended { code, wait } => {
            let local = Own::new(Code::Internal, Reason::CredentialsRefused).outcome(Outcome::NotSent).retry_in(*wait);
            let local = match code {
                Some(code) => local.fact("error_code", code),
                None => local,
            };
            local.status(&format!(
                "the cloud refused the gateway's signatures, so the gateway stopped signing with this key pair and tries \
                 again in {} s; its operator has to check the key pair and this machine's clock",
                wait.as_secs().max(1)
            ))
        }
        CredentialError::Refused(cause) => Own::new(Code::Internal, Reason::CredentialsRefused)
            .outcome(Outcome::NotSent)
            .status(&format!("the gateway is refused a credential, which its operator must mend: {}", cut(cause))),
    }
}

pub(super) fn credentials_refused(refusal: &Refusal, skew: Option<ClockSkew>) -> Status {
    let mut local =
        Own::new(Code::Internal, Reason::CredentialsRefused).fact("http_status", refusal.status.to_string());
    if let Some(code) = &refusal.code {
        local = local.fact("error_code", code);
    }
    if let Some(id) = &refusal.request_id {
        local = local.fact("request_id", id).detail(RequestInfo::new(id, ""));
    }
    let clock = match skew {
        None => String::new(),
        Some(ClockSkew { by, is_ahead }) => {
            let (sign, side) = if is_ahead { ("", "ahead of") } else { ("-", "behind") };
            local = local.fact("clock_skew", format!("{sign}{}s", by.as_secs()));
            format!(" (this machine's clock is {} s {side} the cloud's)", by.as_secs())
        }
    };
    local.status(&format!(
        "the cloud refuses the gateway's credentials, which its operator must mend{clock}: {}",
        cut(&refusal.message)
    ))
}

pub(super) fn unreachable(cause: &str) -> Status {
    Own::new(Code::Unavailable, Reason::UpstreamUnreachable)
        .outcome(Outcome::NotSent)
        .retry_in(Duration::from_secs(1))
        .status(&format!("the cloud can't be reached: {}", cut(cause)))
}

pub(super) fn lost(cause: &str) -> Status {
    Own::new(Code::Unavailable, Reason::UpstreamConnectionLost)
        .outcome(Outcome::Unknown)
        .status(&format!("the connection broke before the cloud answered; whether it acted is unknown: {}", cut(cause)))
}

pub(super) fn garbled(cause: &str) -> Status {
    Own::new(Code::Internal, Reason::UpstreamProtocolError)
        .outcome(Outcome::Unknown)
        .status(&format!("the upstream's answer is no HTTP; whether it acted is unknown: {}", cut(cause)))
}

pub(super) fn redirected(http_status: u16) -> Status {
    Own::new(Code::Internal, Reason::UpstreamRedirect)
        .fact("http_status", http_status.to_string())
        .outcome(Outcome::Unknown)
        .status(&format!("the upstream answered {http_status}, a redirect, which is never followed: check `upstream`"))
}

pub(super) fn unexpected(http_status: u16, content_type: Option<&str>) -> Status {
    let local = Own::new(Code::Internal, Reason::UpstreamProtocolError)
        .fact("http_status", http_status.to_string())
        .outcome(Outcome::Unknown);
    match content_type {
        Some(kind) => local.fact("content_type", kind).status(&format!(
            "the upstream answered {http_status} with {kind}, which is not the API's answer: check `upstream`"
        )),
        None => local
            .status(&format!("the upstream answered {http_status}, which is not the API's answer: check `upstream`")),
    }
}

pub(super) fn unsafe_request(field: &str) -> Status {
    Own::new(Code::Internal, Reason::InternalError)
        .outcome(Outcome::NotSent)
        .status(&format!("{field} can't be put into the request's path"))
}

fn cut(text: &str) -> &str {
    (0..=MOST_CAUSE.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}
