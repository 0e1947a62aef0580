//! The last failures and the rates of the last minute, for the page of the admin port. Calls that end OK cost nothing here.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use tokio::time::Instant;
use tonic::Code;

use crate::telemetry::CODES;

/// The number of failures of different kinds.
const MOST_FAILURES: usize = 20;

/// The time between two samples of the counters.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// The samples of a minute.
const MOST_SAMPLES: usize = 13;

/// Failures of one kind: of one method, with one code and one reason.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// The time of the last one.
    pub(super) time: SystemTime,
    pub(super) method: &'static str,
    pub(super) code: Code,
    pub(super) reason: Option<Cow<'static, str>>,
    pub(super) advice: Option<&'static str>,
    /// The outcome of the last one.
    pub(super) outcome: Option<&'static str>,
    pub(super) request_id: HeaderValue,
    /// The cloud's id for the last one.
    pub(super) cloud_id: Option<HeaderValue>,
    pub(super) count: u64,
}

impl Failure {
    fn is_like(&self, other: &Self) -> bool {
        (self.method, self.code, &self.reason) == (other.method, other.code, &other.reason)
    }
}

/// The last failures, one entry a kind, so that many of one kind do not displace the others.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<VecDeque<Failure>>);

impl Failures {
    pub(super) fn note(&self, mut failure: Failure) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = list.iter().position(|other| other.is_like(&failure)).and_then(|at| list.remove(at)) {
            failure.count += before.count;
        }
        list.truncate(MOST_FAILURES - 1);
        list.push_front(failure);
    }

    /// Newest first.
    pub(super) fn list(&self) -> Vec<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// The numbers of calls that are over, by code.
pub(super) type Counts = [(Code, u64); CODES];

/// Samples of the counters, from which the rates of the last minute are made.
#[derive(Debug, Default)]
pub(super) struct Samples(Mutex<VecDeque<(Instant, Counts)>>);

impl Samples {
    pub(super) fn take(&self, now: Instant, counts: &Counts) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_front((now, *counts));
        samples.truncate(MOST_SAMPLES);
    }

    /// The oldest sample: its age, and the numbers of that time.
    pub(super) fn oldest(&self, now: Instant) -> Option<(Duration, Counts)> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.back().map(|(at, counts)| (now.saturating_duration_since(*at), *counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code, reason: String) -> Failure {
        Failure {
            time: SystemTime::now(),
            method: "m",
            code,
            reason: Some(reason.into()),
            advice: None,
            outcome: None,
            request_id: HeaderValue::from_static("id"),
            cloud_id: None,
            count: 1,
        }
    }

    #[test]
    fn many_failures_of_one_kind_displace_no_other() {
        let failures = Failures::default();
        failures.note(failure(Code::NotFound, "APIG_3020".into()));
        for _ in 0..1_000 {
            failures.note(failure(Code::Unavailable, "CIRCUIT_OPEN".into()));
        }
        let list: Vec<_> = failures.list().iter().map(|one| (one.code, one.count)).collect();
        assert_eq!(list, [(Code::Unavailable, 1_000), (Code::NotFound, 1)]);
    }

    #[test]
    fn the_list_is_bounded_and_newest_first() {
        let failures = Failures::default();
        for number in 0..100 {
            failures.note(failure(Code::Internal, format!("R{number}")));
        }
        let list = failures.list();
        let reasons: Vec<_> = list.iter().filter_map(|failure| failure.reason.as_deref()).collect();
        assert_eq!((reasons.len(), reasons.first(), reasons.last()), (MOST_FAILURES, Some(&"R99"), Some(&"R80")));
    }

    #[test]
    fn samples_reach_a_minute_back() {
        let samples = Samples::default();
        let start = Instant::now();
        assert!(samples.oldest(start).is_none());
        for number in 0..100 {
            samples.take(start + SAMPLE_EVERY * number, &[(Code::Ok, u64::from(number)); CODES]);
        }
        let oldest = samples.oldest(start + SAMPLE_EVERY * 99);
        assert_eq!(oldest, Some((Duration::from_secs(60), [(Code::Ok, 87); CODES])));
    }
}
