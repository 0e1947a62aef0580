//! Stores IAM tokens and their grants.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::answer::Refusal;
use super::world::World;

/// The documented lifetime of an issued token.
pub(super) const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

/// The time after its expiry for which a token is remembered: until then it is refused as expired,
/// later as unknown. The limit is ours and bounds the memory of the emulator.
const REMEMBERED: Duration = VALIDITY;

/// The permissions of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// The user's name.
    pub(super) user: String,
    /// The project in the token's scope; none for a token of the whole account.
    pub(super) project: Option<String>,
    /// Whether the user may attach certificates.
    pub(super) may_attach: bool,
    /// The expiry; none for a fixed token of the world that never expires.
    pub(super) expires_at: Option<SystemTime>,
}

/// All tokens, by value.
pub(super) struct Tokens(Mutex<HashMap<String, Grant>>);

impl Tokens {
    /// The fixed tokens of a world.
    pub(super) fn of(world: &World) -> Self {
        Self(Mutex::new(world.fixed_tokens().collect()))
    }

    /// Issues a token with this grant. Older tokens stay valid, as documented.
    pub(super) fn issue(&self, grant: Grant, now: SystemTime) -> String {
        // Real tokens have several kB; a value of that size exposes a header limit set too low.
        let value: String = (0..64).map(|_| Uuid::now_v7().simple().to_string()).collect();
        let mut tokens = self.lock();
        tokens.retain(|_, grant| grant.expires_at.is_none_or(|end| end + REMEMBERED > now));
        tokens.insert(value.clone(), grant);
        value
    }

    /// Revokes all tokens except the world's fixed ones.
    pub(super) fn revoke(&self, world: &World) {
        *self.lock() = world.fixed_tokens().collect();
    }

    /// The grant of a token, for any project.
    pub(super) fn grant(&self, value: &str, now: SystemTime) -> Result<Grant, Refusal> {
        let known = self.lock().get(value).cloned();
        known
            .filter(|grant| grant.expires_at.is_none_or(|end| end > now))
            .ok_or_else(|| Refusal::keystone(StatusCode::UNAUTHORIZED, "The token is unknown or has ended."))
    }

    /// The grant of a request's token, checked for `project`.
    ///
    /// The division of these checks between front gateway and service is not documented for these
    /// operations; the codes are the documented ones for each error.
    pub(super) fn check(&self, headers: &HeaderMap, project: &str, now: SystemTime) -> Result<Grant, Refusal> {
        let value = headers.get("x-auth-token").ok_or_else(|| {
            Refusal::front(
                StatusCode::UNAUTHORIZED,
                "APIG.0301",
                "Incorrect IAM authentication information: x-auth-token not found",
            )
        })?;
        let known = value.to_str().ok().and_then(|value| self.lock().get(value).cloned());
        let grant = known.ok_or_else(|| {
            Refusal::service(StatusCode::UNAUTHORIZED, "APIG.1002", "Incorrect token or token resolution failed.")
        })?;
        if grant.expires_at.is_some_and(|end| end <= now) {
            return Err(Refusal::front(StatusCode::UNAUTHORIZED, "APIG.0307", "The token must be updated."));
        }
        match &grant.project {
            Some(granted) if granted == project => Ok(grant),
            Some(_) => Err(no_permission()),
            None => {
                Err(Refusal::service(StatusCode::UNAUTHORIZED, "APIG.1003", "Token contains no project information."))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Grant>> {
        // A panic while the lock was held cannot leave the map half updated: each update is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The refusal of an authenticated caller without permission. The code is documented with 401 and
/// 403; 403 matches its meaning.
pub(super) fn no_permission() -> Refusal {
    Refusal::service(StatusCode::FORBIDDEN, "APIG.1005", "No permissions to request this method")
}
