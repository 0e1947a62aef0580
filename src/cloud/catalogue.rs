//! The cloud's error codes and what is known of each, from one data file read at build time. It knows no gRPC: its
//! kinds become status codes elsewhere.

#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

/// What an error means to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value in the request is wrong.
    InvalidArgument,
    /// The token or signature is not accepted.
    Unauthenticated,
    /// The identity may not do this.
    PermissionDenied,
    /// Something that the request names is not there.
    NotFound,
    /// Something that the request would make is there already.
    AlreadyExists,
    /// The state of things does not allow it.
    FailedPrecondition,
    /// Another change got in the way.
    Aborted,
    /// A quota or rate limit.
    ResourceExhausted,
    /// The cloud ran out of time within itself.
    DeadlineExceeded,
    /// The cloud has no such operation.
    Unimplemented,
    /// The cloud can't serve now.
    Unavailable,
    /// A fault inside the cloud.
    Internal,
}

/// Which of the cloud's two layers an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    /// The front gateway, before the service saw the request.
    Front,
    /// The service itself.
    Service,
}

/// Whether a request that met this error has been acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processed {
    /// It was turned away before anything was done: a repeat is safe.
    No,
    /// It was dealt with, and the answer is final.
    Yes,
    /// It may or may not have taken effect.
    Unknown,
}

/// What is known of one error code, under one HTTP status or under all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The cloud's own spelling.
    pub(crate) code: &'static str,
    /// The HTTP status that the row is for; 0 for every status without a row of its own.
    pub(crate) status: u16,
    pub(crate) kind: Kind,
    pub(crate) plane: Plane,
    pub(crate) processed: Processed,
    /// The pause before a repeat, when waiting helps.
    pub(crate) wait: Option<Duration>,
    /// The type of what is missing or there already.
    pub(crate) resource: Option<&'static str>,
    /// What is used up, or which precondition fails.
    pub(crate) subject: Option<&'static str>,
    /// What the code says, in our words.
    pub(crate) meaning: &'static str,
    /// What to do about it.
    pub(crate) advice: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// The row for an error code as it came under an HTTP status.
pub(crate) fn find(code: &str, status: u16) -> Option<&'static Row> {
    let row = |status| ROWS.binary_search_by(|row| (row.code, row.status).cmp(&(code, status))).ok();
    row(status).or_else(|| row(0)).and_then(|index| ROWS.get(index))
}

/// All rows, by code and status.
pub(crate) fn rows() -> &'static [Row] {
    ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_under_any_status_unless_the_status_has_its_own() {
        for row in ROWS {
            let found = find(row.code, row.status).unwrap();
            assert!(std::ptr::eq(found, row), "{} {}", row.code, row.status);
        }
        assert_eq!(find("APIG.3020", 404).unwrap().kind, Kind::NotFound);
        assert_eq!(find("APIG.3020", 599).unwrap().kind, Kind::NotFound);
    }

    #[test]
    fn a_code_without_a_row_is_not_found() {
        for code in ["", "APIG.", "APIG.302", "APIG.30200", "apig.3020", "ZZZ.1"] {
            assert!(find(code, 404).is_none(), "{code}");
        }
    }
}
