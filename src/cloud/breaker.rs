//! Fails fast while the upstream is down: after a row of failures no request is sent for a while, then one is let through
//! to try. Time comes as an argument; what counts as a failure is decided by whoever reports it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long the circuit stays open before a request tries.
const OPEN_FOR: Duration = Duration::from_secs(1);

/// A circuit breaker for the one upstream.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// Failures in a row that open the circuit; 0: it never opens.
    threshold: u32,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// A request is on its way to try; when it has no answer by then, so may the next.
    HalfOpen {
        next: Instant,
    },
}

/// No request is sent now; come back after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CircuitOpen(pub(crate) Duration);

/// How the circuit is, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Circuit {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

/// The right to send one request. Its outcome must be reported; dropped without, it says nothing of the upstream.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    reported: bool,
}

impl Breaker {
    pub(crate) fn new(threshold: u32) -> Self {
        Self { threshold, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Asks to send a request.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`], with the time until a request may try.
    pub(crate) fn admit(&self, now: Instant) -> Result<Admission<'_>, CircuitOpen> {
        let mut state = self.lock();
        let is_probe = match *state {
            State::Closed { .. } => false,
            State::Open { until: due } | State::HalfOpen { next: due } if now >= due => {
                *state = State::HalfOpen { next: now + OPEN_FOR };
                true
            }
            State::Open { until: due } | State::HalfOpen { next: due } => return Err(CircuitOpen(due - now)),
        };
        Ok(Admission { breaker: self, is_probe, reported: false })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn circuit(state: State) -> Circuit {
        match state {
            State::Closed { .. } => Circuit::Closed,
            State::Open { .. } => Circuit::Open,
            State::HalfOpen { .. } => Circuit::HalfOpen,
        }
    }
}

impl Admission<'_> {
    /// Whether this request tries for all the others.
    pub(crate) fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// Reports what became of the request; gives the circuit if that changed it.
    pub(crate) fn report(mut self, failed: bool, now: Instant) -> Option<Circuit> {
        self.reported = true;
        let breaker = self.breaker;
        let mut state = breaker.lock();
        let before = *state;
        *state = match (before, failed) {
            // Those sent before the circuit opened come home one by one; only the probe decides.
            (State::Open { .. } | State::HalfOpen { .. }, _) if !self.is_probe => before,
            (_, false) => State::Closed { failures: 0 },
            (State::Closed { failures }, true) if breaker.threshold == 0 || failures + 1 < breaker.threshold => {
                State::Closed { failures: failures.saturating_add(1) }
            }
            (_, true) => State::Open { until: now + OPEN_FOR },
        };
        let (before, after) = (Breaker::circuit(before), Breaker::circuit(*state));
        (before != after).then_some(after)
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.reported {
            // Its caller left: the next request may try.
            let mut state = self.breaker.lock();
            if matches!(*state, State::HalfOpen { .. }) {
                *state = State::Open { until: Instant::now() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) -> Option<Circuit> {
        breaker.admit(now).unwrap().report(true, now)
    }

    #[test]
    fn it_opens_after_a_row_of_failures_and_tries_again_later() {
        let breaker = Breaker::new(3);
        let now = Instant::now();
        assert_eq!(fail(&breaker, now), None);
        assert_eq!(fail(&breaker, now), None);
        assert_eq!(fail(&breaker, now), Some(Circuit::Open));
        assert_eq!(breaker.admit(now).unwrap_err(), CircuitOpen(OPEN_FOR));
        let later = now + OPEN_FOR;
        let probe = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err(), "one tries, the others wait");
        assert_eq!(probe.report(false, later), Some(Circuit::Closed));
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn a_probe_that_fails_opens_it_again() {
        let breaker = Breaker::new(1);
        let now = Instant::now();
        fail(&breaker, now);
        let later = now + OPEN_FOR;
        assert_eq!(breaker.admit(later).unwrap().report(true, later), Some(Circuit::Open));
        assert_eq!(breaker.admit(later).unwrap_err(), CircuitOpen(OPEN_FOR));
    }

    #[test]
    fn a_probe_whose_caller_left_lets_the_next_one_try() {
        let breaker = Breaker::new(1);
        let now = Instant::now();
        fail(&breaker, now);
        let later = now + OPEN_FOR;
        drop(breaker.admit(later).unwrap());
        assert!(breaker.admit(later + OPEN_FOR).is_ok());
    }

    #[test]
    fn a_probe_without_an_answer_does_not_keep_the_next_one_out() {
        let breaker = Breaker::new(1);
        let now = Instant::now();
        fail(&breaker, now);
        let hanging = breaker.admit(now + OPEN_FOR).unwrap();
        assert!(breaker.admit(now + OPEN_FOR).is_err());
        let next = breaker.admit(now + 2 * OPEN_FOR).unwrap();
        assert_eq!(next.report(false, now + 2 * OPEN_FOR), Some(Circuit::Closed));
        drop(hanging);
        assert!(breaker.admit(now + 2 * OPEN_FOR).is_ok());
    }

    #[test]
    fn a_success_between_failures_starts_the_row_anew() {
        let breaker = Breaker::new(2);
        let now = Instant::now();
        for _ in 0..10 {
            assert_eq!(fail(&breaker, now), None);
            assert_eq!(breaker.admit(now).unwrap().report(false, now), None);
        }
    }

    #[test]
    fn latecomers_do_not_close_or_reopen_it() {
        let breaker = Breaker::new(1);
        let now = Instant::now();
        let early = breaker.admit(now).unwrap();
        let other = breaker.admit(now).unwrap();
        fail(&breaker, now);
        assert_eq!(early.report(false, now), None);
        assert_eq!(other.report(true, now), None);
        assert_eq!(breaker.admit(now).unwrap_err(), CircuitOpen(OPEN_FOR));
    }

    #[test]
    fn a_threshold_of_zero_never_opens() {
        let breaker = Breaker::new(0);
        let now = Instant::now();
        for _ in 0..1000 {
            assert_eq!(fail(&breaker, now), None);
        }
    }
}
