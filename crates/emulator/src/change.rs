//! Allows one change of a certificate at a time: concurrent changes are refused.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;

use super::answer::Refusal;

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
