//! What authorizes a request to the cloud: the caller's own token, or what the operator gave the gateway: a token, keys,
//! or where to fetch them. It decides nothing about who may call.

mod answer;
mod cache;
mod file;
mod fuse;
mod keys;
mod managed;
mod project;
mod signer;
mod signing_key;
mod source;
mod supervisor;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use self::signing_key::{KeyRing, Permit, Sent, SigningKey};
pub(crate) use self::{
    file::CredentialFile,
    fuse::Verdict,
    keys::Keys,
    managed::ManagedCredential,
    project::{Project, Settings as ProjectSettings},
    signer::SigningInput,
    source::{IdToken, Login, Source, Workload},
};
use crate::{call::Call, mask::Masker, secret, telemetry::Metrics, upstream as exchange};

static X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
static X_PROJECT_ID: HeaderName = HeaderName::from_static("x-project-id");

/// Why a call has no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CredentialError {
    /// The caller must bring a token, and brought none.
    Token,
    /// None of the gateway's identities serves this project.
    Identity,
    /// None can be fetched now; the next attempt comes after this.
    Unavailable { cause: String, wait: Duration },
    /// None is given to the gateway as it is configured.
    Refused(String),
    /// The cloud refused signatures of the key pair in a row, the last with this error code; the next is sent after this.
    Suspended { code: Option<String>, wait: Duration },
}

/// Which credentials to use. Files have been read once already.
#[derive(Debug, Clone)]
pub(crate) enum Settings {
    /// Each caller brings a token.
    Passthrough,
    /// The gateway's own, for every project.
    One(Kind),
    /// The gateway's own, by project.
    Identities(Vec<(String, Kind)>),
}

/// A kind of credential that the gateway holds.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// One token.
    Token(HeaderValue),
    /// Any other kind, made of a file that may change.
    File(CredentialFile),
    /// An access key pair.
    Keys(Keys),
    /// What is fetched, and fetched again in time.
    Fetched(Box<Source<exchange::Settings>>),
}

/// The project, or the account, that IAM makes a token for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    ProjectId(String),
    /// A region's own project has the region's name.
    ProjectName(String),
}

impl Scope {
    fn json(&self) -> Value {
        match self {
            Self::ProjectId(id) => json!({"project": {"id": id}}),
            Self::ProjectName(name) => json!({"project": {"name": name}}),
        }
    }
}

/// What one request is authorized by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A token in a header.
    Token(HeaderValue),
    /// A signature.
    Keys(Arc<SigningKey>),
}

/// The right to send one request that is authorized by this. The outcome has to be reported.
#[derive(Debug)]
pub(crate) struct Grant {
    credential: Credential,
    /// Only signatures need one.
    permit: Option<Permit>,
}

impl Grant {
    pub(crate) fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Reports the outcome of the request; `code` is the cloud's error code.
    pub(crate) fn settle(self, verdict: Verdict, code: Option<&str>) -> Credential {
        if let Some(permit) = self.permit {
            permit.settle(verdict, code);
        }
        self.credential
    }
}

impl From<Credential> for Grant {
    fn from(credential: Credential) -> Self {
        Self { credential, permit: None }
    }
}

impl Credential {
    /// A signature with these keys.
    pub(crate) fn keys(keys: Keys) -> Self {
        Self::Keys(Arc::new(SigningKey::new(keys)))
    }

    /// Puts it on a request of which everything else is there. A signature has the date of this moment.
    pub(crate) fn authorize(
        &self,
        headers: &mut HeaderMap,
        input: SigningInput<'_>,
        project: Option<&str>,
        now: SystemTime,
    ) {
        match self {
            Self::Token(token) => drop(headers.insert(X_AUTH_TOKEN.clone(), token.clone())),
            Self::Keys(keys) => {
                // The SDK sends it with every request, also when the path names the project.
                if let Some(project) = project.and_then(|id| HeaderValue::from_str(id).ok()) {
                    headers.insert(X_PROJECT_ID.clone(), project);
                }
                signer::sign(keys.keys(), input, headers, now);
            }
        }
    }

    /// Masks every secret of a request that it has authorized: its own, the signature, and the caller's token.
    pub(crate) fn masker<'a>(
        &'a self,
        callers: Option<&'a HeaderValue>,
        authorization: Option<&'a HeaderValue>,
    ) -> Masker<'a> {
        let own = match self {
            Self::Token(token) => [Some(token.as_bytes()), None, None],
            Self::Keys(keys) => {
                let keys = keys.keys();
                [
                    Some(keys.access_key_id.as_bytes()),
                    Some(keys.secret.expose().as_bytes()),
                    keys.security_token.as_ref().map(HeaderValue::as_bytes),
                ]
            }
        };
        let signature = authorization.and_then(signer::signature);
        Masker::new(own.into_iter().chain([signature, callers.map(HeaderValue::as_bytes)]).flatten())
    }

    /// Whether it is a signature.
    pub(crate) fn is_signature(&self) -> bool {
        matches!(self, Self::Keys(_))
    }
}

/// Where credentials come from.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// Each caller brings a token.
    Passthrough,
    /// The gateway's own, for every project.
    One(Arc<ManagedCredential>),
    /// The gateway's own, by project.
    Identities(HashMap<String, Arc<ManagedCredential>>),
}

impl Credentials {
    /// Begins to follow and to fetch what may change. Needs a runtime.
    ///
    /// # Errors
    ///
    /// A client for a source can't be set up.
    pub(crate) fn start(settings: Settings, metrics: &Arc<Metrics>) -> Result<Self, String> {
        let ring = Arc::new(KeyRing::default());
        Ok(match settings {
            Settings::Passthrough => Self::Passthrough,
            Settings::One(kind) => Self::One(ManagedCredential::start(kind, "default", &ring, metrics)?),
            Settings::Identities(kinds) => {
                let start = |(project, kind): (String, Kind)| {
                    let managed = ManagedCredential::start(kind, &project, &ring, metrics)?;
                    Ok((project, managed))
                };
                Self::Identities(kinds.into_iter().map(start).collect::<Result<_, String>>()?)
            }
        })
    }

    /// The authorization of a call's next request for this project. Waits while the key pair may sign one request at a
    /// time, or a credential is being fetched.
    ///
    /// # Errors
    ///
    /// There is nothing, for one of the reasons of [`CredentialError`].
    pub(crate) async fn grant(&self, call: &Call, project: Option<&str>) -> Result<Grant, CredentialError> {
        match self.managed(project)? {
            None => call.token.clone().map(|token| Credential::Token(token).into()).ok_or(CredentialError::Token),
            Some(managed) => managed.grant(&|| Sent::after(&call.progress)).await,
        }
    }

    /// Checks that there can be a credential for a call, without waiting for one.
    ///
    /// # Errors
    ///
    /// The caller must bring a token, or no identity serves the project.
    pub(crate) fn check_presence(&self, call: &Call, project: Option<&str>) -> Result<(), CredentialError> {
        match self.managed(project)? {
            None if call.token.is_none() => Err(CredentialError::Token),
            None | Some(_) => Ok(()),
        }
    }

    /// The authorization of a request of the gateway's own.
    ///
    /// # Errors
    ///
    /// As of [`grant`](Self::grant).
    async fn own_grant(&self) -> Result<Grant, CredentialError> {
        let managed = self.managed(None)?.ok_or(CredentialError::Identity)?;
        managed.grant(&|| Sent::Unknown).await
    }

    /// Takes a credential that the cloud refused out of use, if it can be fetched anew.
    pub(crate) fn retire(&self, refused: &Credential, project: Option<&str>) {
        if let Ok(Some(managed)) = self.managed(project) {
            managed.retire(refused);
        }
    }

    /// Whether there is another in place of one that the cloud refused; waits for a fetch. A signature never earns a repeat:
    /// after a few that fail in a row the cloud locks the key pair.
    ///
    /// # Errors
    ///
    /// The refused one has been retired, and another can't be fetched now.
    pub(crate) async fn is_replaced(
        &self,
        refused: &Credential,
        project: Option<&str>,
    ) -> Result<bool, CredentialError> {
        match self.managed(project) {
            Ok(Some(managed)) => managed.is_replaced(refused).await,
            Ok(None) | Err(_) => Ok(false),
        }
    }

    /// Waits until the credential of requests of the gateway's own is another one.
    async fn replaced(&self) {
        match self.managed(None) {
            Ok(Some(managed)) => managed.replaced().await,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Whether the gateway holds the credentials, rather than the caller.
    pub(crate) fn are_ours(&self) -> bool {
        !matches!(self, Self::Passthrough)
    }

    /// Waits until there is one for every project.
    pub(crate) async fn ready(&self) {
        match self {
            Self::Passthrough => {}
            Self::One(managed) => managed.ready().await,
            Self::Identities(identities) => {
                for managed in identities.values() {
                    managed.ready().await;
                }
            }
        }
    }

    fn managed(&self, project: Option<&str>) -> Result<Option<&Arc<ManagedCredential>>, CredentialError> {
        match self {
            Self::Passthrough => Ok(None),
            Self::One(managed) => Ok(Some(managed)),
            Self::Identities(identities) => {
                project.and_then(|project| identities.get(project)).map(Some).ok_or(CredentialError::Identity)
            }
        }
    }
}

/// Reads a token, marked so that it never shows in a log.
///
/// # Errors
///
/// It is empty, or has characters that a header can't carry.
pub(crate) fn parse_token(text: &str) -> Result<HeaderValue, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("holds no token");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds a token with characters that a header can't carry");
    }
    secret::header(text).map_err(|_| "holds a token with characters that a header can't carry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_shows_in_debug_output() {
        let credentials = Settings::One(Kind::Token(parse_token(" canary\n").unwrap()));
        assert!(!format!("{credentials:?}").contains("canary"));
    }

    #[test]
    fn a_token_must_fit_a_header() {
        for text in ["", " \n", "two words", "line\nbreak", "é"] {
            assert!(parse_token(text).is_err(), "{text:?}");
        }
    }
}
