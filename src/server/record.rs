//! What is kept of a call when it ends, also when its caller leaves: metrics, a log line, an audit line. It decides
//! nothing.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tonic::{Code, metadata::MetadataMap};
use tracing::{Span, debug, info};

use super::Shared;
use crate::{
    audit::{self, Entry, Subject},
    call::Progress,
    cloud::CHANGES,
    peer::Peer,
    status,
    telemetry::code_name,
};

/// The method beside our own that ends with its answer.
pub(super) const HEALTH_CHECK: &str = "grpc.health.v1.Health/Check";

pub(super) static GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// A call on its way to its end.
pub(super) struct Record {
    pub(super) shared: Arc<Shared>,
    pub(super) method: &'static str,
    pub(super) span: Span,
    pub(super) started: Instant,
    pub(super) peer: Arc<Peer>,
    pub(super) request_id: HeaderValue,
    /// What the call is to change, once it has been read; `None` without an audit log.
    pub(super) subject: Option<Arc<OnceLock<Subject>>>,
    pub(super) progress: Arc<Progress>,
    /// `None` when the caller has left.
    pub(super) end: Option<Code>,
    /// `grpc-status-details-bin`
    pub(super) details: Option<HeaderValue>,
    /// The cloud's id for the request.
    pub(super) cloud_id: Option<HeaderValue>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let code = self.end.unwrap_or(Code::Cancelled);
        let took = self.started.elapsed();
        self.shared.metrics.call(self.method, code, took);
        let told = self.details.take().and_then(|details| {
            let headers = HeaderMap::from_iter([(GRPC_STATUS_DETAILS.clone(), details)]);
            let details = MetadataMap::from_headers(headers).get_bin(GRPC_STATUS_DETAILS.as_str())?.to_bytes().ok()?;
            status::told(details)
        });
        let reason = told.as_ref().map(|told| told.reason.as_str());
        let cloud_id = self.cloud_id.as_ref().and_then(|id| id.to_str().ok());
        let milliseconds = audit::milliseconds(took);
        let code_name = code_name(code);
        if self.method == HEALTH_CHECK {
            // Probes come every few seconds.
            debug!(parent: &self.span, code = code_name, milliseconds, "call ended");
        } else {
            info!(parent: &self.span, code = code_name, reason, apig_request_id = cloud_id, milliseconds, "call ended");
        }
        if let Some(audit) = &self.shared.audit
            && CHANGES.contains(&self.method)
        {
            let subject = self.subject.as_ref().and_then(|subject| subject.get());
            let outcome = match (self.end, &told) {
                // Without a valid message there is nothing to send.
                _ if subject.is_none() => "not_sent",
                (Some(_), None) if code == Code::Ok => "applied",
                (Some(_), Some(told)) => told.outcome.as_deref().unwrap_or("refused"),
                _ if self.progress.is_unknown() => "unknown",
                _ => "not_sent",
            };
            audit.note(Entry {
                time: audit::now(),
                caller: self.peer.identity.to_string(),
                peer: self.peer.address.map(|address| address.to_string()),
                method: self.method,
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
