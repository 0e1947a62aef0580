//! Keeps the access keys that open this cloud: the world's own, and temporary ones with a security
//! token and an end. It locks a pair whose signatures fail too often, and does not know what a key
//! is used for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::HeaderValue;
use uuid::Uuid;

use super::caller::Asked;
use super::lock::Lock;
use super::signature::{Claim, Fault};
use super::world::World;

/// "More than five" signatures that fail in a row lock the pair for five minutes, as documented.
const MOST_FAILURES: u32 = 5;
const LOCKED_FOR: Duration = Duration::from_secs(5 * 60);

/// Every pair that the cloud knows, by access key.
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

/// A temporary pair, as it is handed out.
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

    /// A temporary pair with a user's rights.
    pub(super) fn issue(&self, user: &str, now: SystemTime, life: Duration) -> Issued {
        let fresh = || Uuid::now_v7().simple().to_string();
        let issued =
            Issued { access: fresh().to_uppercase(), secret: fresh(), token: fresh() + &fresh(), end: now + life };
        let mut pairs = self.lock();
        // One that ended long ago is refused as unknown, which keeps the memory bounded.
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

    /// Ends every temporary pair, as when the rights of their users change.
    pub(super) fn revoke(&self) {
        self.lock().retain(|_, pair| pair.temporary.is_none());
    }

    /// The user who signed the request, or why that is not known, in the words that the gateway has for it.
    ///
    /// All of these words are documented as endings of one text. Which of them a malformed header gets, a security
    /// token that is wrong or has ended, and one beside a key that has none: those are ours.
    pub(super) fn check(
        &self,
        authorization: &str,
        asked: &Asked,
        body: &[u8],
        now: SystemTime,
    ) -> Result<String, String> {
        let claim = Claim::read(authorization).ok_or_else(|| incorrect("verify aksk signature fail"))?;
        let access = claim.access;
        let mut pairs = self.lock();
        let pair = pairs
            .get_mut(access)
            .ok_or_else(|| incorrect(&format!("Get secretKey failed,ak:{access},err:ak not exist")))?;
        if pair.lock.is_shut(now) {
            return Err(incorrect("AK access failed to reach the limit,forbidden"));
        }
        let given = asked.headers.get("x-security-token").map(HeaderValue::as_bytes);
        let is_its_own = match &pair.temporary {
            Some(Temporary { token, end }) => {
                given == Some(token.as_bytes()) && claim.covers("x-security-token") && *end > now
            }
            None => given.is_none(),
        };
        if !is_its_own {
            return Err(incorrect("decrypt token fail"));
        }
        match claim.verify(&pair.secret, asked, body, now) {
            Ok(()) => {
                pair.lock.open();
                Ok(pair.user.clone())
            }
            Err(Fault::Stale) => Err(incorrect("calc ak sk signature fail:signature expired")),
            Err(Fault::Wrong | Fault::Malformed) => {
                pair.lock.count_failure(now, MOST_FAILURES, LOCKED_FOR);
                Err(incorrect("verify aksk signature fail"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pair>> {
        // A panic elsewhere leaves the map whole: every change of it is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn incorrect(ending: &str) -> String {
    format!("Incorrect IAM authentication information: {ending}")
}
