//! The record of the upstream: each attempt of each call with its fault and its times.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::fault::Fault;

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) fault: Fault,
    pub(crate) certificate: String,
    /// When it had been read whole.
    pub(crate) read: Instant,
    /// When all of its response had been written, or the connection ended in its place.
    pub(crate) answered: Option<Instant>,
    /// When the peer gave up waiting.
    pub(crate) released: Option<Instant>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    calls: Mutex<HashMap<u64, Vec<Attempt>>>,
    strays: Mutex<Vec<String>>,
    closures: Mutex<Vec<(Instant, Option<Instant>)>>,
    requests: AtomicUsize,
    /// Connections that are open now.
    pub(crate) open: AtomicUsize,
    /// Ends the connections that wait for a request.
    pub(crate) idle: Notify,
}

impl Scene {
    /// Notes an attempt; says its index among those of its call.
    pub(crate) fn attempt(&self, number: u64, certificate: String, fault: impl FnOnce(usize) -> Fault) -> usize {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut calls = self.calls.lock().unwrap();
        let attempts = calls.entry(number).or_default();
        let index = attempts.len();
        let fault = fault(index);
        attempts.push(Attempt { fault, certificate, read: Instant::now(), answered: None, released: None });
        index
    }

    pub(crate) fn fault(&self, number: u64, index: usize) -> Fault {
        self.calls.lock().unwrap()[&number][index].fault
    }

    pub(crate) fn amend(&self, number: u64, index: usize, change: impl FnOnce(&mut Attempt)) {
        let mut calls = self.calls.lock().unwrap();
        change(&mut calls.get_mut(&number).unwrap()[index]);
    }

    /// The attempts of a call.
    pub(crate) fn of(&self, number: u64) -> Vec<Attempt> {
        self.calls.lock().unwrap().get(&number).cloned().unwrap_or_default()
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Notes a request that no caller has asked for.
    pub(crate) fn stray(&self, request: String) {
        self.strays.lock().unwrap().push(request);
    }

    pub(crate) fn strays(&self) -> Vec<String> {
        self.strays.lock().unwrap().clone()
    }

    pub(crate) fn closes(&self) {
        self.closures.lock().unwrap().push((Instant::now(), None));
    }

    pub(crate) fn opens(&self) {
        if let Some(last) = self.closures.lock().unwrap().last_mut() {
            last.1 = Some(Instant::now());
        }
    }

    /// Whether the listener was closed at some time between the two.
    pub(crate) fn was_closed(&self, from: Instant, to: Instant) -> bool {
        let slack = Duration::from_millis(50);
        let closures = self.closures.lock().unwrap();
        closures
            .iter()
            .any(|(closed, opened)| *closed <= to + slack && opened.is_none_or(|opened| from <= opened + slack))
    }

    /// Pairs of requests for one certificate that were with the upstream at the same time, as numbers of their calls. Only
    /// these calls count.
    pub(crate) fn overlaps(&self, counted: &HashSet<u64>) -> Vec<(u64, u64)> {
        let calls = self.calls.lock().unwrap();
        let mut spans: HashMap<&str, Vec<(Instant, Instant, u64)>> = HashMap::new();
        for (number, attempts) in calls.iter().filter(|(number, _)| counted.contains(number)) {
            for attempt in attempts {
                if let Some(answered) = attempt.answered {
                    spans.entry(&attempt.certificate).or_default().push((attempt.read, answered, *number));
                }
            }
        }
        let mut pairs = Vec::new();
        for spans in spans.values_mut() {
            spans.sort();
            for window in spans.windows(2) {
                let [(_, first_end, first), (second_start, _, second)] = window else { continue };
                if second_start < first_end && first != second {
                    pairs.push((*first, *second));
                }
            }
        }
        pairs
    }
}
