//! The project for calls that name none: given, or found in IAM by its name, once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::{sync::OnceCell, time::Instant};
use tracing::info;

use super::{Credentials, Missing, Wire, source::reason};
use crate::{
    call::Call,
    http::{self as exchange, Upstream},
    telemetry::Metrics,
};

/// How long a lookup that failed is not tried again, whoever calls.
const PAUSE: Duration = Duration::from_secs(5);

/// The default project.
#[derive(Debug)]
pub(crate) enum Project {
    /// Every call must name its own.
    None,
    /// It is known.
    Given(Arc<str>),
    /// IAM knows it.
    Named(Box<Lookup>),
}

/// A project's name, and what it was found to be.
#[derive(Debug)]
pub(crate) struct Lookup {
    name: String,
    iam: Upstream,
    found: OnceCell<Arc<str>>,
    failed: Mutex<Option<(Instant, Missing)>>,
}

/// The default project as it is configured.
#[derive(Debug, Clone)]
pub(crate) enum Settings {
    None,
    Given(String),
    Named(String, Box<exchange::Settings>),
}

impl Project {
    /// Asks nobody yet.
    ///
    /// # Errors
    ///
    /// The client for IAM can't be set up.
    pub(crate) fn new(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Self, String> {
        Ok(match settings {
            Settings::None => Self::None,
            Settings::Given(id) => Self::Given(id.as_str().into()),
            Settings::Named(name, iam) => Self::Named(Box::new(Lookup {
                name: name.clone(),
                iam: Upstream::new(iam, Arc::clone(metrics))?,
                found: OnceCell::new(),
                failed: Mutex::default(),
            })),
        })
    }

    /// Whether calls may leave it out.
    pub(crate) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Its id.
    ///
    /// # Errors
    ///
    /// IAM can't be asked, or knows no such project, or several.
    pub(crate) async fn id(&self, credentials: &Credentials, call: &Call) -> Result<Option<Arc<str>>, Missing> {
        match self {
            Self::None => Ok(None),
            Self::Given(id) => Ok(Some(Arc::clone(id))),
            Self::Named(lookup) => lookup.id(credentials, call).await.map(Some),
        }
    }
}

impl Lookup {
    async fn id(&self, credentials: &Credentials, call: &Call) -> Result<Arc<str>, Missing> {
        let found = self.found.get_or_try_init(async || {
            if let Some((when, missing)) = &*self.failed.lock().unwrap_or_else(PoisonError::into_inner)
                && when.elapsed() < PAUSE
            {
                return Err(missing.clone());
            }
            let found = self.ask(credentials, call).await;
            match &found {
                Ok(id) => info!(name = self.name, id = &**id, "default project found"),
                Err(missing) => {
                    let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    *failed = Some((Instant::now(), missing.clone()));
                }
            }
            found
        });
        found.await.cloned()
    }

    async fn ask(&self, credentials: &Credentials, call: &Call) -> Result<Arc<str>, Missing> {
        const PATH: &str = "/v3/projects";
        let proof = credentials.proof(call, None).await?;
        let query = format!("name={}", utf8_percent_encode(&self.name, NON_ALPHANUMERIC));
        let mut headers = HeaderMap::new();
        let path = self.iam.wire_path(PATH);
        let wire = Wire { verb: "GET", authority: self.iam.authority(), path: &path, query: &query, body: b"" };
        proof.authorize(&mut headers, wire, None, SystemTime::now());
        let signed = headers.get(header::AUTHORIZATION).cloned();
        let masker = proof.masker(call.token.as_ref(), signed.as_ref());
        let answer = self.iam.fetch(Method::GET, PATH, &query, headers, None, &masker).await;
        let answer = answer.map_err(|cause| unavailable(format!("IAM can't be reached: {cause}")))?;
        let status = answer.status;
        if !status.is_success() {
            let cause =
                format!("IAM answered {} to a look for the project{}", status.as_u16(), reason(&answer.body, &masker));
            let is_final = status.is_client_error() && status.as_u16() != 429;
            return Err(if is_final { Missing::Refused(cause) } else { unavailable(cause) });
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let projects = body.get("projects").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let name = &self.name;
        match projects {
            [one] => match one.get("id").and_then(Value::as_str) {
                // It goes to the log, and into paths.
                Some(id) if masker.mask(id) != id => {
                    Err(unavailable("IAM answered with a secret for a project's id".into()))
                }
                Some(id) => Ok(id.into()),
                None => Err(unavailable("IAM answered with a project without id".into())),
            },
            [] => Err(Missing::Refused(format!("IAM knows no project {name}: set project-id"))),
            several => {
                let number = several.len();
                Err(Missing::Refused(format!("IAM knows {number} projects {name}: set project-id")))
            }
        }
    }
}

fn unavailable(cause: String) -> Missing {
    Missing::Unavailable { cause, wait: PAUSE }
}
