//! Circuit breaker: opens after consecutive failures and rejects requests for a while, then admits single probes until one
//! succeeds. Time is an argument; the reporter of a result classifies it as success or failure.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use crate::sync::{Mutex, MutexGuard};

/// The time for which the circuit stays open before a probe.
const OPEN_FOR: Duration = Duration::from_secs(1);

/// A circuit breaker for the one upstream.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// Consecutive failures that open the circuit; 0 disables the breaker.
    threshold: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    circuit: Circuit,
    /// Consecutive failures while the circuit is closed.
    failures: u32,
    /// The start of the next probe while the circuit is not closed: a second after the circuit opened, and a second after
    /// the last probe started, regardless of its result. It never moves back.
    next_probe: Option<Instant>,
}

/// The circuit is open; a request may try after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CircuitOpen(pub(crate) Duration);

/// The state of the circuit, with its value in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Circuit {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

/// The right to send one request. Dropping it without a report leaves the circuit as it is.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    /// For a probe: the value that it gave `State::next_probe`, which identifies it.
    probe: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(threshold: u32) -> Self {
        let state = State { circuit: Circuit::Closed, failures: 0, next_probe: None };
        Self { threshold, state: Mutex::new(state) }
    }

    /// Checks whether a request would be admitted, without admitting it.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`], with the time until a request may try.
    pub(crate) fn check(&self, now: Instant) -> Result<(), CircuitOpen> {
        self.lock().probe_wait(now).map_or(Ok(()), |wait| Err(CircuitOpen(wait)))
    }

    /// Admits a request.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`], with the time until a request may try.
    pub(crate) fn admit(&self, now: Instant) -> Result<Admission<'_>, CircuitOpen> {
        let mut state = self.lock();
        if let Some(wait) = state.probe_wait(now) {
            return Err(CircuitOpen(wait));
        }
        let probe = (state.circuit != Circuit::Closed).then(|| now + OPEN_FOR);
        if probe.is_some() {
            state.circuit = Circuit::HalfOpen;
            state.next_probe = probe;
        }
        Ok(Admission { breaker: self, probe })
    }

    /// The state of the circuit, and the time until a probe may start.
    pub(crate) fn circuit(&self, now: Instant) -> (Circuit, Option<Duration>) {
        let state = self.lock();
        (state.circuit, state.probe_wait(now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The time until a probe may start; `None` if a request may be sent.
    fn probe_wait(&self, now: Instant) -> Option<Duration> {
        match self.circuit {
            Circuit::Closed => None,
            Circuit::HalfOpen | Circuit::Open => {
                self.next_probe.map(|due| due.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
            }
        }
    }
}

impl Admission<'_> {
    /// Whether the request is a probe.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// Reports the result of the request; returns the new state of the circuit if it changed.
    pub(crate) fn report(self, failed: bool, now: Instant) -> Option<Circuit> {
        let breaker = self.breaker;
        let mut state = breaker.lock();
        let before = state.circuit;
        let is_closed = before == Circuit::Closed;
        if !is_closed && !self.is_probe() {
            // Requests admitted before the circuit opened don't count any more; only probes do.
            return None;
        }
        if !failed {
            (state.circuit, state.failures) = (Circuit::Closed, 0);
        } else if is_closed {
            state.failures = state.failures.saturating_add(1);
            if breaker.threshold > 0 && state.failures >= breaker.threshold {
                state.circuit = Circuit::Open;
            }
        } else if self.probe == state.next_probe {
            // Only the latest probe reopens the circuit: an earlier one must not delay the next.
            state.circuit = Circuit::Open;
        }
        if state.circuit == Circuit::Open && before != Circuit::Open {
            state.next_probe = state.next_probe.max(Some(now + OPEN_FOR));
        }
        (before != state.circuit).then_some(state.circuit)
    }
}

#[cfg(test)]
#[cfg(feature = "model")]
mod model;

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
    fn probes_whose_callers_leave_start_a_second_apart() {
        let breaker = Breaker::new(1);
        let start = Instant::now();
        fail(&breaker, start);
        let mut probes = Vec::new();
        for milliseconds in (0..5_000).step_by(50) {
            let now = start + Duration::from_millis(milliseconds);
            if breaker.check(now).is_ok() {
                let _ = breaker.admit(now).unwrap();
                probes.push(milliseconds);
            }
        }
        assert_eq!(probes, [1_000, 2_000, 3_000, 4_000]);
    }

    #[test]
    fn a_check_is_no_probe() {
        let breaker = Breaker::new(1);
        let now = Instant::now();
        fail(&breaker, now);
        assert_eq!(breaker.check(now), Err(CircuitOpen(OPEN_FOR)));
        let later = now + OPEN_FOR;
        assert_eq!(breaker.check(later), Ok(()));
        assert!(breaker.admit(later).unwrap().is_probe());
        assert_eq!(breaker.check(later), Err(CircuitOpen(OPEN_FOR)));
    }

    #[test]
    fn probes_that_fail_late_put_off_no_other() {
        let breaker = Breaker::new(1);
        let now = Instant::now();
        fail(&breaker, now);
        let at = |seconds| now + seconds * OPEN_FOR;
        let hanging: Vec<_> = (1..=5).map(|second| breaker.admit(at(second)).unwrap()).collect();
        let half = OPEN_FOR / 2;
        for (second, probe) in (1..).zip(hanging) {
            if second < 5 {
                assert_eq!(probe.report(true, at(5) + half), None, "probe {second}");
            } else {
                assert_eq!(probe.report(true, at(5) + half), Some(Circuit::Open), "the last probe");
            }
        }
        assert_eq!(breaker.check(at(6)), Err(CircuitOpen(half)));
        assert_eq!(breaker.check(at(6) + half), Ok(()));
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
        let _ = hanging;
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
