//! The catalogue of the cloud's error codes, generated at build time from `data/error-codes.tsv`. [`crate::status`] maps
//! its kinds to gRPC codes.

#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

/// The kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value in the request is wrong.
    InvalidArgument,
    /// The token or signature is not accepted.
    Unauthenticated,
    /// The identity may not do this.
    PermissionDenied,
    /// A resource named in the request does not exist.
    NotFound,
    /// A resource that the request would create exists already.
    AlreadyExists,
    /// The state of a resource does not allow the operation.
    FailedPrecondition,
    /// A conflict with a concurrent change.
    Aborted,
    /// A quota or rate limit.
    ResourceExhausted,
    /// A timeout inside the cloud.
    DeadlineExceeded,
    /// The cloud does not offer the operation.
    Unimplemented,
    /// The cloud is temporarily unavailable.
    Unavailable,
    /// An error inside the cloud.
    Internal,
}

/// The layer of the cloud that an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    /// The front gateway, before the service saw the request.
    Front,
    /// The service itself.
    Service,
}

/// Whether the cloud processed a request that failed with this error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processed {
    /// Rejected before processing: a retry is safe.
    No,
    /// Processed; the error is final.
    Yes,
    /// The request may have taken effect.
    Unknown,
}

/// The entry of one error code, for one HTTP status or for all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The error code.
    pub(crate) code: &'static str,
    /// The HTTP status of the row; 0 for every status without a separate row.
    pub(crate) status: u16,
    pub(crate) kind: Kind,
    pub(crate) plane: Plane,
    pub(crate) processed: Processed,
    /// The wait before a retry, if waiting helps.
    pub(crate) wait: Option<Duration>,
    /// The type of the resource that does not exist or exists already.
    pub(crate) resource: Option<&'static str>,
    /// The exhausted quota, or the type of the failed precondition.
    pub(crate) subject: Option<&'static str>,
    /// A description of the error.
    pub(crate) meaning: &'static str,
    /// Advice for the caller.
    pub(crate) advice: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// The row for an error code and an HTTP status.
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
