//! The statuses of requests that are turned away before their message is decoded.

use std::time::Duration;

use tonic::{Code, Status, metadata::MetadataValue};

use super::{Outcome, Own, Reason, unimplemented};
use crate::admission::{Bound, Rejected, Scope};

/// The compression of the request is not supported.
pub(crate) fn unsupported_encoding(supported: &'static str) -> Status {
    let mut status = unimplemented("grpc-encoding names a compression that is not supported");
    status.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static(supported));
    status
}

/// The message holds more entries than the gateway takes.
pub(crate) fn too_many_entries(count: usize, limit: usize) -> Status {
    Own::new(Code::InvalidArgument, Reason::InvalidRequest)
        .fact("max_entries", limit.to_string())
        .fact("entries", count.to_string())
        .outcome(Outcome::NotSent)
        .status(&format!("the request names {count} domains and instance ids; the limit is {limit}"))
}

/// The body of the request made no progress.
pub(crate) fn request_stalled(timeout: Duration) -> Status {
    Own::new(Code::DeadlineExceeded, Reason::DeadlineExceeded)
        .fact("progress_timeout", format!("{}s", timeout.as_secs()))
        .outcome(Outcome::NotSent)
        .status(&format!("the request body made no progress for {} s", timeout.as_secs()))
}

/// The requests of a stream come faster than their answers are read.
pub(crate) fn too_far_ahead(limit: usize) -> Status {
    Own::new(Code::ResourceExhausted, Reason::InvalidRequest)
        .fact("max_bytes_ahead", limit.to_string())
        .outcome(Outcome::NotSent)
        .status(&format!("more than {limit} bytes of requests wait for the answers before them"))
}

/// A limit on calls in progress, on streams or on memory turned the call away.
pub(crate) fn rejected(rejected: Rejected) -> Status {
    let local =
        Own::new(Code::Unavailable, Reason::Overloaded).outcome(Outcome::NotSent).retry_in(Duration::from_millis(250));
    let (name, Bound { limit, scope }, exhausted) = match rejected {
        Rejected::AtCapacity(bound) => ("max_concurrency", bound, "too many concurrent calls"),
        Rejected::MemoryExhausted(bound) => ("max_buffered_bytes", bound, "request buffer memory is exhausted"),
        Rejected::TooManyStreams(bound) => ("max_streams", bound, "too many streams"),
        Rejected::Evicted => {
            return local.status("the request was incomplete and made no progress while memory was needed for others");
        }
    };
    let local = local.fact(name, limit.to_string());
    match scope {
        Scope::Process => local.status(&format!("{exhausted} (limit {limit})")),
        Scope::Caller => local
            .fact("share", "caller")
            .status(&format!("{exhausted} for this caller while others call, too (its share is {limit})")),
        Scope::Connection => {
            local.fact("share", "connection").status(&format!("{exhausted} for this connection (limit {limit})"))
        }
    }
}
