//! The record of a call, written when it ends, also when its caller leaves: metrics, a log line, an audit line.

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use http::HeaderValue;
use tokio::time::Instant;
use tonic::Code;
use tracing::{Span, debug, info};

use super::{Shared, recent::Failure};
use crate::{
    audit::{self, Entry, Subject},
    call::{Progress, TraceId},
    cloud::Observed,
    peer::Peer,
    resources::Method,
    status::{Ending, Outcome},
    telemetry::code_name,
    trace::{self, CallSpan},
};

/// The method beside our own that ends with its answer.
pub(super) const HEALTH_CHECK: &str = "grpc.health.v1.Health/Check";

/// The outcome of a change that the cloud lists as made.
const CONFIRMED: &str = "confirmed";

/// A call on its way to its end.
pub(super) struct Record {
    pub(super) shared: Arc<Shared>,
    /// The method's name for metrics and logs.
    pub(super) name: &'static str,
    /// `None` for methods that are not the API's.
    pub(super) method: Option<&'static Method>,
    pub(super) span: Span,
    /// The span for the collector of traces, if there is one.
    pub(super) trace: Option<CallSpan>,
    pub(super) started: Instant,
    pub(super) peer: Arc<Peer>,
    pub(super) request_id: HeaderValue,
    /// The resources that the call is to change, once it has been read; `None` without an audit log.
    pub(super) subject: Option<Arc<OnceLock<Subject>>>,
    pub(super) progress: Arc<Progress>,
    /// The trace of the call, if it is sampled.
    pub(super) sampled: Option<TraceId>,
    /// `None` when the caller has left.
    pub(super) end: Option<End>,
}

/// The end of a call.
pub(super) struct End {
    pub(super) code: Code,
    /// `None` for a success, and for a failure that this gateway has not made.
    pub(super) ending: Option<Ending>,
    /// The outcome was unknown, and looking it up confirmed the change.
    pub(super) is_confirmed: bool,
    /// The cloud's id for the request.
    pub(super) cloud_id: Option<HeaderValue>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let code = self.end.as_ref().map_or(Code::Cancelled, |end| end.code);
        let took = self.started.elapsed();
        self.shared.metrics.call(self.name, code, took, self.sampled);
        let ending = self.end.as_ref().and_then(|end| end.ending.as_ref());
        let reason = ending.map(|ending| &*ending.reason);
        let cloud_id = self.end.as_ref().and_then(|end| end.cloud_id.as_ref()?.to_str().ok());
        let is_confirmed = self.end.as_ref().is_some_and(|end| end.is_confirmed);
        let outcome =
            if is_confirmed { Some(CONFIRMED) } else { ending.and_then(|ending| ending.outcome).map(Outcome::as_str) };
        let observed = ending.and_then(|ending| ending.observed).map(Observed::as_str);
        let milliseconds = audit::milliseconds(took);
        if code != Code::Ok && self.name != HEALTH_CHECK {
            self.shared.failures.note(Failure {
                time: SystemTime::now(),
                method: self.name,
                code,
                reason: ending.map(|ending| ending.reason.clone()),
                advice: ending.and_then(|ending| ending.advice),
                outcome,
                request_id: self.request_id.clone(),
                cloud_id: self.end.as_ref().and_then(|end| end.cloud_id.clone()),
                count: 1,
            });
        }
        let code_name = code_name(code);
        let is_logged = self.shared.access_log.has(code != Code::Ok);
        if is_logged && self.name == HEALTH_CHECK {
            // Probes come every few seconds.
            debug!(parent: &self.span, code = code_name, milliseconds, "call ended");
        } else if is_logged {
            info!(
                parent: &self.span,
                code = code_name,
                reason,
                outcome,
                observed,
                apig_request_id = cloud_id,
                milliseconds,
                "call ended"
            );
        }
        if let Some(trace) = &self.trace {
            let error = (code != Code::Ok).then(|| reason.unwrap_or(code_name));
            trace.end(&trace::End { code: code_name, error, is_fault: is_fault(code), outcome, cloud_id });
        }
        if let Some(audit) = &self.shared.audit
            && self.method.is_some_and(|method| method.is_change)
        {
            let subject = self.subject.as_ref().and_then(|subject| subject.get());
            let outcome = match (&self.end, ending) {
                // Without a valid message there is nothing to send.
                _ if subject.is_none() => Outcome::NotSent.as_str(),
                _ if is_confirmed => CONFIRMED,
                (Some(_), None) if code == Code::Ok => "applied",
                (Some(_), Some(ending)) => ending.outcome.map_or("refused", Outcome::as_str),
                _ if self.progress.is_unknown() => Outcome::Unknown.as_str(),
                _ => Outcome::NotSent.as_str(),
            };
            audit.note(Entry {
                time: audit::now(),
                caller: self.peer.identity.to_string(),
                peer: self.peer.address.map(|address| address.to_string()),
                method: self.name,
                subject,
                outcome,
                code: code_name,
                reason,
                request_id: self.request_id.to_str().unwrap_or_default(),
                apig_request_id: cloud_id,
                attempts: self.progress.attempts(),
                milliseconds,
                suppressed: 0,
            });
        }
    }
}

/// Whether the semantic conventions of OpenTelemetry count a code as an error of the server, rather than of the caller.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
