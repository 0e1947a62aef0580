//! Stores the access keys, permanent and temporary, and verifies signatures made with them. A key
//! pair is locked after too many failed signatures in a row.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::HeaderValue;
use uuid::Uuid;

use super::caller::RequestHead;
use super::lock::Lock;
use super::signature::{Claim, SignatureError};
use super::world::World;

/// "More than five" failed signatures in a row lock the pair for five minutes, as documented.
const MAX_FAILURES: u32 = 5;
const LOCKED_FOR: Duration = Duration::from_secs(5 * 60);

/// All key pairs, by access key.
pub(super) struct Keys(Mutex<HashMap<String, Pair>>);

struct Pair {
    secret: String,
    user: String,
    temporary: Option<Temporary>,
    lock: Lock,
}

struct Temporary {
    token: String,
    end: SystemTime,
}

/// A new temporary key pair.
pub(super) struct Issued {
    pub(super) access: String,
    pub(super) secret: String,
    pub(super) token: String,
    pub(super) end: SystemTime,
}

impl Keys {
    pub(super) fn of(world: &World) -> Self {
        let pair = |secret: &str, user: &str| Pair {
            secret: secret.to_owned(),
            user: user.to_owned(),
            temporary: None,
            lock: Lock::default(),
        };
        Self(Mutex::new(world.keys().map(|key| (key.access.clone(), pair(&key.secret, &key.user))).collect()))
    }

    /// Issues a temporary pair with a user's permissions.
    pub(super) fn issue(&self, user: &str, now: SystemTime, life: Duration) -> Issued {
        let random = || Uuid::now_v7().simple().to_string();
        let issued =
            Issued { access: random().to_uppercase(), secret: random(), token: random() + &random(), end: now + life };
        let mut pairs = self.lock();
        // Long expired pairs become unknown, which bounds the memory.
        pairs.retain(|_, pair| pair.temporary.as_ref().is_none_or(|temporary| temporary.end + LOCKED_FOR > now));
        let pair = Pair {
            secret: issued.secret.clone(),
            user: user.to_owned(),
            temporary: Some(Temporary { token: issued.token.clone(), end: issued.end }),
            lock: Lock::default(),
        };
        pairs.insert(issued.access.clone(), pair);
        issued
    }

    /// Revokes all temporary pairs, as a change of their users' permissions does.
    pub(super) fn revoke(&self) {
        self.lock().retain(|_, pair| pair.temporary.is_none());
    }

    /// Verifies the signature of a request and returns the user of the key pair.
    ///
    /// # Errors
    ///
    /// The front gateway's error text. Its endings are documented; assigning them to a malformed header, an invalid or
    /// expired security token, and a token sent with a permanent key is our choice.
    pub(super) fn check(
        &self,
        authorization: &str,
        request: &RequestHead,
        body: &[u8],
        now: SystemTime,
    ) -> Result<String, String> {
        let claim = Claim::parse(authorization).ok_or_else(|| incorrect("verify aksk signature fail"))?;
        let access = claim.access;
        let mut pairs = self.lock();
        let pair = pairs
            .get_mut(access)
            .ok_or_else(|| incorrect(&format!("Get secretKey failed,ak:{access},err:ak not exist")))?;
        if pair.lock.is_shut(now) {
            return Err(incorrect("AK access failed to reach the limit,forbidden"));
        }
        let given = request.headers.get("x-security-token").map(HeaderValue::as_bytes);
        let token_matches = match &pair.temporary {
            Some(Temporary { token, end }) => {
                given == Some(token.as_bytes()) && claim.covers("x-security-token") && *end > now
            }
            None => given.is_none(),
        };
        if !token_matches {
            return Err(incorrect("decrypt token fail"));
        }
        match claim.verify(&pair.secret, request, body, now) {
            Ok(()) => {
                pair.lock.open();
                Ok(pair.user.clone())
            }
            Err(SignatureError::Expired) => Err(incorrect("calc ak sk signature fail:signature expired")),
            Err(SignatureError::Mismatch | SignatureError::Malformed) => {
                pair.lock.count_failure(now, MAX_FAILURES, LOCKED_FOR);
                Err(incorrect("verify aksk signature fail"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pair>> {
        // A panic while the lock was held cannot leave the map half updated: each update is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn incorrect(ending: &str) -> String {
    format!("Incorrect IAM authentication information: {ending}")
}
