//! Lets a certificate be changed by one request at a time: a second one, while the first is at work, is refused.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;

use super::answer::Refusal;

/// The certificates that are being changed, by their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes(Arc<Mutex<HashSet<String>>>);

/// A change at work, until it is dropped.
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
    /// Another change of the certificate is at work. The documents have code, status and text; that the code means this
    /// is the reading of a client that repeats on it.
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
        // A panic elsewhere leaves the set whole: every change of it is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.changes.lock().remove(&self.certificate);
    }
}
