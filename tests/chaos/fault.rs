//! Faults: the reactions of the upstream to one request, and the meaning of each by the contract.

use std::time::Duration;

use tonic::Code;

use super::refusal::{self, Body, Processed, Refusal};
use testkit::rng::Rng;

/// The outcome of a change with a response that did not arrive, as its caller gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The response itself says it.
    Plain,
    NotSent,
    Unknown,
}

/// The end of a call, as a caller may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) outcome: Outcome,
}

impl Verdict {
    pub(crate) fn new(code: Code, reason: &str, outcome: Outcome) -> Self {
        Self { code, reason: reason.to_owned(), outcome }
    }

    fn success() -> Self {
        Self::new(Code::Ok, "", Outcome::Plain)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Code::Unavailable, "UPSTREAM_CONNECTION_LOST", Outcome::Unknown)
    }

    fn malformed() -> Self {
        Self::new(Code::Internal, "UPSTREAM_PROTOCOL_ERROR", Outcome::Unknown)
    }
}

/// A form that the documented success can take on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Success {
    Prompt,
    /// After a while.
    Late(Duration),
    /// 100 and 103 come first.
    AfterInterim,
    /// HTTP/1.0, which ends the connection.
    Old,
    /// With `Connection: close`, and so it is.
    Closing,
    /// The connection is closed at once, without a word of it.
    ThenClosed,
    /// The connection is closed while it is idle.
    ThenClosedIdle(Duration),
    /// A length that a 204 must not have, and no body.
    WithLength,
    /// A body that a 204 must not have: its bytes must never be read as the next response.
    WithBody,
    /// In two pieces.
    InPieces(Duration),
}

/// The end of a connection in place of a response.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Break {
    Reset,
    Close,
}

/// A reaction of the upstream to one request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Attached(Success),
    Refused(&'static Refusal, Body),
    /// A status below 400 that the operation does not document.
    Unexpected {
        status: u16,
        html: bool,
        applied: bool,
    },
    Redirect {
        status: u16,
        applied: bool,
    },
    /// The connection ends after the request has come.
    Broken {
        how: Break,
        applied: bool,
    },
    /// The connection ends in the middle of the response's head.
    CutHead {
        how: Break,
        applied: bool,
    },
    /// The response is not HTTP.
    Garbage {
        kind: u8,
        applied: bool,
    },
    /// No response, ever.
    Stall {
        applied: bool,
    },
    /// Not drawn: the request came when the upstream had just closed the connection.
    Crossed,
}

impl Fault {
    /// Draws one, as mixed as a very bad day.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let applied = rng.percent(50);
        match rng.below(100) {
            0..44 => Self::Attached(Self::success(rng)),
            44..78 => Self::Refused(Refusal::draw(rng), Body::draw(rng)),
            78..82 => Self::Unexpected { status: rng.pick(&[200, 200, 201, 202, 206]), html: rng.percent(50), applied },
            82..85 => Self::Redirect { status: rng.pick(&[301, 302, 303, 307, 308]), applied },
            85..90 => Self::Broken { how: rng.pick(&[Break::Reset, Break::Close]), applied },
            90..93 => Self::CutHead { how: rng.pick(&[Break::Reset, Break::Close]), applied },
            93..97 => Self::Garbage { kind: rng.pick(&[0, 1, 2, 3]), applied },
            _ => Self::Stall { applied },
        }
    }

    /// Draws an end of the response after the change has been made.
    pub(crate) fn draw_lost_after_apply(rng: &mut Rng) -> Self {
        let how = rng.pick(&[Break::Reset, Break::Close]);
        match rng.below(10) {
            0..6 => Self::Broken { how, applied: true },
            6..9 => Self::CutHead { how, applied: true },
            _ => Self::Garbage { kind: rng.pick(&[0, 1, 2, 3]), applied: true },
        }
    }

    /// Draws one that keeps a caller waiting.
    pub(crate) fn draw_slow(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0..4 => Self::Stall { applied: rng.percent(50) },
            4 | 5 => Self::Refused(&refusal::BUSY, Body::Whole),
            6 => Self::Refused(&refusal::BUSY, Body::Stalled),
            7 => Self::Refused(&refusal::UNAVAILABLE, Body::Slow(rng.millis(5, 30))),
            _ => Self::Attached(Success::Late(rng.millis(10, 100))),
        }
    }

    fn success(rng: &mut Rng) -> Success {
        match rng.below(20) {
            0..6 => Success::Prompt,
            6..10 => Success::Late(rng.millis(1, 40)),
            10..12 => Success::AfterInterim,
            12 => Success::Old,
            13 => Success::Closing,
            14 => Success::ThenClosed,
            15 | 16 => Success::ThenClosedIdle(rng.millis(0, 20)),
            17 => Success::WithLength,
            18 => Success::WithBody,
            _ => Success::InPieces(rng.millis(1, 20)),
        }
    }

    /// The status of the response, if there is one.
    pub(crate) fn status(&self) -> Option<u16> {
        match *self {
            Self::Attached(_) => Some(204),
            Self::Refused(refusal, _) => Some(refusal.status),
            Self::Unexpected { status, .. } | Self::Redirect { status, .. } => Some(status),
            Self::Broken { .. } | Self::CutHead { .. } | Self::Garbage { .. } | Self::Stall { .. } | Self::Crossed => {
                None
            }
        }
    }

    /// Whether the upstream acts on the request.
    pub(crate) fn applies(&self) -> bool {
        match *self {
            Self::Attached(_) => true,
            Self::Refused(refusal, _) => refusal.applied,
            Self::Unexpected { applied, .. }
            | Self::Redirect { applied, .. }
            | Self::Broken { applied, .. }
            | Self::CutHead { applied, .. }
            | Self::Garbage { applied, .. }
            | Self::Stall { applied } => applied,
            Self::Crossed => false,
        }
    }

    /// Whether it leaves the caller without a response until the deadline.
    pub(crate) fn stalls(&self) -> bool {
        matches!(self, Self::Stall { .. } | Self::Refused(_, Body::Stalled))
    }

    /// Whether the body of the response comes in pieces after its head.
    pub(crate) fn trickles(&self) -> bool {
        matches!(self, Self::Refused(_, Body::Slow(_)))
    }

    /// Whether the contract allows to send the request again.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Self::Refused(refusal, body) => refusal.readings(*body).iter().any(|reading| reading.repeatable),
            _ => false,
        }
    }

    /// Whether the response says that nothing has been done, so that nothing of it is unknown.
    pub(crate) fn is_settled(&self) -> bool {
        match self {
            Self::Refused(refusal, body) => {
                refusal.readings(*body).iter().any(|reading| reading.processed != Processed::Unknown)
            }
            _ => false,
        }
    }

    /// Whether it is the token that is refused.
    pub(crate) fn blames_token(&self) -> bool {
        matches!(self, Self::Refused(refusal, _) if refusal.status == 401)
    }

    /// The reading of the response without its body.
    pub(crate) fn verdict_by_status(&self) -> Option<Verdict> {
        match self {
            Self::Refused(refusal, _) => Some(refusal.by_status().verdict),
            _ => None,
        }
    }

    /// Whether the status alone says that the request was not processed, and may be sent again.
    pub(crate) fn is_turned_away_by_status(&self) -> bool {
        matches!(self, Self::Refused(refusal, _) if refusal.by_status().repeatable)
    }

    /// The delay that the response asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal, _) => refusal.retry_after.map(Duration::from_secs),
            _ => None,
        }
    }

    /// The verdicts that are allowed when this is the fault of the last attempt.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        match self {
            Self::Attached(_) => vec![Verdict::success()],
            Self::Refused(refusal, body) => {
                let mut all: Vec<_> = refusal.readings(*body).into_iter().map(|reading| reading.verdict).collect();
                if matches!(body, Body::CutByReset) {
                    // The reset may overtake the head.
                    all.push(Verdict::interrupted());
                }
                all
            }
            Self::Unexpected { .. } => vec![Verdict::malformed()],
            Self::Redirect { .. } => vec![Verdict::new(Code::Internal, "UPSTREAM_REDIRECT", Outcome::Unknown)],
            Self::Broken { .. } | Self::Crossed => vec![Verdict::interrupted()],
            Self::CutHead { .. } | Self::Garbage { .. } => vec![Verdict::interrupted(), Verdict::malformed()],
            Self::Stall { .. } => Vec::new(),
        }
    }
}
