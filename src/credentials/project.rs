//! The default project of calls without one: configured by id, or looked up once in IAM by name.
//!
//! A background task asks IAM when a call first needs the project. Callers wait for it until their deadlines.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::{
    Credential, CredentialError, Credentials, SigningInput, Verdict,
    answer::{is_refusal, retry_after},
    source::reason,
    supervisor::supervise,
};
use crate::{
    mask::Masker,
    telemetry::Metrics,
    upstream::{self, Response, Upstream},
};

/// Timeout for a lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// The first and the longest delay after a failed lookup. The longest also bounds `Retry-After`.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The default project.
#[derive(Debug)]
pub(crate) enum Project {
    /// Every call has to name a project.
    None,
    /// Configured by id.
    Given(Arc<str>),
    /// Looked up in IAM.
    Named(Lookup),
}

/// A project that is looked up by name.
#[derive(Debug)]
pub(crate) struct Lookup {
    state: watch::Sender<State>,
    _looking_up: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    found: Option<Arc<str>>,
    failure: Option<Failure>,
    /// Whether a call waits for the next lookup.
    wanted: bool,
}

/// The failure of the last lookup.
#[derive(Debug)]
struct Failure {
    error: CredentialError,
    since: Instant,
    /// The earliest start of the next lookup.
    until: Instant,
}

/// The configured default project.
#[derive(Debug, Clone)]
pub(crate) enum Settings {
    None,
    Given(String),
    Named(String, Box<upstream::Settings>),
}

impl Project {
    /// Starts the lookup task, which sends no request before the first call. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The HTTP client for IAM can't be created.
    pub(crate) fn start(
        settings: &Settings,
        credentials: &Arc<Credentials>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        Ok(match settings {
            Settings::None => Self::None,
            Settings::Given(id) => Self::Given(id.as_str().into()),
            Settings::Named(name, iam) => {
                let iam = Upstream::new(iam, Arc::clone(metrics))?;
                let search = Search { name: name.clone(), iam, credentials: Arc::clone(credentials) };
                Self::Named(Lookup::start(search, metrics))
            }
        })
    }

    /// Whether calls may omit the project.
    pub(crate) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The id, if known already.
    pub(crate) fn known(&self) -> Option<Arc<str>> {
        match self {
            Self::None => None,
            Self::Given(id) => Some(Arc::clone(id)),
            Self::Named(lookup) => lookup.state.borrow().found.clone(),
        }
    }

    /// The id; waits for a lookup.
    ///
    /// # Errors
    ///
    /// IAM can't be reached, or has no project or several projects of this name.
    pub(crate) async fn id(&self) -> Result<Option<Arc<str>>, CredentialError> {
        match self {
            Self::None => Ok(None),
            Self::Given(id) => Ok(Some(Arc::clone(id))),
            Self::Named(lookup) => lookup.id().await.map(Some),
        }
    }
}

impl Lookup {
    fn start(search: Search, metrics: &Metrics) -> Self {
        let state = watch::Sender::new(State::default());
        let (search, shared) = (Arc::new(search), state.clone());
        let run = move || {
            let (search, state) = (Arc::clone(&search), shared.clone());
            async move { search.run(&state).await }
        };
        let failed = state.clone();
        let panicked = move |delay| {
            fail(
                &failed,
                CredentialError::Unavailable { cause: "the project lookup panicked".into(), wait: delay },
                delay,
            );
        };
        let looking_up = supervise("lookup of the default project".into(), metrics.task_panics.clone(), run, panicked);
        Self { state, _looking_up: looking_up }
    }

    async fn id(&self) -> Result<Arc<str>, CredentialError> {
        let mut state = self.state.subscribe();
        loop {
            {
                let state = state.borrow_and_update();
                if let Some(id) = &state.found {
                    return Ok(Arc::clone(id));
                }
                let now = Instant::now();
                if let Some(failure) = state.failure.as_ref().filter(|failure| failure.until > now) {
                    return Err(failure.error(now));
                }
            }
            self.state.send_if_modified(|state| !std::mem::replace(&mut state.wanted, true));
            // The sender lives in `self`.
            let _ = state.changed().await;
        }
    }
}

impl Failure {
    fn error(&self, now: Instant) -> CredentialError {
        match self.error.clone() {
            CredentialError::Unavailable { cause, .. } => {
                CredentialError::Unavailable { cause, wait: self.until - now }
            }
            // The key pair's fuse has a separate delay.
            CredentialError::Suspended { code, wait } => {
                CredentialError::Suspended { code, wait: wait.saturating_sub(now - self.since).max(self.until - now) }
            }
            error @ (CredentialError::Token | CredentialError::Identity | CredentialError::Refused(_)) => error,
        }
    }
}

fn fail(state: &watch::Sender<State>, error: CredentialError, delay: Duration) {
    let since = Instant::now();
    let failure = Failure { error, since, until: since + delay };
    state.send_modify(|state| *state = State { found: None, failure: Some(failure), wanted: false });
}

/// The task that looks up the project.
#[derive(Debug)]
struct Search {
    name: String,
    iam: Upstream,
    credentials: Arc<Credentials>,
}

/// A failed lookup.
#[derive(Debug)]
struct Failed {
    error: CredentialError,
    /// The delay requested by IAM.
    wait: Option<Duration>,
    /// The credential, if IAM refused it.
    refused: Option<Credential>,
}

impl From<CredentialError> for Failed {
    fn from(error: CredentialError) -> Self {
        Self { error, wait: None, refused: None }
    }
}

impl Search {
    /// Looks up the project on demand of calls, until it is found.
    async fn run(&self, state: &watch::Sender<State>) {
        let mut wanted = state.subscribe();
        let mut delay = FIRST_DELAY;
        loop {
            // The sender lives in the caller.
            let _ = wanted.wait_for(|state| state.wanted).await;
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, self.look_up()).await.unwrap_or_else(|_| {
                Err(unavailable(format!("no response from IAM to the project lookup within {LOOKUP_TIMEOUT:?}")).into())
            });
            let Failed { error, wait, .. } = match found {
                Ok(id) => {
                    info!(name = self.name, id = &*id, "default project found");
                    state.send_replace(State { found: Some(id), failure: None, wanted: false });
                    return;
                }
                Err(failed) => failed,
            };
            let retry_after = match &error {
                CredentialError::Unavailable { wait: until_fetched, .. } => wait.unwrap_or(*until_fetched),
                _ => wait.unwrap_or_default(),
            };
            let wait = delay.mul_f64(0.5 + 0.5 * fastrand::f64()).max(retry_after.min(LONGEST_DELAY));
            delay = (delay * 2).min(LONGEST_DELAY);
            warn!(name = self.name, ?error, ?wait, "default project not found");
            fail(state, error, wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The new credential may have the permission.
                () = self.credentials.replaced() => {
                    delay = FIRST_DELAY;
                    state.send_modify(|state| state.failure = None);
                }
            }
        }
    }

    /// Sends the request, and once more with another token if IAM refused the first.
    async fn look_up(&self) -> Result<Arc<str>, Failed> {
        match self.ask().await {
            Err(Failed { refused: Some(credential), error, wait }) => {
                if self.credentials.is_replaced(&credential, None).await? {
                    self.ask().await
                } else {
                    Err(Failed { error, wait, refused: None })
                }
            }
            other => other,
        }
    }

    async fn ask(&self) -> Result<Arc<str>, Failed> {
        const PATH: &str = "/v3/projects";
        let grant = self.credentials.gateway_grant().await?;
        let query = format!("name={}", utf8_percent_encode(&self.name, NON_ALPHANUMERIC));
        let mut headers = HeaderMap::new();
        let path = self.iam.wire_path(PATH);
        let input =
            SigningInput { verb: "GET", authority: self.iam.authority(), path: &path, query: &query, body: b"" };
        grant.credential().authorize(&mut headers, input, None, SystemTime::now());
        let signed = headers.get(header::AUTHORIZATION).cloned();
        let masker = grant.credential().masker(None, signed.as_ref());
        let answer = match self.iam.fetch(Method::GET, PATH, &query, headers, None, &masker).await {
            Ok(answer) => answer,
            Err(cause) => {
                grant.settle(Verdict::Interrupted, None);
                return Err(unavailable(format!("IAM can't be reached: {cause}")).into());
            }
        };
        let is_refused = answer.status == StatusCode::UNAUTHORIZED;
        if is_refused {
            // Before `settle` wakes requests that wait for the same pair.
            self.credentials.retire(grant.credential(), None);
        }
        let found = self.projects(&answer, &masker);
        let verdict = match (&found, is_refused) {
            (_, true) => Verdict::Refused,
            (Ok(_), false) => Verdict::Accepted,
            (Err(_), false) => Verdict::Unproven,
        };
        let credential = grant.settle(verdict, None);
        let projects = found.map_err(|error| {
            let wait = retry_after(&answer.headers);
            Failed { error, wait, refused: is_refused.then_some(credential) }
        })?;
        let name = &self.name;
        match projects.as_slice() {
            [one] => match one.get("id").and_then(Value::as_str) {
                Some(id) => Ok(id.into()),
                None => Err(unavailable("IAM returned a project without id".into()).into()),
            },
            [] => Err(CredentialError::Refused(format!("IAM has no project named {name}: set project-id")).into()),
            several => {
                let number = several.len();
                Err(CredentialError::Refused(format!("IAM has {number} projects named {name}: set project-id")).into())
            }
        }
    }

    /// The projects in a response.
    fn projects(&self, answer: &Response, masker: &Masker<'_>) -> Result<Vec<Value>, CredentialError> {
        let status = answer.status;
        if !status.is_success() {
            let cause =
                format!("IAM answered {} to the project lookup{}", status.as_u16(), reason(&answer.body, masker));
            return Err(if is_refusal(answer) { CredentialError::Refused(cause) } else { unavailable(cause) });
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let projects = body.get("projects").and_then(Value::as_array).cloned();
        // Ids are logged and used in paths.
        let mut ids = projects.iter().flatten().filter_map(|project| project.get("id")?.as_str());
        if ids.any(|id| masker.mask(id) != id) {
            return Err(unavailable("IAM returned a project id that contains a secret".into()));
        }
        projects.ok_or_else(|| unavailable(format!("IAM returned no list of projects for the name {}", self.name)))
    }
}

fn unavailable(cause: String) -> CredentialError {
    CredentialError::Unavailable { cause, wait: Duration::ZERO }
}
