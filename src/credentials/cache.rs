//! Credentials that end and are fetched anew in time. One task fetches, whatever the load: callers only look at what it
//! has, or wait for it as long as their own deadlines allow.

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

/// No fetch takes longer.
const FETCH: Duration = Duration::from_secs(15);

/// Renewed when about so much of its life is over.
const RENEW_AT: f64 = 0.8;

/// Refused this soon after it was fetched, another of its kind would be refused too. The time doubles with each credential
/// that is refused early, so that calls can't drive fetches.
const YOUNG: Duration = Duration::from_secs(2);

/// Pauses after fetches that failed: the first, the longest, and the one after a refusal, since wrong passwords lock the
/// account they are for.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// No `Retry-After` delays a fetch by more.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// A credential with a shorter life serves as long as it lives; the next fetches are spaced up to this time.
const SHORT_LIFE: Duration = Duration::from_secs(60);

/// No life counts as longer: the credential is fetched again by then.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a source gave.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) credential: Credential,
    /// How long it is good for, from now on.
    pub(crate) life: Duration,
}

/// Why a source gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// For people; it quotes no secret.
    pub(crate) cause: String,
    /// Whether asking again can't help as things are.
    pub(crate) refused: bool,
    /// The pause that the source asks for; of it, no more than [`LONGEST_ASKED`] is kept.
    pub(crate) wait: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    failure: Option<Failure>,
    /// Credentials in a row that were refused early.
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
    /// When the next fetch begins.
    again: Instant,
}

/// Credentials from one source.
#[derive(Debug)]
pub(crate) struct Cache {
    state: watch::Sender<State>,
    renew: Arc<Notify>,
    _renewing: AbortOnDropHandle<()>,
}

impl Cache {
    /// Begins to fetch, and says in the log from where. Needs a runtime, which must outlive the cache.
    pub(crate) fn start<F>(source: &str, fetch: impl Fn() -> F + Send + Sync + 'static, renewals: Renewals) -> Self
    where
        F: Future<Output = Result<Fetched, Failed>> + Send + 'static,
    {
        let state = watch::Sender::new(State::default());
        let renew = Arc::new(Notify::new());
        let task = {
            let task = Keep { source: source.to_owned(), state: state.clone(), renew: Arc::clone(&renew), renewals };
            Arc::new((task, fetch))
        };
        let panics = task.0.renewals.panics.clone();
        let restarted = Arc::clone(&task);
        let panicked = move |delay| {
            restarted.0.renewals.failed.inc();
            restarted.0.fail(&Failed::now("the fetch panicked".into()), delay);
        };
        let run = move || {
            let task = Arc::clone(&task);
            async move { task.0.run(&task.1).await }
        };
        Self { state, renew, _renewing: supervise(format!("credential of {source}"), panics, run, panicked) }
    }

    /// What is good now, or will be when the fetch in flight ends.
    ///
    /// # Errors
    ///
    /// The last fetch failed, and it is not yet time for the next.
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
                    return Err(failure.missing(now));
                }
            }
            preemption_point();
            // The sender lives in `self`.
            let _ = state.changed().await;
        }
    }

    /// Waits for the first that is good.
    pub(crate) async fn first(&self) {
        let _ = self.state.subscribe().wait_for(|state| state.current.is_some()).await;
    }

    /// Takes a refused one out of use, once, and has another fetched; says whether it did.
    pub(crate) fn retire(&self, refused: &Credential) -> bool {
        let retired = self.state.send_if_modified(|state| {
            let youth = (YOUNG * 2u32.saturating_pow(state.retired.min(16))).min(REFUSED_PAUSE);
            let Some(current) =
                state.current.take_if(|current| current.credential == *refused && current.since.elapsed() >= youth)
            else {
                return false;
            };
            let was_used = current.since.elapsed() >= 2 * REFUSED_PAUSE;
            state.retired = if was_used { 1 } else { state.retired.saturating_add(1) };
            true
        });
        if retired {
            preemption_point();
            warn!("the cloud refuses the credential in use; another is fetched");
            self.renew.notify_one();
        }
        retired
    }
}

impl Failure {
    fn missing(&self, now: Instant) -> CredentialError {
        let cause = self.failed.cause.clone();
        if self.failed.refused {
            CredentialError::Refused(cause)
        } else {
            CredentialError::Unavailable { cause, wait: self.again.saturating_duration_since(now) }
        }
    }
}

impl Failed {
    /// A failure that may be over soon.
    pub(crate) fn now(cause: String) -> Self {
        Self { cause, refused: false, wait: None }
    }
}

/// The task that fetches.
#[derive(Debug)]
struct Keep {
    source: String,
    state: watch::Sender<State>,
    renew: Arc<Notify>,
    renewals: Renewals,
}

impl Keep {
    /// Fetches, and fetches again in time, for ever.
    async fn run<F>(&self, fetch: &(impl Fn() -> F + Sync))
    where
        F: Future<Output = Result<Fetched, Failed>> + Send,
    {
        let source = &self.source;
        let (mut delay, mut spacing) = (FIRST_DELAY, FIRST_DELAY);
        loop {
            self.renewals.state(CredentialState::Fetching);
            let fetched = tokio::time::timeout(FETCH, fetch())
                .await
                .unwrap_or_else(|_| Err(Failed::now(format!("{source} does not answer within {FETCH:?}"))));
            // Used, it would be refused.
            let fetched = fetched.and_then(|fresh| match fresh.life {
                Duration::ZERO => Err(Failed::now(format!("{source} gave a credential that has ended already"))),
                _ => Ok(fresh),
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
                    let asked = failed.wait.unwrap_or_default().min(LONGEST_ASKED);
                    let wait = if failed.refused { REFUSED_PAUSE } else { asked.max(longest) };
                    warn!(%source, cause = failed.cause, ?wait, "no credential");
                    self.renewals.failed.inc();
                    delay = (delay * 2).min(LONGEST_DELAY);
                    self.fail(&failed, wait);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Serves a fresh credential until it is time for the next fetch: after `next`, or as soon as it is retired.
    async fn serve(&self, credential: Credential, life: Duration, next: Duration) {
        let since = Instant::now();
        let until = since + life;
        self.renewals.fetched.inc();
        self.renewals.expiry.set(seconds(std::time::SystemTime::now() + life));
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
                // One that came while another fetch was under way has had its answer.
                () = self.renew.notified() => if self.state.borrow().current.is_none() { return },
                () = &mut end, if ends_before => {
                    ends_before = false;
                    let cause = format!("{} gives credentials that last only {life:?}", self.source);
                    self.fail(&Failed::now(cause), next.saturating_sub(life));
                }
            }
        }
    }

    /// Tells callers of a failure, until the next fetch.
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
