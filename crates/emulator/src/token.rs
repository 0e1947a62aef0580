//! Keeps the tokens that open this cloud and says what each one allows. It does not know how a
//! token is asked for, nor what it is used for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::answer::Refusal;
use super::world::World;

/// How long an issued token lives, as documented.
pub(super) const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

/// An issued token is forgotten this long after its end: until then it is refused as expired,
/// from then on as unknown. The limit is ours and keeps the memory of the emulator bounded.
const REMEMBERED: Duration = VALIDITY;

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// Whose it is.
    pub(super) user: String,
    /// The project that it is scoped to; none for a token of the whole account.
    pub(super) project: Option<String>,
    /// Whether its user may attach certificates.
    pub(super) may_attach: bool,
    /// Its end; none for a token of the world that lives for ever.
    pub(super) expires_at: Option<SystemTime>,
}

/// Every token that the cloud knows, by value.
pub(super) struct Tokens(Mutex<HashMap<String, Grant>>);

impl Tokens {
    /// The fixed tokens of a world.
    pub(super) fn of(world: &World) -> Self {
        Self(Mutex::new(world.fixed_tokens().collect()))
    }

    /// A new token with this grant. It leaves the older ones valid, as documented.
    pub(super) fn issue(&self, grant: Grant, now: SystemTime) -> String {
        // Real tokens have several kB: as long a value brings out a header limit set too low.
        let value: String = (0..64).map(|_| Uuid::now_v7().simple().to_string()).collect();
        let mut tokens = self.lock();
        tokens.retain(|_, grant| grant.expires_at.is_none_or(|end| end + REMEMBERED > now));
        tokens.insert(value.clone(), grant);
        value
    }

    /// Ends every token but those of the world.
    pub(super) fn revoke(&self, world: &World) {
        *self.lock() = world.fixed_tokens().collect();
    }

    /// The grant of a token, whatever it is for.
    pub(super) fn grant(&self, value: &str, now: SystemTime) -> Result<Grant, Refusal> {
        let known = self.lock().get(value).cloned();
        known
            .filter(|grant| grant.expires_at.is_none_or(|end| end > now))
            .ok_or_else(|| Refusal::keystone(StatusCode::UNAUTHORIZED, "The token is unknown or has ended."))
    }

    /// The grant of the token that a request for something in `project` carries.
    ///
    /// Which plane of the real cloud makes each of these checks is not documented for these
    /// operations; the codes are those that the table gives for each fault.
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
            Some(own) if own == project => Ok(grant),
            Some(_) => Err(no_permission()),
            None => {
                Err(Refusal::service(StatusCode::UNAUTHORIZED, "APIG.1003", "Token contains no project information."))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Grant>> {
        // A panic elsewhere leaves the map whole: every change of it is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The refusal of a caller whose token is good, but not for this. The table gives the code both
/// 401 and 403; 403 is what it means.
pub(super) fn no_permission() -> Refusal {
    Refusal::service(StatusCode::FORBIDDEN, "APIG.1005", "No permissions to request this method")
}
