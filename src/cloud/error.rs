//! The failures of a call to the cloud, as far as they matter to the caller's status and to repeats.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::{certificate_lock::LockQueueFull, rate_limit::RateLimited, refusal::Refusal};
use crate::credentials::CredentialError;

/// How far this machine's clock is from the cloud's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockSkew {
    pub(crate) by: Duration,
    /// Ahead of the cloud's, or behind it.
    pub(crate) is_ahead: bool,
}

impl ClockSkew {
    /// Less is the time that an answer takes, and no fault: the cloud allows a quarter of an hour.
    const WORTH_TELLING: Duration = Duration::from_secs(60);

    pub(crate) fn between(ours: SystemTime, clouds: SystemTime) -> Option<Self> {
        let (by, is_ahead) = match ours.duration_since(clouds) {
            Ok(by) => (by, true),
            Err(other) => (other.duration(), false),
        };
        (by >= Self::WORTH_TELLING).then_some(Self { by, is_ahead })
    }
}

/// A call that did not end with the cloud's documented success.
#[derive(Debug)]
pub(crate) enum Error {
    /// The cloud said no.
    Refused(Box<Refusal>),
    /// The cloud said no to a credential that this gateway holds; its operator has to fix it.
    CredentialsRefused(Box<Refusal>, Option<ClockSkew>),
    /// The upstream is down, and requests fail fast until this is over. Nothing was sent.
    CircuitOpen(Duration),
    /// The limit on requests a second leaves no slot before the deadline. Nothing was sent.
    RateLimited(RateLimited),
    /// Too many calls wait for the same certificate. Nothing was sent.
    LockQueueFull(LockQueueFull),
    /// There is no credential to call the cloud with. Nothing was sent.
    Unauthorized(CredentialError),
    /// No connection: nothing was sent.
    Unreachable(String),
    /// The connection broke after the request of a change had left: the outcome is unknown.
    ConnectionLost(String),
    /// The connection broke after the request of a read had left.
    ReadInterrupted(String),
    /// An answer that is no HTTP: the outcome is unknown.
    Decode(String),
    /// A redirect, which is never followed.
    Redirected { status: StatusCode, request_id: Option<String> },
    /// A status below 400 that the operation does not document, such as a login page's 200.
    Unexpected { status: StatusCode, content_type: Option<String>, request_id: Option<String> },
    /// A success without the documented body: cut, malformed or too large.
    Malformed { status: StatusCode, cause: String, request_id: Option<String> },
    /// No memory was left for the body of a success.
    NoMemory,
    /// A value of the request would leave its place in the path; validation must not let it come here.
    UnsafeRequest(&'static str),
}

impl Error {
    /// The error of a request, for its span, unless the status of the answer tells it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "UPSTREAM_UNREACHABLE",
            Self::ConnectionLost(_) | Self::ReadInterrupted(_) => "UPSTREAM_CONNECTION_LOST",
            Self::Redirected { .. } => "UPSTREAM_REDIRECT",
            Self::NoMemory => "OVERLOADED",
            _ => "UPSTREAM_PROTOCOL_ERROR",
        }
    }

    /// The cloud's id for the request, if it answered with one.
    pub(crate) fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) | Self::CredentialsRefused(refusal, _) => refusal.request_id.as_deref(),
            Self::Redirected { request_id, .. }
            | Self::Unexpected { request_id, .. }
            | Self::Malformed { request_id, .. } => request_id.as_deref(),
            Self::CircuitOpen(_)
            | Self::RateLimited(_)
            | Self::LockQueueFull(_)
            | Self::Unauthorized(_)
            | Self::Unreachable(_)
            | Self::ConnectionLost(_)
            | Self::ReadInterrupted(_)
            | Self::NoMemory
            | Self::Decode(_)
            | Self::UnsafeRequest(_) => None,
        }
    }
}
