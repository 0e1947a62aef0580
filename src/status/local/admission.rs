//! The statuses of requests that are turned away before their message is decoded.

use std::time::Duration;

use tonic::{Code, Status, metadata::MetadataValue};

use super::{Local, Reason, unimplemented};
use crate::admission::{Bound, Rejected, Scope};

/// The compression of the request is not supported.
pub(crate) fn unsupported_encoding(supported: &'static str, is_change: bool) -> Status {
    let mut status = unimplemented("grpc-encoding names a compression that is not supported").status(is_change);
    status.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static(supported));
    status
}

/// The message holds more entries than the gateway takes.
pub(crate) fn too_many_entries(count: usize, limit: usize) -> Local {
    let message = format!("the request names {count} domains and instance ids; the limit is {limit}");
    Local::new(Code::InvalidArgument, Reason::InvalidRequest, message)
        .fact("max_entries", limit.to_string())
        .fact("entries", count.to_string())
        .not_sent()
}

/// The body of the request made no progress.
pub(crate) fn request_stalled(timeout: Duration) -> Local {
    let message = format!("the request body made no progress for {} s", timeout.as_secs());
    Local::new(Code::DeadlineExceeded, Reason::DeadlineExceeded, message)
        .fact("progress_timeout", format!("{}s", timeout.as_secs()))
        .not_sent()
}

/// The requests of a stream come faster than their answers are read.
pub(crate) fn too_far_ahead(limit: usize) -> Local {
    let message = format!("more than {limit} bytes of requests wait for the answers before them");
    Local::new(Code::ResourceExhausted, Reason::InvalidRequest, message)
        .fact("max_bytes_ahead", limit.to_string())
        .not_sent()
}

/// A limit on calls in progress, on streams or on memory turned the call away.
pub(crate) fn rejected(rejected: Rejected) -> Local {
    let local = |message: String| {
        Local::new(Code::Unavailable, Reason::Overloaded, message).not_sent().retry_in(Duration::from_millis(250))
    };
    let (name, Bound { limit, scope }, exhausted) = match rejected {
        Rejected::AtCapacity(bound) => ("max_concurrency", bound, "too many concurrent calls"),
        Rejected::MemoryExhausted(bound) => ("max_buffered_bytes", bound, "request buffer memory is exhausted"),
        Rejected::TooManyStreams(bound) => ("max_streams", bound, "too many streams"),
        Rejected::Evicted => {
            return local("the request was incomplete and made no progress while memory was needed for others".into());
        }
    };
    match scope {
        Scope::Process => local(format!("{exhausted} (limit {limit})")),
        Scope::Caller => local(format!("{exhausted} for this caller while others call, too (its share is {limit})"))
            .fact("share", "caller"),
        Scope::Connection => {
            local(format!("{exhausted} for this connection (limit {limit})")).fact("share", "connection")
        }
    }
    .fact(name, limit.to_string())
}
