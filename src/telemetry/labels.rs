//! The label sets of metrics that come in families.

use std::fmt::{self, Write as _};

use http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::call::TraceId;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) rpc_method: &'static str,
    pub(super) rpc_response_status_code: &'static str,
}

/// The labels of an exemplar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TraceLabels {
    pub(super) trace_id: TraceId,
}

impl EncodeLabelValue for TraceId {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    pub(super) version: &'static str,
    pub(super) commit: &'static str,
    pub(super) rustc: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RateLimitLabels {
    /// `delayed` or `rejected`.
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamLabels {
    pub(super) http_request_method: Verb,
    pub(super) http_response_status_code: Answered,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Verb(pub(super) Method);

/// The status of an answer. Statuses that are not registered share a label, so that an upstream can't make many series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Answered {
    None,
    Other,
    Registered(StatusCode),
}

impl Answered {
    pub(super) fn of(status: Option<StatusCode>) -> Self {
        match status {
            None => Self::None,
            Some(status) if status.canonical_reason().is_none() => Self::Other,
            Some(status) => Self::Registered(status),
        }
    }
}

impl EncodeLabelValue for Verb {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.0.as_str())
    }
}

impl EncodeLabelValue for Answered {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::None => "none",
            Self::Other => "other",
            Self::Registered(status) => status.as_str(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RenewalLabels {
    pub(super) identity: String,
    /// `fetched` or `failed`.
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FileLabels {
    pub(super) setting: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FileReloadLabels {
    pub(super) setting: &'static str,
    /// `loaded` or `failed`.
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct IdentityLabels {
    pub(super) identity: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CredentialStateLabels {
    pub(super) identity: String,
    /// `fetching`, `valid`, `failed` or `refused`.
    pub(super) state: &'static str,
}

/// The state of the task that fetches a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialState {
    /// A fetch is under way.
    Fetching,
    /// The last fetch succeeded, and its credential has not ended.
    Valid,
    /// The last fetch failed; the next follows after a back-off.
    Failed,
    /// The source refused the gateway.
    Refused,
}

impl CredentialState {
    pub(super) const ALL: [(Self, &str); 4] =
        [(Self::Fetching, "fetching"), (Self::Valid, "valid"), (Self::Failed, "failed"), (Self::Refused, "refused")];
}

/// The reason for which a connection was closed before its handshake was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abort {
    /// A newer one took its place.
    Evicted,
    /// It took too long.
    Timeout,
    /// The gateway drains.
    Drain,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AbortLabels {
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReadBackLabels {
    pub(super) result: &'static str,
}
