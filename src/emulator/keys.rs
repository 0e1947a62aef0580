//! Keeps the access keys that open this cloud: the world's own, and temporary ones with a security
//! token and an end. It locks a pair whose signatures fail too often.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, Method, StatusCode, Uri};
use uuid::Uuid;

use super::answer::Refusal;
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
    failures: u32,
    locked_until: Option<SystemTime>,
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
            failures: 0,
            locked_until: None,
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
            failures: 0,
            locked_until: None,
        };
        pairs.insert(issued.access.clone(), pair);
        issued
    }

    /// Ends every temporary pair, as when the rights of their users change.
    pub(super) fn revoke(&self) {
        self.lock().retain(|_, pair| pair.temporary.is_none());
    }

    /// The user who signed the request.
    ///
    /// All of these faults are documented as endings of the text of one code, but for which of two
    /// a malformed header gets, and what an ended security token is called: those are ours.
    pub(super) fn check(
        &self,
        authorization: &str,
        request: (&Method, &Uri, &HeaderMap, &[u8]),
        now: SystemTime,
    ) -> Result<String, Refusal> {
        let claim = Claim::read(authorization).ok_or_else(|| incorrect("verify aksk signature fail"))?;
        let access = claim.access;
        let mut pairs = self.lock();
        let pair = pairs
            .get_mut(access)
            .ok_or_else(|| incorrect(&format!("Get secretKey failed,ak:{access},err:ak not exist")))?;
        if pair.locked_until.is_some_and(|end| end > now) {
            return Err(incorrect("AK access failed to reach the limit,forbidden"));
        }
        if let Some(Temporary { token, end }) = &pair.temporary {
            let given = request.2.get("x-security-token").and_then(|token| token.to_str().ok());
            if given != Some(token) || !claim.covers("x-security-token") || *end <= now {
                return Err(incorrect("decrypt token fail"));
            }
        }
        match claim.verify(&pair.secret, request, now) {
            Ok(()) => {
                pair.failures = 0;
                Ok(pair.user.clone())
            }
            Err(Fault::Stale) => Err(incorrect("calc ak sk signature fail:signature expired")),
            Err(Fault::Wrong | Fault::Malformed) => {
                pair.failures += 1;
                if pair.failures > MOST_FAILURES {
                    pair.failures = 0;
                    pair.locked_until = Some(now + LOCKED_FOR);
                }
                Err(incorrect("verify aksk signature fail"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pair>> {
        // A panic elsewhere leaves the map whole: every change of it is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn incorrect(ending: &str) -> Refusal {
    let text = format!("Incorrect IAM authentication information: {ending}");
    Refusal::front(StatusCode::UNAUTHORIZED, "APIG.0301", text)
}
