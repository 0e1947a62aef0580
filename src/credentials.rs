//! Credentials for requests to the cloud: the caller's token, or the gateway's own token or key pair, configured or fetched.
//! [`crate::policy`] authorizes callers.

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

use self::signing_key::{KeyRing, Sent, SigningKey, SigningPermit};
pub(crate) use self::{
    file::CredentialFile,
    fuse::Verdict,
    keys::Keys,
    managed::ManagedCredential,
    project::{Project, Settings as ProjectSettings},
    signer::SigningInput,
    source::{IdToken, Login, Source, Workload},
};
use crate::{call::Call, mask::Masker, secret, telemetry::Metrics, upstream};

static X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
static X_PROJECT_ID: HeaderName = HeaderName::from_static("x-project-id");

/// The reason for a missing credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CredentialError {
    /// The caller has to send a token, and sent none.
    Token,
    /// None of the gateway's identities serves this project.
    Identity,
    /// Fetching failed; the next attempt is after `wait`.
    Unavailable { cause: String, wait: Duration },
    /// The identity service rejected the gateway's configuration.
    Refused(String),
    /// The cloud refused consecutive signatures of the key pair, the last with `code`; the next is sent after `wait`.
    Suspended { code: Option<String>, wait: Duration },
}

/// The configured credentials. Files have been read once already.
#[derive(Debug, Clone)]
pub(crate) enum Settings {
    /// Each caller sends a token.
    Passthrough,
    /// One credential of the gateway for every project.
    One(Kind),
    /// A credential of the gateway for each project.
    Identities(Vec<(String, Kind)>),
}

/// The configuration of one credential of the gateway.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A token.
    Token(HeaderValue),
    /// A credential in a watched file.
    File(CredentialFile),
    /// An access key pair.
    Keys(Keys),
    /// A credential fetched from a source and renewed.
    Fetched(Box<Source<upstream::Settings>>),
}

/// The scope of an IAM token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    ProjectId(String),
    /// The default project of a region has the region's name.
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

/// The credential of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A token in a header.
    Token(HeaderValue),
    /// A key pair for a signature.
    Keys(Arc<SigningKey>),
}

/// The right to send one request with a credential. The outcome has to be reported.
#[derive(Debug)]
pub(crate) struct Grant {
    credential: Credential,
    /// Set for signatures.
    permit: Option<SigningPermit>,
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
    /// A credential that signs with these keys.
    pub(crate) fn keys(keys: Keys) -> Self {
        Self::Keys(Arc::new(SigningKey::new(keys)))
    }

    /// Adds the authorization to a request that is otherwise complete. A signature is dated `now`.
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
                // As in the SDK: sent with every request, even if the path has the project.
                if let Some(project) = project.and_then(|id| HeaderValue::from_str(id).ok()) {
                    headers.insert(X_PROJECT_ID.clone(), project);
                }
                signer::sign(keys.keys(), input, headers, now);
            }
        }
    }

    /// A masker for all secrets of an authorized request: the credential, the signature, and the caller's token.
    pub(crate) fn masker<'a>(
        &'a self,
        callers: Option<&'a HeaderValue>,
        authorization: Option<&'a HeaderValue>,
    ) -> Masker<'a> {
        let secrets = match self {
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
        Masker::new(secrets.into_iter().chain([signature, callers.map(HeaderValue::as_bytes)]).flatten())
    }

    /// Whether it signs requests.
    pub(crate) fn is_signature(&self) -> bool {
        matches!(self, Self::Keys(_))
    }
}

/// The source of credentials for all calls.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// Each caller sends a token.
    Passthrough,
    /// One credential of the gateway for every project.
    One(Arc<ManagedCredential>),
    /// A credential of the gateway for each project.
    Identities(HashMap<String, Arc<ManagedCredential>>),
}

impl Credentials {
    /// Starts watching files and fetching credentials. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The HTTP client of a source can't be created.
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

    /// The authorization of a call's next request for this project. Waits for a credential that is being fetched, and for
    /// other requests of a key pair that may sign only one at a time.
    ///
    /// # Errors
    ///
    /// [`CredentialError`].
    pub(crate) async fn grant(&self, call: &Call, project: Option<&str>) -> Result<Grant, CredentialError> {
        match self.managed(project)? {
            None => call.token.clone().map(|token| Credential::Token(token).into()).ok_or(CredentialError::Token),
            Some(managed) => managed.grant(&|| Sent::after(&call.progress)).await,
        }
    }

    /// Checks that a credential is configured for a call, without waiting for it.
    ///
    /// # Errors
    ///
    /// The caller sent no token in passthrough mode, or no identity serves the project.
    pub(crate) fn check_presence(&self, call: &Call, project: Option<&str>) -> Result<(), CredentialError> {
        match self.managed(project)? {
            None if call.token.is_none() => Err(CredentialError::Token),
            None | Some(_) => Ok(()),
        }
    }

    /// The authorization of a request that the gateway sends on its own behalf.
    ///
    /// # Errors
    ///
    /// As for [`grant`](Self::grant).
    async fn gateway_grant(&self) -> Result<Grant, CredentialError> {
        let managed = self.managed(None)?.ok_or(CredentialError::Identity)?;
        managed.grant(&|| Sent::Unknown).await
    }

    /// Stops using a credential that the cloud refused, if it can be fetched again.
    pub(crate) fn retire(&self, refused: &Credential, project: Option<&str>) {
        if let Ok(Some(managed)) = self.managed(project) {
            managed.retire(refused);
        }
    }

    /// Whether a refused credential has been replaced, so that a retry may succeed; waits for a fetch. Always `false` for
    /// signatures, because the cloud locks a key pair after a few failures in a row.
    ///
    /// # Errors
    ///
    /// The refused credential is retired, and fetching another one failed.
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

    /// Waits until the credential of the gateway's own requests is replaced.
    async fn replaced(&self) {
        match self.managed(None) {
            Ok(Some(managed)) => managed.replaced().await,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Whether the gateway has credentials, instead of its callers.
    pub(crate) fn are_ours(&self) -> bool {
        !matches!(self, Self::Passthrough)
    }

    /// Waits until the credentials of all projects are available.
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

/// Parses a token into a sensitive header value.
///
/// # Errors
///
/// The text is empty or has characters that are invalid in a header.
pub(crate) fn parse_token(text: &str) -> Result<HeaderValue, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("holds no token");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds a token with characters that are invalid in a header");
    }
    secret::header(text).map_err(|_| "holds a token with characters that are invalid in a header")
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
