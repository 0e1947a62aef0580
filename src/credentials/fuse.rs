//! A fuse for one key pair: signing stops after refused signatures, before the cloud locks the pair for all that use
//! it. Pure: time comes as an argument.
//!
//! The cloud locks a pair for five minutes after more than five failed signatures in a row.

use std::time::Duration;

use tokio::time::Instant;

/// Refused signatures in a row that open the fuse.
const OPEN_AFTER: u32 = 2;

/// How long it stays open before a request probes: at first, and at most.
const FIRST_OPEN: Duration = Duration::from_secs(30);
const LONGEST_OPEN: Duration = Duration::from_secs(300);

/// Signatures of a pair that is not trusted and may have been refused: the known refusals, and the requests that their
/// callers abandoned before the answer came. After as many, the next signature waits.
const MOST_POSSIBLE_REFUSALS: u32 = 4;

/// Told to callers that come while a probe is under way.
const PROBE_TAKES: Duration = Duration::from_secs(1);

/// The state of one key pair's fuse.
#[derive(Debug, Default)]
pub(crate) struct Fuse {
    state: State,
    /// The one request that may be under way while the pair is not trusted.
    single: Option<Pass>,
}

#[derive(Debug)]
enum State {
    /// Requests are signed. A pair without any signature that was accepted, or with one that was refused since, is not
    /// trusted: its requests go one by one.
    Closed { accepted: bool, refusals: u32, abandoned: u32, not_before: Option<Instant> },
    /// Nothing is signed until a probe may go.
    Open { until: Instant, delay: Duration },
}

/// The right to send one signed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// One of many.
    Shared,
    /// The only one.
    Single,
    /// The only one, and its outcome closes or reopens the fuse.
    Probe,
}

/// The answer to a request for a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Admitted(Pass),
    /// Another request is under way, or has to be awaited until this moment; ask again after a change.
    Wait(Option<Instant>),
    /// The fuse is open; a probe may go after this.
    Open(Duration),
}

/// The outcome of a signed request, as far as it concerns the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The answer proves that the signature was accepted.
    Accepted,
    /// The signature was refused.
    Refused,
    /// The answer proves nothing, or nothing was sent.
    Unproven,
    /// The request was sent, and the connection broke before an answer.
    Interrupted,
    /// The request was sent, and its caller left before an answer.
    Abandoned,
}

/// The fuse's position, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { accepted: false, refusals: 0, abandoned: 0, not_before: None }
    }
}

impl State {
    fn trusted() -> Self {
        Self::Closed { accepted: true, refusals: 0, abandoned: 0, not_before: None }
    }

    fn open(now: Instant, delay: Duration) -> Self {
        Self::Open { until: now + delay, delay }
    }
}

impl Fuse {
    /// Whether its requests need no turn: the last answer about a signature accepted it.
    pub(crate) fn is_trusted(&self) -> bool {
        matches!(self.state, State::Closed { accepted: true, refusals: 0, .. })
    }

    /// Trusts a pair, since the previous one from the same source was accepted.
    pub(crate) fn trust(&mut self) {
        if matches!(self.state, State::Closed { refusals: 0, .. }) {
            self.state = State::trusted();
        }
    }

    pub(crate) fn position(&self) -> Position {
        match (&self.state, self.single) {
            (State::Closed { .. }, _) => Position::Closed,
            (State::Open { .. }, Some(Pass::Probe)) => Position::HalfOpen,
            (State::Open { .. }, _) => Position::Open,
        }
    }

    /// Asks to send a signed request. A pass has to be settled.
    pub(crate) fn admit(&mut self, now: Instant) -> Admission {
        let pass = match self.state {
            State::Closed { accepted: true, refusals: 0, .. } => return Admission::Admitted(Pass::Shared),
            State::Closed { .. } if self.single.is_some() => return Admission::Wait(None),
            State::Closed { not_before: Some(moment), .. } if now < moment => return Admission::Wait(Some(moment)),
            State::Closed { .. } => Pass::Single,
            State::Open { until, .. } if now < until => return Admission::Open(until - now),
            State::Open { .. } if self.single.is_some() => return Admission::Open(PROBE_TAKES),
            State::Open { .. } => Pass::Probe,
        };
        self.single = Some(pass);
        Admission::Admitted(pass)
    }

    /// Takes a pass back with the outcome of its request.
    pub(crate) fn settle(&mut self, pass: Pass, verdict: Verdict, now: Instant) {
        if pass != Pass::Shared {
            self.single = None;
        }
        match &mut self.state {
            State::Closed { accepted, refusals, abandoned, not_before } => match verdict {
                Verdict::Accepted => self.state = State::trusted(),
                Verdict::Refused if *refusals + 1 >= OPEN_AFTER => self.state = State::open(now, FIRST_OPEN),
                Verdict::Refused => {
                    *refusals += 1;
                    *not_before = spacing(*refusals + *abandoned).map(|delay| now + delay);
                }
                // Another request's acceptance may have come first.
                Verdict::Abandoned if pass == Pass::Single && (!*accepted || *refusals > 0) => {
                    *abandoned = abandoned.saturating_add(1);
                    *not_before = spacing(*refusals + *abandoned).map(|delay| now + delay);
                }
                Verdict::Abandoned | Verdict::Unproven | Verdict::Interrupted => {}
            },
            // Requests that were sent before it opened come home one by one; only the probe decides.
            State::Open { delay, .. } if pass == Pass::Probe => match verdict {
                Verdict::Accepted => self.state = State::trusted(),
                Verdict::Refused => {
                    let delay = (*delay * 2).min(LONGEST_OPEN);
                    self.state = State::open(now, delay);
                }
                // The cloud may have counted a refusal that nobody has seen.
                Verdict::Abandoned | Verdict::Interrupted => {
                    let delay = *delay;
                    self.state = State::open(now, delay);
                }
                Verdict::Unproven => {}
            },
            State::Open { .. } => {}
        }
    }
}

/// The pause before the next signature of a pair that is not trusted.
fn spacing(possible_refusals: u32) -> Option<Duration> {
    let beyond = possible_refusals.checked_sub(MOST_POSSIBLE_REFUSALS)?;
    Some((FIRST_OPEN * 2u32.saturating_pow(beyond.min(8))).min(LONGEST_OPEN))
}

#[cfg(test)]
mod tests;
