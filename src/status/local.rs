//! The statuses of failures in the gateway itself, or between it and the cloud.

mod admission;
mod credentials;

use std::{borrow::Cow, sync::Arc, time::Duration};

use tonic::{Code, Status};

pub(crate) use self::admission::{rejected, request_stalled, too_far_ahead, too_many_entries, unsupported_encoding};
pub(super) use self::credentials::{credentials_refused, unauthorized};
use super::{Ending, OBSERVED, Outcome, detail::Detail, size_limit};
use crate::{
    cloud::{LockQueueFull, Observed, RateLimited},
    validate::Violations,
};

/// `ErrorInfo.domain` of the gateway's own errors.
const GATEWAY: &str = "apig-grpc-gateway";

/// The longest text of a transport error that is passed on.
const MOST_CAUSE: usize = 500;

/// The space of the named violations, in bytes: beside them everything else fits too. All are counted.
const VIOLATIONS_SPACE: usize = 4_500;

/// `ErrorInfo.reason` of the gateway's own errors.
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

    /// Advice for the operator: the first sentence of the remedy in `docs/troubleshoot.md`.
    const fn advice(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The caller has to correct the call.",
            Self::TokenMissing => "The caller has to send its token as x-auth-token.",
            Self::CredentialsUnavailable => "Check IAM, and the file or the service that the credential comes from.",
            Self::CredentialsRefused => "Replace the gateway's credentials: the cloud or IAM rejected them.",
            Self::CallerNotAllowed => "Check the rules, and the identity for the project.",
            Self::UpstreamUnreachable => "Check upstream, DNS, upstream-proxy and upstream-ca.",
            Self::UpstreamConnectionLost => "Read the attached domains before a repeat: the outcome is unknown.",
            Self::UpstreamProtocolError | Self::UpstreamRedirect => "Check upstream: another server answers there.",
            Self::DeadlineExceeded => "Look for a slow cloud, or use a longer deadline.",
            Self::Overloaded => "Lower the load, or raise the limit that the error names.",
            Self::CircuitOpen => "Check the cloud: it fails or does not answer.",
            Self::ShuttingDown => "Retry at another gateway if outcome is not_sent.",
            Self::InternalError => "Report a bug: the log has the panic.",
        }
    }
}

/// A status of the gateway's own under construction: it is finished when it is known whether the call is a change.
#[derive(Debug)]
pub(crate) struct Local {
    code: Code,
    reason: Reason,
    metadata: Vec<(&'static str, String)>,
    details: Vec<Detail>,
    outcome: Option<Outcome>,
    observed: Option<Observed>,
    message: Cow<'static, str>,
    /// The message says that an unknown outcome is unknown.
    tells_outcome: bool,
    cause: Option<String>,
}

impl Local {
    fn new(code: Code, reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        let (metadata, details) = (Vec::new(), Vec::new());
        let message = message.into();
        Self {
            code,
            reason,
            metadata,
            details,
            outcome: None,
            observed: None,
            message,
            tells_outcome: false,
            cause: None,
        }
    }

    fn fact(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((name, value.into()));
        self
    }

    fn not_sent(self) -> Self {
        Self { outcome: Some(Outcome::NotSent), ..self }
    }

    fn unknown(self) -> Self {
        Self { outcome: Some(Outcome::Unknown), ..self }
    }

    fn retry_in(self, wait: Duration) -> Self {
        self.detail(Detail::retry_info(wait))
    }

    fn detail(mut self, detail: Detail) -> Self {
        self.details.push(detail);
        self
    }

    /// Ends the message with the error underneath.
    fn caused_by(self, cause: &str) -> Self {
        Self { cause: Some(cut(cause).to_owned()), ..self }
    }

    fn telling_outcome(self) -> Self {
        Self { tells_outcome: true, ..self }
    }

    /// Adds the state that the cloud listed after an unknown outcome.
    pub(super) fn observed(self, observed: Option<Observed>) -> Self {
        Self { observed, ..self }
    }

    /// The status of a change or, without an outcome, of a read.
    pub(crate) fn status(mut self, is_change: bool) -> Status {
        let outcome = self.outcome.filter(|_| is_change);
        if let Some(outcome) = outcome {
            self.metadata.push(("outcome", outcome.as_str().to_owned()));
        }
        if let Some(observed) = self.observed {
            self.metadata.push((OBSERVED, observed.as_str().to_owned()));
        }
        let mut message = self.message;
        if self.tells_outcome && outcome == Some(Outcome::Unknown) {
            message.to_mut().push_str("; whether it acted is unknown");
        }
        if let Some(cause) = self.cause {
            let message = message.to_mut();
            message.push_str(": ");
            message.push_str(&cause);
        }
        let info = Detail::error_info(self.reason.as_str(), GATEWAY, self.metadata);
        let details = std::iter::once(info).chain(self.details).collect();
        let mut status = size_limit::status(self.code, &message, details);
        if self.code == Code::Unavailable && outcome == Some(Outcome::Unknown) {
            // Keeps clients that repeat `UNAVAILABLE` by themselves from making a change twice (gRFC A6).
            status.metadata_mut().insert("grpc-retry-pushback-ms", tonic::metadata::MetadataValue::from_static("-1"));
        }
        let (reason, advice) = (self.reason.as_str().into(), Some(self.reason.advice()));
        status.set_source(Arc::new(Ending { reason, outcome, observed: self.observed, advice }));
        status
    }
}

/// The policy of this gateway does not allow the call. The status names the part of the request that was too much, and
/// nothing of the rules.
pub(crate) fn caller_not_allowed(part: &'static str, method: &str) -> Local {
    let message = format!("the policy of this gateway does not allow the caller this {part}");
    Local::new(Code::PermissionDenied, Reason::CallerNotAllowed, message)
        .fact("denied", part)
        .fact("method", method)
        .not_sent()
}

/// The request breaks rules that are known before anything is sent.
pub(crate) fn invalid_request(violations: &Violations) -> Local {
    let mut space = VIOLATIONS_SPACE;
    let named = violations
        .first
        .iter()
        .take_while(|violation| {
            // Two tags with their lengths, and those of the whole.
            let taken = violation.field.len() + violation.description.len() + 8;
            let fits = taken <= space;
            space = space.saturating_sub(taken);
            fits
        })
        .map(|violation| (violation.field.clone(), violation.description));
    let named = Detail::bad_request(named);
    let first =
        violations.first.first().map(|first| format!("{} {}", first.field, first.description)).unwrap_or_default();
    let message = match violations.total {
        1 => first,
        total => format!("{first} (and {} more)", total - 1),
    };
    Local::new(Code::InvalidArgument, Reason::InvalidRequest, message)
        .fact("violations", violations.total.to_string())
        .not_sent()
        .detail(named)
}

/// The request is not a valid protobuf message.
pub(crate) fn unreadable_message(cause: &str) -> Local {
    Local::new(Code::InvalidArgument, Reason::InvalidRequest, "the request message can't be read")
        .caused_by(cause)
        .not_sent()
}

/// `grpc-timeout` does not have the protocol's form.
pub(crate) fn malformed_timeout() -> Local {
    let message = "grpc-timeout must be 1 to 8 digits and a unit out of H M S m u n";
    Local::new(Code::InvalidArgument, Reason::InvalidRequest, message).not_sent()
}

/// The message is larger than the gateway takes.
pub(crate) fn message_too_large(limit: usize) -> Local {
    let message = format!("the request message is larger than {limit} bytes");
    Local::new(Code::ResourceExhausted, Reason::InvalidRequest, message)
        .fact("max_message_size", limit.to_string())
        .not_sent()
}

/// There is no such method, or not in this form.
pub(crate) fn unimplemented(cause: &'static str) -> Local {
    Local::new(Code::Unimplemented, Reason::InvalidRequest, cause).not_sent()
}

/// The upstream is down.
pub(super) fn circuit_open(wait: Duration) -> Local {
    let message = "the cloud has failed many times in a row; calls fail at once until one has come through";
    Local::new(Code::Unavailable, Reason::CircuitOpen, message).not_sent().retry_in(wait)
}

/// The limit on requests a second leaves no slot before the deadline.
pub(super) fn rate_limited(RateLimited { wait, limit }: RateLimited) -> Local {
    let message = format!("the rate limit ({limit} requests a second) leaves no slot before the deadline");
    Local::new(Code::Unavailable, Reason::Overloaded, message)
        .fact("max_requests_per_second", limit.to_string())
        .not_sent()
        .retry_in(wait)
}

/// Too many calls wait for one certificate.
pub(super) fn queue_full(LockQueueFull { limit, is_share }: LockQueueFull) -> Local {
    let message = if is_share {
        format!(
            "too many calls of this caller wait to change this certificate while others call, too (its share is {limit})"
        )
    } else {
        format!("too many calls wait to change this certificate (limit {limit})")
    };
    let local = Local::new(Code::Unavailable, Reason::Overloaded, message)
        .fact("max_queue", limit.to_string())
        .not_sent()
        .retry_in(Duration::from_secs(1));
    if is_share { local.fact("share", "caller") } else { local }
}

/// Time is up.
pub(crate) fn deadline_exceeded(sent: bool) -> Local {
    let local = |message| Local::new(Code::DeadlineExceeded, Reason::DeadlineExceeded, message);
    if sent {
        local("the deadline passed before the cloud answered").unknown().telling_outcome()
    } else {
        local("the deadline passed before the request was sent").not_sent()
    }
}

/// The gateway stops, and can't wait for this call any longer.
pub(crate) fn shutting_down(sent: bool) -> Local {
    let local = |message| Local::new(Code::Unavailable, Reason::ShuttingDown, message);
    if sent {
        local("the gateway shut down before the cloud answered").unknown().telling_outcome()
    } else {
        local("the gateway is shutting down; nothing was sent").not_sent().retry_in(Duration::from_secs(1))
    }
}

/// A bug in the gateway.
pub(crate) fn panicked(sent: bool) -> Local {
    let message = "the gateway failed on this call; see its log";
    let local = Local::new(Code::Internal, Reason::InternalError, message);
    if sent { local.unknown() } else { local.not_sent() }
}

pub(super) fn unreachable(cause: &str) -> Local {
    Local::new(Code::Unavailable, Reason::UpstreamUnreachable, "the cloud can't be reached")
        .caused_by(cause)
        .not_sent()
        .retry_in(Duration::from_secs(1))
}

pub(super) fn lost(cause: &str) -> Local {
    Local::new(Code::Unavailable, Reason::UpstreamConnectionLost, "the connection broke before the cloud answered")
        .caused_by(cause)
        .unknown()
        .telling_outcome()
}

/// A read was interrupted, and a repeat does no harm.
pub(super) fn read_interrupted(cause: &str) -> Local {
    Local { outcome: None, ..lost(cause) }.retry_in(Duration::from_secs(1))
}

pub(super) fn garbled(cause: &str) -> Local {
    Local::new(Code::Internal, Reason::UpstreamProtocolError, "the upstream's answer is no HTTP")
        .caused_by(cause)
        .unknown()
        .telling_outcome()
}

/// The body of a success is not the documented one.
pub(super) fn malformed(http_status: u16, cause: &str) -> Local {
    Local::new(Code::Internal, Reason::UpstreamProtocolError, "the cloud's answer can't be read")
        .fact("http_status", http_status.to_string())
        .caused_by(cause)
        .unknown()
        .telling_outcome()
}

/// No memory was left for the body of a success.
pub(super) fn no_memory() -> Local {
    let message = "the gateway has no memory left for the cloud's answer";
    Local::new(Code::Unavailable, Reason::Overloaded, message).unknown().retry_in(Duration::from_secs(1))
}

pub(super) fn redirected(http_status: u16) -> Local {
    let message = format!("the upstream answered {http_status}, a redirect, which is never followed: check `upstream`");
    Local::new(Code::Internal, Reason::UpstreamRedirect, message).fact("http_status", http_status.to_string()).unknown()
}

pub(super) fn unexpected(http_status: u16, content_type: Option<&str>) -> Local {
    let with = content_type.map(|kind| format!(" with {kind}")).unwrap_or_default();
    let message = format!("the upstream answered {http_status}{with}, which is not the API's answer: check `upstream`");
    let local = Local::new(Code::Internal, Reason::UpstreamProtocolError, message)
        .fact("http_status", http_status.to_string())
        .unknown();
    match content_type {
        Some(kind) => local.fact("content_type", kind),
        None => local,
    }
}

pub(super) fn unsafe_request(field: &str) -> Local {
    let message = format!("{field} can't be put into the request's path");
    Local::new(Code::Internal, Reason::InternalError, message).not_sent()
}

fn cut(text: &str) -> &str {
    (0..=MOST_CAUSE.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
