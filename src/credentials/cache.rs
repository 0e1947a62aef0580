//! Credentials that end and are fetched anew in time. One task fetches, whatever the load: callers only look at what it
//! has, or wait for it as long as their own deadlines allow.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::{Missing, Proof};
use crate::telemetry::Renewals;

/// No fetch takes longer.
const FETCH: Duration = Duration::from_secs(15);

/// Renewed when about so much of its life is over.
const RENEW_AT: f64 = 0.8;

/// Refused this soon after it was fetched, another of its kind would be refused too.
const YOUNG: Duration = Duration::from_secs(2);

/// Pauses after fetches that failed: the first, the longest, and the one after a refusal, since wrong passwords lock the
/// account they are for.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// What a source gave.
#[derive(Debug, Clone)]
pub(crate) struct Fresh {
    pub(crate) proof: Proof,
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
    /// The pause that the source asks for.
    pub(crate) wait: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Current {
    proof: Proof,
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
    pub(crate) fn start<F>(source: String, fetch: impl Fn() -> F + Send + 'static, renewals: Renewals) -> Self
    where
        F: Future<Output = Result<Fresh, Failed>> + Send + 'static,
    {
        let state = watch::Sender::new(State::default());
        let renew = Arc::new(Notify::new());
        let renewing = tokio::spawn(keep(source, fetch, state.clone(), Arc::clone(&renew), renewals));
        Self { state, renew, _renewing: AbortOnDropHandle::new(renewing) }
    }

    /// What is good now, or will be when the fetch in flight ends.
    ///
    /// # Errors
    ///
    /// The last fetch failed, and it is not yet time for the next.
    pub(crate) async fn proof(&self) -> Result<Proof, Missing> {
        let mut state = self.state.subscribe();
        loop {
            {
                let state = state.borrow_and_update();
                let now = Instant::now();
                if let Some(current) = state.current.as_ref().filter(|current| current.until > now) {
                    return Ok(current.proof.clone());
                }
                if let Some(failure) = state.failure.as_ref().filter(|failure| failure.again > now) {
                    return Err(failure.missing(now));
                }
            }
            // The sender lives in `self`.
            let _ = state.changed().await;
        }
    }

    /// Waits for the first that is good.
    pub(crate) async fn first(&self) {
        let _ = self.state.subscribe().wait_for(|state| state.current.is_some()).await;
    }

    /// Takes a refused one out of use, once, and has another fetched.
    pub(crate) fn retire(&self, refused: &Proof) {
        let retired = self.state.send_if_modified(|state| {
            let is_it = |current: &Current| current.proof == *refused && current.since.elapsed() >= YOUNG;
            let retired = state.current.as_ref().is_some_and(is_it);
            if retired {
                state.current = None;
            }
            retired
        });
        if retired {
            warn!("the cloud refuses the credential in use; another is fetched");
            self.renew.notify_one();
        }
    }
}

impl Failure {
    fn missing(&self, now: Instant) -> Missing {
        let cause = self.failed.cause.clone();
        if self.failed.refused {
            Missing::Refused(cause)
        } else {
            Missing::Unavailable { cause, wait: self.again.saturating_duration_since(now) }
        }
    }
}

/// Fetches, and fetches again in time, for ever.
async fn keep<F>(
    source: String,
    fetch: impl Fn() -> F,
    state: watch::Sender<State>,
    renew: Arc<Notify>,
    renewals: Renewals,
) where
    F: Future<Output = Result<Fresh, Failed>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let fetched = tokio::time::timeout(FETCH, fetch()).await.unwrap_or_else(|_| {
            Err(Failed { cause: format!("{source} does not answer within {FETCH:?}"), refused: false, wait: None })
        });
        let now = Instant::now();
        match fetched {
            Ok(Fresh { proof, life }) => {
                info!(%source, ?life, "credential fetched");
                renewals.fetched.inc();
                renewals.expiry.set(seconds(std::time::SystemTime::now() + life));
                pause = FIRST_PAUSE;
                state.send_replace(State {
                    current: Some(Current { proof, since: now, until: now + life }),
                    failure: None,
                });
                let renewal = tokio::time::sleep(life.mul_f64(RENEW_AT - 0.05 + 0.1 * fastrand::f64()));
                tokio::pin!(renewal);
                loop {
                    tokio::select! {
                        () = &mut renewal => break,
                        // One that came while another fetch was under way has had its answer.
                        () = renew.notified() => if state.borrow().current.is_none() { break },
                    }
                }
            }
            Err(failed) => {
                renewals.failed.inc();
                let longest = pause.mul_f64(0.5 + 0.5 * fastrand::f64());
                let wait = if failed.refused { REFUSED_PAUSE } else { failed.wait.unwrap_or_default().max(longest) };
                warn!(%source, cause = failed.cause, ?wait, "no credential");
                pause = (pause * 2).min(LONGEST_PAUSE);
                state.send_modify(|state| state.failure = Some(Failure { failed, again: now + wait }));
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn seconds(moment: std::time::SystemTime) -> i64 {
    let since = moment.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
