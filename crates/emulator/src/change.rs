//! Changes a certificate or its bindings: one change at a time, with the configured fault and duration.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::answer::Refusal;
use super::certificate::Certificate;
use super::state::State;
use super::world::Fault;

/// Changes a certificate of a project, or its bindings. Without such a certificate nothing else is looked at; a fault of
/// the world replaces every other response.
pub(super) async fn change(
    cloud: &Shared,
    project: &str,
    certificate: &str,
    make: impl FnOnce(&mut State, &Certificate) -> Result<Response, Refusal>,
) -> Result<Response, Refusal> {
    cloud.store.read().certificate(project, certificate)?;
    match cloud.world.fault(certificate) {
        None => apply(cloud, project, certificate, make).await,
        Some(fault) => {
            if fault.processed
                && let Err(refusal) = apply(cloud, project, certificate, make).await
            {
                tracing::debug!(error_code = refusal.code(), "refusal replaced by the configured fault");
            }
            Ok(fault_answer(fault))
        }
    }
}

/// Makes a change, and blocks other changes of the certificate for the configured time even if the client
/// disconnects. Our choice: while another change is in progress, an invalid change is refused for that reason too.
async fn apply(
    cloud: &Shared,
    project: &str,
    certificate: &str,
    make: impl FnOnce(&mut State, &Certificate) -> Result<Response, Refusal>,
) -> Result<Response, Refusal> {
    let in_progress = cloud.changes.begin(certificate)?;
    let answer = cloud.store.change(&cloud.world, |state| {
        let certificate = state.certificate(project, certificate)?.clone();
        make(state, &certificate)
    })?;
    let time = cloud.change_time;
    let pause = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        drop(in_progress);
    });
    // The task fails only when the runtime shuts down.
    let _ = pause.await;
    Ok(answer)
}

fn fault_answer(fault: &Fault) -> Response {
    let mut answer = fault.body.clone().into_response();
    *answer.status_mut() = fault.status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().extend(fault.headers.clone());
    answer
}

/// The certificates that are being changed, by their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes(Arc<Mutex<HashSet<String>>>);

/// A change in progress. Dropping it ends the change.
#[derive(Debug)]
pub(super) struct Change {
    changes: Changes,
    certificate: String,
}

impl Changes {
    /// Begins a change.
    ///
    /// # Errors
    ///
    /// Another change of the certificate is in progress. Code, status and text are documented; the meaning of the code
    /// is inferred from a client that retries on it.
    pub(super) fn begin(&self, certificate: &str) -> Result<Change, Refusal> {
        if !self.lock().insert(certificate.to_owned()) {
            return Err(Refusal::service(
                StatusCode::INTERNAL_SERVER_ERROR,
                "APIG.3500",
                "Failed to synchronize data to etcd.",
            ));
        }
        Ok(Change { changes: self.clone(), certificate: certificate.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        // A panic while the lock was held cannot leave the set half updated: each update is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.changes.lock().remove(&self.certificate);
    }
}
