//! Caches credentials that expire, and renews them in time. A single task fetches, regardless of load; callers read its
//! result or wait for it until their deadlines.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::{Credential, CredentialError, supervisor::supervise};
use crate::{
    sync::preemption_point,
    telemetry::{CredentialState, Renewals},
};

/// Timeout for a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// The fraction of the lifetime after which a credential is renewed.
const RENEW_AT: f64 = 0.8;

/// A credential refused before this age is not replaced, because the next one would be refused too. The age doubles with
/// each early refusal, so that calls can't drive the rate of fetches.
const YOUNG: Duration = Duration::from_secs(2);

/// Delays after failed fetches: the first, the longest, and the delay after a refusal, because wrong passwords lock the
/// account.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const REFUSED_DELAY: Duration = Duration::from_secs(300);

/// The maximum delay taken from `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A credential with a shorter lifetime is used until it expires; the fetches after it are spaced up to this interval.
const SHORT_LIFE: Duration = Duration::from_secs(60);

/// The maximum lifetime: a credential is fetched again by then.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The result of a successful fetch.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) credential: Credential,
    /// The remaining lifetime.
    pub(crate) life: Duration,
}

/// The error of a failed fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// A description without secrets.
    pub(crate) cause: String,
    /// Whether the source refused, so that retries can't help.
    pub(crate) refused: bool,
    /// The delay requested by the source, used up to [`MAX_RETRY_AFTER`].
    pub(crate) wait: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    failure: Option<Failure>,
    /// Consecutive credentials that were refused early.
    retired: u32,
}

#[derive(Debug)]
struct Current {
    credential: Credential,
    since: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Failure {
    failed: Failed,
    /// The start of the next fetch.
    again: Instant,
}

/// The credentials of one source.
#[derive(Debug)]
pub(crate) struct Cache {
    state: watch::Sender<State>,
    renew: Arc<Notify>,
    _renewing: AbortOnDropHandle<()>,
}

impl Cache {
    /// Starts fetching; `source` names the source in logs. Needs a runtime, which must outlive the cache.
    pub(crate) fn start<F>(source: &str, fetch: impl Fn() -> F + Send + Sync + 'static, renewals: Renewals) -> Self
    where
        F: Future<Output = Result<Fetched, Failed>> + Send + 'static,
    {
        let state = watch::Sender::new(State::default());
        let renew = Arc::new(Notify::new());
        let task = {
            let task = Renewal { source: source.to_owned(), state: state.clone(), renew: Arc::clone(&renew), renewals };
            Arc::new((task, fetch))
        };
        let panics = task.0.renewals.panics.clone();
        let restarted = Arc::clone(&task);
        let panicked = move |delay| {
            restarted.0.renewals.failed.inc();
            restarted.0.fail(&Failed::temporary("the fetch panicked".into()), delay);
        };
        let run = move || {
            let task = Arc::clone(&task);
            async move { task.0.run(&task.1).await }
        };
        Self { state, renew, _renewing: supervise(format!("credential of {source}"), panics, run, panicked) }
    }

    /// The valid credential; waits for a fetch in progress.
    ///
    /// # Errors
    ///
    /// The last fetch failed, and the next one is not due yet.
    pub(crate) async fn credential(&self) -> Result<Credential, CredentialError> {
        let mut state = self.state.subscribe();
        loop {
            preemption_point();
            {
                let state = state.borrow_and_update();
                let now = Instant::now();
                if let Some(current) = state.current.as_ref().filter(|current| current.until > now) {
                    return Ok(current.credential.clone());
                }
                if let Some(failure) = state.failure.as_ref().filter(|failure| failure.again > now) {
                    return Err(failure.error(now));
                }
            }
            preemption_point();
            // The sender lives in `self`.
            let _ = state.changed().await;
        }
    }

    /// Waits for the first successful fetch.
    pub(crate) async fn first(&self) {
        let _ = self.state.subscribe().wait_for(|state| state.current.is_some()).await;
    }

    /// Stops using a refused credential and requests a fetch; returns whether it was in use and old enough.
    pub(crate) fn retire(&self, refused: &Credential) -> bool {
        let retired = self.state.send_if_modified(|state| {
            let youth = (YOUNG * 2u32.saturating_pow(state.retired.min(16))).min(REFUSED_DELAY);
            let Some(current) =
                state.current.take_if(|current| current.credential == *refused && current.since.elapsed() >= youth)
            else {
                return false;
            };
            let was_used = current.since.elapsed() >= 2 * REFUSED_DELAY;
            state.retired = if was_used { 1 } else { state.retired.saturating_add(1) };
            true
        });
        if retired {
            preemption_point();
            warn!("the cloud refused the current credential; fetching another one");
            self.renew.notify_one();
        }
        retired
    }
}

impl Failure {
    fn error(&self, now: Instant) -> CredentialError {
        let cause = self.failed.cause.clone();
        if self.failed.refused {
            CredentialError::Refused(cause)
        } else {
            CredentialError::Unavailable { cause, wait: self.again.saturating_duration_since(now) }
        }
    }
}

impl Failed {
    /// A temporary failure.
    pub(crate) fn temporary(cause: String) -> Self {
        Self { cause, refused: false, wait: None }
    }
}

/// The task that fetches and renews.
#[derive(Debug)]
struct Renewal {
    source: String,
    state: watch::Sender<State>,
    renew: Arc<Notify>,
    renewals: Renewals,
}

impl Renewal {
    /// Fetches and renews credentials for ever.
    async fn run<F>(&self, fetch: &(impl Fn() -> F + Sync))
    where
        F: Future<Output = Result<Fetched, Failed>> + Send,
    {
        let source = &self.source;
        let (mut delay, mut spacing) = (FIRST_DELAY, FIRST_DELAY);
        loop {
            self.renewals.state(CredentialState::Fetching);
            let fetched = tokio::time::timeout(FETCH_TIMEOUT, fetch()).await.unwrap_or_else(|_| {
                Err(Failed::temporary(format!("no response from {source} within {FETCH_TIMEOUT:?}")))
            });
            // The cloud would refuse it.
            let fetched = fetched.and_then(|fetched| match fetched.life {
                Duration::ZERO => Err(Failed::temporary(format!("{source} issued an expired credential"))),
                _ => Ok(fetched),
            });
            match fetched {
                Ok(Fetched { credential, life }) => {
                    let life = life.min(LONGEST_LIFE);
                    info!(%source, ?life, "credential fetched");
                    delay = FIRST_DELAY;
                    let mut next = life.mul_f64(RENEW_AT - 0.05 + 0.1 * fastrand::f64());
                    if life < SHORT_LIFE {
                        next = next.max(spacing);
                        spacing = (spacing * 2).min(SHORT_LIFE);
                    } else {
                        spacing = FIRST_DELAY;
                    }
                    self.serve(credential, life, next).await;
                }
                Err(failed) => {
                    let longest = delay.mul_f64(0.5 + 0.5 * fastrand::f64());
                    let retry_after = failed.wait.unwrap_or_default().min(MAX_RETRY_AFTER);
                    let wait = if failed.refused { REFUSED_DELAY } else { retry_after.max(longest) };
                    warn!(%source, cause = failed.cause, ?wait, "credential fetch failed");
                    self.renewals.failed.inc();
                    delay = (delay * 2).min(LONGEST_DELAY);
                    self.fail(&failed, wait);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Publishes a new credential and waits for the next fetch: until `next` has passed, or the credential is retired.
    async fn serve(&self, credential: Credential, life: Duration, next: Duration) {
        let since = Instant::now();
        let until = since + life;
        self.renewals.fetched.inc();
        let now = std::time::SystemTime::now();
        self.renewals.fetched_at.set(seconds(now));
        self.renewals.expiry.set(seconds(now + life));
        self.renewals.state(CredentialState::Valid);
        self.state.send_modify(|state| {
            state.current = Some(Current { credential, since, until });
            state.failure = None;
        });
        preemption_point();
        let renewal = tokio::time::sleep(next);
        let end = tokio::time::sleep_until(until);
        tokio::pin!(renewal, end);
        let mut ends_before = next > life;
        loop {
            tokio::select! {
                () = &mut renewal => return,
                // Ignores renewals that were requested during a fetch.
                () = self.renew.notified() => if self.state.borrow().current.is_none() { return },
                () = &mut end, if ends_before => {
                    ends_before = false;
                    let cause = format!("credentials of {} expire after only {life:?}", self.source);
                    self.fail(&Failed::temporary(cause), next.saturating_sub(life));
                }
            }
        }
    }

    /// Publishes a failure to callers until the next fetch.
    fn fail(&self, failed: &Failed, wait: Duration) {
        self.renewals.state(if failed.refused { CredentialState::Refused } else { CredentialState::Failed });
        let again = Instant::now() + wait;
        self.state.send_modify(|state| state.failure = Some(Failure { failed: failed.clone(), again }));
    }
}

fn seconds(moment: std::time::SystemTime) -> i64 {
    let since = moment.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[cfg(feature = "model")]
mod model;
#[cfg(test)]
mod tests;
