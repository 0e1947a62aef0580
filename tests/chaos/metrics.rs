//! Reconciles the gateway's metrics with the ends of all calls and with the requests at the upstream, to the call.

use std::collections::{BTreeMap, BTreeSet};

use apig_grpc_gateway::telemetry::code_name;

use super::{
    driver::{CallEnd, Record},
    fault::Verdict,
    ledger::Ledger,
    scene::Scene,
};

type Counts = BTreeMap<String, u64>;

/// The metrics of a gateway without calls.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) fn of(text: String) -> Self {
        Self(text)
    }

    /// The numbers of a histogram's observations, by the value of a label.
    fn counts(&self, histogram: &str, label: &str) -> Counts {
        let mut counts = Counts::new();
        let start = format!("{histogram}_count{{");
        for line in self.0.lines().filter_map(|line| line.strip_prefix(&start)) {
            let (labels, count) = line.split_once("} ").expect("labels come before the value");
            let value = labels.split_once(&format!("{label}=\"")).expect("the label is there").1;
            let value = value.split('"').next().unwrap_or_default();
            *counts.entry(value.to_owned()).or_default() += count.parse::<u64>().unwrap();
        }
        counts
    }

    fn counter(&self, name: &str) -> u64 {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.expect("the counter is there")
    }

    /// Holds the calls by code against the responses that callers got, and for callers that left against the audit log.
    pub(crate) fn reconcile_calls(&self, records: &[Record], ledger: &Ledger) -> Result<String, String> {
        let told = self.counts("rpc_server_call_duration_seconds", "rpc_response_status_code");
        let mut expected = Counts::new();
        let mut codes = ledger.codes()?;
        let mut left = 0;
        for record in records {
            match &record.end {
                CallEnd::Responded { verdict, .. } => {
                    *expected.entry(code_name(verdict.code).to_owned()).or_default() += 1;
                }
                CallEnd::Left | CallEnd::Broken(_) => {
                    for code in codes.remove(&record.number).unwrap_or_default() {
                        left += 1;
                        *expected.entry(code).or_default() += 1;
                    }
                }
            }
        }
        // A call without a valid message may have no line of its own, if its caller has left.
        let suppressed = self.counter("apig_gateway_audit_lines_suppressed_total");
        let of = |counts: &Counts, code: &str| counts.get(code).copied().unwrap_or_default();
        let names: BTreeSet<_> = told.keys().chain(expected.keys()).collect();
        let is_less = names.iter().any(|code| of(&told, code) < of(&expected, code));
        let (sum, expected_sum) = (told.values().sum::<u64>(), expected.values().sum::<u64>());
        if is_less || sum > expected_sum + suppressed {
            return Err(format!("calls: {told:?} in the metrics, {expected:?} expected, {suppressed} without a line"));
        }
        Ok(format!("{sum} calls as their callers know them, {left} of callers that left, {suppressed} without a line"))
    }

    /// Holds the requests by status against those of the upstream. A response is undecided when it may have come too late
    /// for its call: then the gateway may count it or not.
    pub(crate) fn reconcile_requests(&self, records: &[Record], scene: &Scene) -> Result<String, String> {
        let mut told = self.counts("http_client_request_duration_seconds", "http_response_status_code");
        let without = told.remove("none").unwrap_or_default();
        let (mut seen, mut undecided) = (Counts::new(), Counts::new());
        for record in records {
            let attempts = scene.of(record.number);
            for (index, attempt) in attempts.iter().enumerate() {
                let Some(status) = attempt.fault.status() else { continue };
                let is_last = index + 1 == attempts.len();
                let is_verdict = |verdict: &Verdict| {
                    *verdict != Verdict::interrupted() && attempt.fault.verdicts().contains(verdict)
                };
                let is_seen = match &record.end {
                    // Another attempt follows a response alone.
                    _ if !is_last => true,
                    CallEnd::Responded { verdict, .. } => is_verdict(verdict),
                    CallEnd::Left | CallEnd::Broken(_) => false,
                };
                *if is_seen { &mut seen } else { &mut undecided }.entry(status.to_string()).or_default() += 1;
            }
        }
        let of = |counts: &Counts, status: &str| counts.get(status).copied().unwrap_or_default();
        let names: BTreeSet<_> = told.keys().chain(seen.keys()).collect();
        let wrong = names.into_iter().find(|status| {
            let (told, least) = (of(&told, status), of(&seen, status));
            told < least || told > least + of(&undecided, status)
        });
        match wrong {
            Some(status) => {
                Err(format!("status {status}: {told:?} in the metrics, {seen:?} sent, {undecided:?} undecided"))
            }
            None => Ok(format!(
                "{} responses as they were sent, {} undecided, {without} requests without one",
                told.values().sum::<u64>(),
                undecided.values().sum::<u64>()
            )),
        }
    }
}
