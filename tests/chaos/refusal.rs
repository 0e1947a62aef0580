//! The refusals that the upstream gives, and how a reader by the contract takes them: by the error code when the body
//! is whole, else by the status.

use std::time::Duration;

use testkit::rng::Rng;
use tonic::Code;

use super::fault::{Outcome, Verdict};

/// Whether a refused request has been acted on, as the response says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processed {
    No,
    Yes,
    Unknown,
}

/// A documented response that is not success.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) error_code: Option<&'static str>,
    pub(crate) message: &'static str,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
    /// Whether the upstream acted although it says this: only where the response leaves it open, with or without its code.
    pub(crate) applied: bool,
    code: Code,
    processed: Processed,
    waiting_helps: bool,
}

/// In which state the refusal's body comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    Whole,
    Chunked,
    /// In chunks, each after a delay.
    Slow(Duration),
    None,
    Html,
    /// The connection is closed in its middle.
    CutByClose,
    /// The connection is reset in its middle.
    CutByReset,
    /// A chunk that is none.
    BadChunk,
    /// Shorter than its `Content-Length`; then the connection ends.
    Short,
    /// Longer than its `Content-Length`.
    Long,
    /// More than is ever read.
    Huge,
    /// It stops coming in its middle.
    Stalled,
}

/// One reading of a response.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) verdict: Verdict,
    pub(crate) processed: Processed,
    pub(crate) repeatable: bool,
}

const fn plain(status: u16, code: Code, processed: Processed, applied: bool) -> Refusal {
    let waiting_helps = matches!(status, 429 | 503);
    Refusal { status, error_code: None, message: "", retry_after: None, applied, code, processed, waiting_helps }
}

const fn pausing(status: u16, code: Code, seconds: u64) -> Refusal {
    Refusal { retry_after: Some(seconds), ..plain(status, code, Processed::No, false) }
}

const fn coded(status: u16, error_code: &'static str, code: Code, processed: Processed) -> Refusal {
    Refusal { error_code: Some(error_code), message: "as the cloud says it", ..plain(status, code, processed, false) }
}

const fn passing(status: u16, error_code: &'static str, code: Code) -> Refusal {
    Refusal { waiting_helps: true, ..coded(status, error_code, code, Processed::No) }
}

const fn acted(status: u16, error_code: &'static str, code: Code) -> Refusal {
    Refusal { applied: true, ..coded(status, error_code, code, Processed::Unknown) }
}

static REFUSALS: [Refusal; 30] = [
    plain(429, Code::ResourceExhausted, Processed::No, false),
    pausing(429, Code::ResourceExhausted, 0),
    pausing(429, Code::ResourceExhausted, 1),
    pausing(429, Code::ResourceExhausted, 60),
    passing(429, "APIG.0308", Code::ResourceExhausted),
    Refusal {
        message: "policy user over ratelimit,limit:200,time:1 minute",
        ..passing(429, "APIG.0308", Code::ResourceExhausted)
    },
    plain(503, Code::Unavailable, Processed::No, false),
    pausing(503, Code::Unavailable, 0),
    pausing(503, Code::Unavailable, 1),
    pausing(503, Code::Unavailable, 60),
    passing(500, "APIG.3500", Code::Aborted),
    passing(409, "APIG.3500", Code::Aborted),
    passing(500, "APIG.9008", Code::ResourceExhausted),
    passing(502, "APIG.0201", Code::Unavailable),
    plain(500, Code::Internal, Processed::Unknown, false),
    plain(500, Code::Internal, Processed::Unknown, true),
    plain(502, Code::Unavailable, Processed::Unknown, false),
    plain(502, Code::Unavailable, Processed::Unknown, true),
    plain(504, Code::DeadlineExceeded, Processed::Unknown, false),
    plain(504, Code::DeadlineExceeded, Processed::Unknown, true),
    acted(504, "APIG.0201", Code::DeadlineExceeded),
    acted(500, "APIG.0201", Code::Internal),
    acted(500, "APIG.9999", Code::Internal),
    coded(404, "APIG.3021", Code::NotFound, Processed::Yes),
    coded(404, "APIG.3020", Code::NotFound, Processed::Yes),
    coded(400, "APIG.2012", Code::InvalidArgument, Processed::Yes),
    coded(401, "APIG.1002", Code::Unauthenticated, Processed::Yes),
    coded(403, "APIG.1005", Code::PermissionDenied, Processed::Yes),
    plain(409, Code::Aborted, Processed::Yes, false),
    plain(400, Code::InvalidArgument, Processed::Yes, false),
];

/// 503 without anything, for an upstream that fails wholly.
pub(crate) static UNAVAILABLE: Refusal = plain(503, Code::Unavailable, Processed::No, false);

/// 429 that asks for a second.
pub(crate) static BUSY: Refusal = pausing(429, Code::ResourceExhausted, 1);

impl Refusal {
    /// Draws one.
    pub(crate) fn draw(rng: &mut Rng) -> &'static Self {
        &REFUSALS[usize::try_from(rng.below(REFUSALS.len() as u64)).unwrap()]
    }

    /// The readings of the response: more than one where a body is both whole and cut.
    pub(crate) fn readings(&self, body: Body) -> Vec<Reading> {
        match body {
            Body::Whole | Body::Chunked | Body::Slow(_) => vec![self.by_code()],
            Body::Short => vec![self.by_code(), self.by_status()],
            Body::None
            | Body::Html
            | Body::CutByClose
            | Body::CutByReset
            | Body::BadChunk
            | Body::Long
            | Body::Huge
            | Body::Stalled => vec![self.by_status()],
        }
    }

    fn by_code(&self) -> Reading {
        let reason = match self.error_code {
            Some(code) => code.replace('.', "_"),
            None => format!("HTTP_{}", self.status),
        };
        Self::reading(self.code, &reason, self.processed, self.processed == Processed::No && self.waiting_helps)
    }

    /// The reading of the response without its body.
    pub(crate) fn by_status(&self) -> Reading {
        let (code, processed) = match self.status {
            400 => (Code::InvalidArgument, Processed::Yes),
            401 => (Code::Unauthenticated, Processed::Yes),
            403 => (Code::PermissionDenied, Processed::Yes),
            404 => (Code::NotFound, Processed::Yes),
            409 => (Code::Aborted, Processed::Yes),
            429 => (Code::ResourceExhausted, Processed::No),
            502 => (Code::Unavailable, Processed::Unknown),
            503 => (Code::Unavailable, Processed::No),
            504 => (Code::DeadlineExceeded, Processed::Unknown),
            _ => (Code::Internal, Processed::Unknown),
        };
        Self::reading(code, &format!("HTTP_{}", self.status), processed, processed == Processed::No)
    }

    fn reading(code: Code, reason: &str, processed: Processed, repeatable: bool) -> Reading {
        let outcome = if processed == Processed::Unknown { Outcome::Unknown } else { Outcome::Plain };
        Reading { verdict: Verdict::new(code, reason, outcome), processed, repeatable }
    }
}

impl Body {
    /// Draws one.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.below(32) {
            0..16 => Self::Whole,
            16..19 => Self::Chunked,
            19 | 20 => Self::Slow(rng.millis(1, 10)),
            21 | 22 => Self::None,
            23 | 24 => Self::Html,
            25 => Self::CutByClose,
            26 => Self::CutByReset,
            27 => Self::BadChunk,
            28 => Self::Short,
            29 => Self::Long,
            30 => Self::Huge,
            _ => Self::Stalled,
        }
    }
}
