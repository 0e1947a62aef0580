//! `/readyz?verbose`: a line for each condition, in the form of Kubernetes.

use std::{fmt::Write as _, time::Duration};

use super::console::Console;
use crate::{cloud::Circuit, telemetry::CredentialState};

/// One condition.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) name: String,
    /// `None`: all is well.
    pub(super) fault: Option<String>,
    /// Whether the gateway is ready depends on it. The others are shown for people.
    is_required: bool,
}

impl Condition {
    fn required(name: &str, fault: Option<&str>) -> Self {
        Self { name: name.to_owned(), fault: fault.map(str::to_owned), is_required: true }
    }

    fn shown(name: String, fault: Option<String>) -> Self {
        Self { name, fault, is_required: false }
    }
}

/// All conditions, those that readiness depends on first.
///
/// An open circuit and a credential that can't be renewed do not end readiness: they would end that of every gateway at
/// once, and calls get a precise error from a gateway that is ready.
pub(super) fn conditions(console: &Console) -> Vec<Condition> {
    let shared = console.shared();
    let is_waiting = !shared.ready.is_cancelled();
    let mut conditions = vec![
        Condition::required("drain", shared.draining.is_cancelled().then_some("the gateway drains")),
        Condition::required("credentials", is_waiting.then_some("the first credential has not been fetched yet")),
    ];
    let vitals = console.vitals();
    let circuit = match vitals.circuit {
        Circuit::Closed => None,
        Circuit::HalfOpen => Some("half open, a probe is on its way".to_owned()),
        Circuit::Open => Some(format!("open, {}", next_probe(vitals.probe_in))),
    };
    conditions.push(Condition::shown("circuit".into(), circuit));
    let known = console.metrics().known();
    for (identity, renewals) in known.credentials {
        let fault = match renewals.current() {
            None | Some(CredentialState::Fetching | CredentialState::Valid) => None,
            Some(CredentialState::Failed) => Some("the last fetch failed".to_owned()),
            Some(CredentialState::Refused) => Some("the source refuses the gateway".to_owned()),
        };
        conditions.push(Condition::shown(format!("credential/{identity}"), fault));
    }
    for (identity, fuse) in known.fuses {
        let fault = (fuse.get() > 0).then(|| "the cloud refuses the signatures".to_owned());
        conditions.push(Condition::shown(format!("key-pair/{identity}"), fault));
    }
    for (setting, failing) in known.files {
        let fault = (failing.get() > 0).then(|| "can't be loaded; the previous content stays in use".to_owned());
        conditions.push(Condition::shown(format!("file/{setting}"), fault));
    }
    conditions
}

/// The next probe of an open circuit.
pub(super) fn next_probe(wait: Option<Duration>) -> String {
    match wait {
        Some(wait) => format!("calls fail at once, next probe in {:.1} s", wait.as_secs_f64()),
        None => "the next call is a probe".to_owned(),
    }
}

/// The conditions as text.
pub(super) fn verbose(conditions: &[Condition], is_ready: bool) -> String {
    let mut text = String::new();
    for Condition { name, fault, is_required } in conditions {
        let _ = match fault {
            None => writeln!(text, "[+]{name} ok"),
            Some(fault) if *is_required => writeln!(text, "[-]{name} {fault}"),
            Some(fault) => writeln!(text, "[-]{name} {fault} (does not affect readiness)"),
        };
    }
    text + if is_ready { "readyz check passed\n" } else { "readyz check failed\n" }
}
