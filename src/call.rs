//! What one call carries besides its message: deadline, token, ids, trace, caller, and how far its request has gone. It knows
//! neither gRPC nor the cloud.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use http::HeaderValue;
use tokio::time::Instant;

use crate::{admission::Permit, audit::Subject, peer::Peer};

/// The context of one call. It travels by reference, and nobody amends it but [`Progress`].
#[derive(Debug)]
pub(crate) struct Call {
    /// The moment by which the caller has its answer.
    pub(crate) deadline: Instant,
    /// The caller's own IAM token, marked sensitive.
    pub(crate) token: Option<HeaderValue>,
    /// Attempts that the caller's own library made before this one.
    pub(crate) previous_attempts: u32,
    /// The id under which caller, gateway and cloud log this call.
    pub(crate) request_id: HeaderValue,
    /// The trace that this call is a part of.
    pub(crate) trace: Trace,
    /// How far the request to the cloud has gone.
    pub(crate) progress: Arc<Progress>,
    /// The call's charges, and its caller's share.
    pub(crate) permit: Arc<Permit>,
    /// What the call is to change, for the audit log if there is one: set once, when it has been understood.
    pub(crate) subject: Option<Arc<OnceLock<Subject>>>,
    /// Who calls.
    pub(crate) peer: Arc<Peer>,
}

/// W3C trace context, passed on as it came.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// `traceparent`
    pub(crate) parent: Option<HeaderValue>,
    /// `tracestate`, only beside a `traceparent`
    pub(crate) state: Option<HeaderValue>,
}

/// Whether a request is with the cloud whose answer has not come yet.
///
/// Whoever drops a call midway (deadline, shutdown) learns from this what to tell the caller.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    is_unknown: AtomicBool,
    attempts: AtomicU32,
}

impl Progress {
    /// The request leaves: from here on the cloud may have acted on it.
    pub(crate) fn sent(&self) {
        self.is_unknown.store(true, Ordering::Relaxed);
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// The cloud has turned the request away, so nothing is under way any more.
    pub(crate) fn settled(&self) {
        self.is_unknown.store(false, Ordering::Relaxed);
    }

    /// Whether the cloud may have acted without our knowing.
    pub(crate) fn is_unknown(&self) -> bool {
        self.is_unknown.load(Ordering::Relaxed)
    }

    /// How many requests have left.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }
}
