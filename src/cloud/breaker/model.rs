use std::sync::{Arc, Mutex as Log};

use shuttle::thread;

use super::*;
use crate::model::{Time, explore, finds};

const LOST: &str = "a report is lost";
const TOO_SOON: &str = "two probes within a second";

/// The operations of a breaker in the scenarios. Requests are numbers, because broken copies have no `Admission`.
trait Guard: Send + Sync + 'static {
    fn new(threshold: u32) -> Self;
    /// Admits a request and reports it at once, or drops it without a report. Returns whether it was a probe.
    fn send(&self, now: Instant, end: End) -> Option<bool>;
    fn is_open(&self, now: Instant) -> bool;
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Failed,
    Succeeded,
    Left,
}

impl Guard for Breaker {
    fn new(threshold: u32) -> Self {
        Self::new(threshold)
    }

    fn send(&self, now: Instant, end: End) -> Option<bool> {
        let admission = self.admit(now).ok()?;
        let is_probe = admission.is_probe();
        if end != End::Left {
            admission.report(end == End::Failed, now);
        }
        Some(is_probe)
    }

    fn is_open(&self, now: Instant) -> bool {
        self.check(now).is_err()
    }
}

/// As many failures as the threshold has, from as many threads.
fn failures<B: Guard>() {
    let now = Instant::now();
    let breaker = Arc::new(B::new(3));
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || breaker.send(now, End::Failed))
        })
        .collect();
    for call in calls {
        call.join().unwrap();
    }
    assert!(breaker.is_open(now), "{LOST}: three failures leave the circuit closed");
}

/// Callers arrive while the circuit is open and time advances. Some probes fail, some are dropped, one succeeds.
fn probes<B: Guard>() {
    let time = Time::new();
    let breaker = Arc::new(B::new(1));
    breaker.send(time.now(), End::Failed);
    let probes = Arc::new(Log::new(Vec::new()));
    let ends = [[End::Left; 4], [End::Failed; 4], [End::Left, End::Succeeded, End::Failed, End::Failed]];
    let calls: Vec<_> = ends
        .into_iter()
        .map(|ends| {
            let (breaker, probes, time) = (Arc::clone(&breaker), Arc::clone(&probes), time.clone());
            thread::spawn(move || {
                for end in ends {
                    let now = time.now();
                    if breaker.send(now, end) == Some(true) {
                        probes.lock().unwrap().push(now);
                    }
                }
            })
        })
        .collect();
    for _ in 0..8 {
        time.advance(OPEN_FOR * 2 / 5);
        thread::yield_now();
    }
    for call in calls {
        call.join().unwrap();
    }
    let mut probes = probes.lock().unwrap().clone();
    probes.sort();
    for (one, next) in probes.iter().zip(probes.iter().skip(1)) {
        let gap = next.duration_since(*one);
        assert!(gap >= OPEN_FOR, "{TOO_SOON}: {gap:?} apart");
    }
}

#[test]
fn no_report_is_lost() {
    explore(failures::<Breaker>);
}

#[test]
fn probes_are_a_second_apart() {
    explore(probes::<Breaker>);
}

/// Reads the state, decides, and writes it in a second step.
struct Forgetful(Breaker);

impl Guard for Forgetful {
    fn new(threshold: u32) -> Self {
        Self(Breaker::new(threshold))
    }

    fn send(&self, now: Instant, end: End) -> Option<bool> {
        let admission = self.0.admit(now).ok()?;
        let failures = self.0.lock().failures;
        if end == End::Failed {
            let mut state = self.0.lock();
            state.failures = failures + 1;
            if state.failures >= self.0.threshold {
                state.circuit = Circuit::Open;
                state.next_probe = Some(now + OPEN_FOR);
            }
        }
        Some(admission.is_probe())
    }

    fn is_open(&self, now: Instant) -> bool {
        self.0.check(now).is_err()
    }
}

#[test]
fn a_breaker_that_forgets_reports_is_found() {
    finds(LOST, failures::<Forgetful>);
}

/// Admits the next probe as soon as a probe is dropped.
struct Hasty(Breaker);

impl Guard for Hasty {
    fn new(threshold: u32) -> Self {
        Self(Breaker::new(threshold))
    }

    fn send(&self, now: Instant, end: End) -> Option<bool> {
        let is_probe = self.0.send(now, end)?;
        if is_probe && end == End::Left {
            self.0.lock().next_probe = Some(now);
        }
        Some(is_probe)
    }

    fn is_open(&self, now: Instant) -> bool {
        self.0.check(now).is_err()
    }
}

#[test]
fn a_breaker_that_probes_again_at_once_is_found() {
    finds(TOO_SOON, probes::<Hasty>);
}

/// Checks whether a probe is due, and starts it in a second step.
struct TwoSteps(Breaker);

impl Guard for TwoSteps {
    fn new(threshold: u32) -> Self {
        Self(Breaker::new(threshold))
    }

    fn send(&self, now: Instant, end: End) -> Option<bool> {
        self.0.check(now).ok()?;
        let mut state = self.0.lock();
        let is_probe = state.circuit != Circuit::Closed;
        if is_probe {
            state.next_probe = Some(now + OPEN_FOR);
        } else if end == End::Failed {
            (state.circuit, state.next_probe) = (Circuit::Open, Some(now + OPEN_FOR));
        }
        Some(is_probe)
    }

    fn is_open(&self, now: Instant) -> bool {
        self.0.check(now).is_err()
    }
}

#[test]
fn a_breaker_that_takes_a_probe_in_two_steps_is_found() {
    finds(TOO_SOON, probes::<TwoSteps>);
}
