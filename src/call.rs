//! The context of one call besides its message: deadline, token, ids, trace, charges, and the progress of its request. It
//! knows neither gRPC nor the cloud.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use http::HeaderValue;
use tokio::time::Instant;

use crate::trace::{CallSpan, Wait};

/// The context of one call. It travels by reference; only [`Progress`] changes.
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
    pub(crate) account: Arc<dyn Account>,
    /// It looks up the outcome of another call, and must not take a thing that a call could need.
    pub(crate) is_read_back: bool,
}

/// The account that a call is charged to.
pub(crate) trait Account: Debug + Send + Sync {
    /// Charges memory until the call ends; `false` if there is none left.
    fn charge(&self, bytes: usize) -> bool;

    /// Charges memory that calls have plenty of; `false` if they have not.
    fn charge_spare(&self, bytes: usize) -> bool;

    /// Returns a part of the charges.
    fn release(&self, bytes: usize);

    /// The part of a limit that the caller may take.
    fn share_of(&self, limit: usize) -> usize;

    /// The caller as a number, the same for each call of one identity.
    fn caller(&self) -> u64;
}

/// W3C trace context. It is passed on as it came, unless the call has a span.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    /// `traceparent`
    pub(crate) parent: Option<HeaderValue>,
    /// `tracestate`, only beside a `traceparent`
    pub(crate) state: Option<HeaderValue>,
    /// The span of this call; `None` without traces of our own.
    pub(crate) span: Option<CallSpan>,
}

impl Trace {
    /// Notes the time until the value is dropped, if the call is traced.
    pub(crate) fn wait(&self, reason: &'static str) -> Option<Wait<'_>> {
        self.span.as_ref()?.wait(reason)
    }
}

/// The id of a trace, as `traceparent` writes it: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TraceId([u8; 32]);

impl TraceId {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Trace {
    /// The id of the trace if it is sampled: by the span of this call, or without one by its caller.
    pub(crate) fn sampled(&self) -> Option<TraceId> {
        match &self.span {
            Some(span) if span.is_recording() => Some(TraceId(span.trace_id().as_bytes().try_into().ok()?)),
            Some(_) => None,
            None => self.sampled_by_caller(),
        }
    }

    /// The id of a trace that its caller records: `traceparent` is valid and has the flag `sampled`.
    fn sampled_by_caller(&self) -> Option<TraceId> {
        let parent = self.parent.as_ref()?.as_bytes();
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_zero = |part: &[u8]| part.iter().all(|digit| *digit == b'0');
        let mut parts = parent.split(|byte| *byte == b'-');
        let mut next = |length| parts.next().filter(|part| part.len() == length && part.iter().all(is_hex));
        let (version, id, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        // Later versions may add fields behind the flags (W3C Trace Context, section 3.2.4).
        let is_complete = version != b"00" || parts.next().is_none();
        let is_sampled = char::from(*flags.last()?).to_digit(16)? % 2 == 1;
        let is_valid = version != b"ff" && is_complete && !is_zero(id) && !is_zero(span);
        if is_valid && is_sampled { Some(TraceId(id.try_into().ok()?)) } else { None }
    }
}

/// Whether a request is with the cloud and has no answer yet. Decides the outcome that a caller is told when its call is
/// dropped midway (deadline, shutdown).
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

    /// The request did not leave after all.
    pub(crate) fn unsent(&self) {
        self.is_unknown.store(false, Ordering::Relaxed);
        self.attempts.fetch_sub(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_that_of_a_valid_and_sampled_parent() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let sampled = |parent: &str| {
            let trace = Trace { parent: Some(parent.parse().unwrap()), ..Trace::default() };
            trace.sampled().map(|id| id.as_str().to_owned())
        };
        for parent in ["00-{}-00f067aa0ba902b7-01", "00-{}-00f067aa0ba902b7-03", "01-{}-00f067aa0ba902b7-01-more"] {
            assert_eq!(sampled(&parent.replace("{}", id)).as_deref(), Some(id), "{parent}");
        }
        for parent in [
            "00-{}-00f067aa0ba902b7-00",
            "00-{}-00f067aa0ba902b7-02",
            "00-{}-00f067aa0ba902b7-1",
            "00-{}-00f067aa0ba902b7",
            "00-{}-00f067aa0ba902b7-01-more",
            "ff-{}-00f067aa0ba902b7-01",
            "00-{}-0000000000000000-01",
            "00-{}0-00f067aa0ba902b7-01",
            "",
        ] {
            assert_eq!(sampled(&parent.replace("{}", id)), None, "{parent}");
        }
        for id in ["00000000000000000000000000000000", "4BF92F3577B34DA6A3CE929D0E0E4736"] {
            assert_eq!(sampled(&format!("00-{id}-00f067aa0ba902b7-01")), None);
        }
        assert_eq!(Trace::default().sampled(), None);
    }
}
