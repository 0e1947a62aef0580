//! A circuit breaker for one key pair: stops signing after refused signatures, before the cloud locks the pair for all its
//! users. Time is an argument.
//!
//! The cloud locks a pair for five minutes after more than five failed signatures in a row.

use std::time::Duration;

use tokio::time::Instant;

/// Consecutive refused signatures that open the fuse.
const OPEN_AFTER: u32 = 2;

/// The first and the longest time for which the fuse stays open before a probe.
const FIRST_OPEN: Duration = Duration::from_secs(30);
const LONGEST_OPEN: Duration = Duration::from_secs(300);

/// The maximum of possible refusals of a pair that is not trusted: known refusals, and requests abandoned before their
/// response. After these the next signature is delayed.
const MAX_POSSIBLE_REFUSALS: u32 = 4;

/// The retry delay for callers while a probe is in progress.
const PROBE_DELAY: Duration = Duration::from_secs(1);

/// The state of one key pair's fuse.
#[derive(Debug, Default)]
pub(crate) struct Fuse {
    state: State,
    /// The one request in progress while the pair is not trusted.
    single: Option<Pass>,
}

#[derive(Debug)]
enum State {
    /// Requests are signed. A pair is trusted after an accepted signature, until one is refused; requests of other pairs
    /// are sent one at a time.
    Closed { accepted: bool, refusals: u32, abandoned: u32, not_before: Option<Instant> },
    /// Nothing is signed before the next probe.
    Open { until: Instant, delay: Duration },
}

/// The right to send one signed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// For one of many concurrent requests.
    Shared,
    /// For the only request in progress.
    Single,
    /// For the only request in progress, which closes or reopens the fuse.
    Probe,
}

/// The result of asking for a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Admitted(Pass),
    /// Ask again after a change, or at this time: another request is in progress, or the next one is delayed.
    Wait(Option<Instant>),
    /// The fuse is open; a probe is allowed after this time.
    Open(Duration),
}

/// The outcome of a signed request with respect to the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The response proves that the signature was accepted.
    Accepted,
    /// The signature was refused.
    Refused,
    /// The response proves neither, or the request was not sent.
    Unproven,
    /// The request was sent, but the connection failed before the response.
    Interrupted,
    /// The request was sent, but its caller cancelled it before the response.
    Abandoned,
}

/// The state of the fuse in metrics.
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
    /// Whether requests can be sent concurrently: the last signature with a known result was accepted.
    pub(crate) fn is_trusted(&self) -> bool {
        matches!(self.state, State::Closed { accepted: true, refusals: 0, .. })
    }

    /// Trusts the pair because the previous pair from the same source was accepted.
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

    /// Asks for a pass for one signed request. A pass has to be settled.
    pub(crate) fn admit(&mut self, now: Instant) -> Decision {
        let pass = match self.state {
            State::Closed { accepted: true, refusals: 0, .. } => return Decision::Admitted(Pass::Shared),
            State::Closed { .. } if self.single.is_some() => return Decision::Wait(None),
            State::Closed { not_before: Some(moment), .. } if now < moment => return Decision::Wait(Some(moment)),
            State::Closed { .. } => Pass::Single,
            State::Open { until, .. } if now < until => return Decision::Open(until - now),
            State::Open { .. } if self.single.is_some() => return Decision::Open(PROBE_DELAY),
            State::Open { .. } => Pass::Probe,
        };
        self.single = Some(pass);
        Decision::Admitted(pass)
    }

    /// Returns a pass with the outcome of its request.
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
                // Counts only if no other request was accepted in the meantime.
                Verdict::Abandoned if pass == Pass::Single && (!*accepted || *refusals > 0) => {
                    *abandoned = abandoned.saturating_add(1);
                    *not_before = spacing(*refusals + *abandoned).map(|delay| now + delay);
                }
                Verdict::Abandoned | Verdict::Unproven | Verdict::Interrupted => {}
            },
            // Requests sent before the fuse opened don't count any more; only the probe does.
            State::Open { delay, .. } if pass == Pass::Probe => match verdict {
                Verdict::Accepted => self.state = State::trusted(),
                Verdict::Refused => {
                    let delay = (*delay * 2).min(LONGEST_OPEN);
                    self.state = State::open(now, delay);
                }
                // The cloud may have counted a refusal that the gateway did not see.
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

/// The delay before the next signature of a pair that is not trusted.
fn spacing(possible_refusals: u32) -> Option<Duration> {
    let beyond = possible_refusals.checked_sub(MAX_POSSIBLE_REFUSALS)?;
    Some((FIRST_OPEN * 2u32.saturating_pow(beyond.min(8))).min(LONGEST_OPEN))
}

#[cfg(test)]
mod tests;
