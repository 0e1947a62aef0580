//! What authorizes a request to the cloud: the caller's own token, or what the operator gave the gateway: a token, keys,
//! or where to fetch them. It decides nothing about who may call.

mod cache;
mod keys;
mod project;
mod signer;
mod source;
mod token_file;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use self::{cache::Cache, token_file::TokenFile};
pub(crate) use self::{
    keys::Keys,
    project::{Project, Settings as ProjectSettings},
    signer::Wire,
    source::{IdToken, Login, Source, Workload},
    token_file::read as read_token,
};
use crate::{call::Call, http as exchange, mask::Masker, secret, telemetry::Metrics};

static X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
static X_PROJECT_ID: HeaderName = HeaderName::from_static("x-project-id");

/// Why a call has no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The caller must bring a token, and brought none.
    Token,
    /// None of the gateway's identities serves this project.
    Identity,
    /// None can be fetched now; the next attempt comes after this.
    Unavailable { cause: String, wait: Duration },
    /// None is given to the gateway as it is configured.
    Refused(String),
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
    /// One token, as it was in a file that may change.
    TokenFile(PathBuf, HeaderValue),
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
pub(crate) enum Proof {
    /// A token in a header.
    Token(HeaderValue),
    /// A signature.
    Keys(Arc<Keys>),
}

impl Proof {
    /// Puts it on a request of which everything else is there. A signature has the date of this moment.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap, wire: Wire<'_>, project: Option<&str>, now: SystemTime) {
        match self {
            Self::Token(token) => drop(headers.insert(X_AUTH_TOKEN.clone(), token.clone())),
            Self::Keys(keys) => {
                // The SDK sends it with every request, also when the path names the project.
                if let Some(project) = project.and_then(|id| HeaderValue::from_str(id).ok()) {
                    headers.insert(X_PROJECT_ID.clone(), project);
                }
                signer::sign(keys, wire, headers, now);
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
            Self::Keys(keys) => [
                Some(keys.access_key_id.as_bytes()),
                Some(keys.secret.expose().as_bytes()),
                keys.security_token.as_ref().map(HeaderValue::as_bytes),
            ],
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
    One(Held),
    /// The gateway's own, by project.
    Identities(HashMap<String, Held>),
}

/// A credential that the gateway holds.
#[derive(Debug)]
pub(crate) enum Held {
    /// One that stays as it is.
    Fixed(Proof),
    /// One token, kept in a file that may change.
    TokenFile(TokenFile),
    /// One that ends and is fetched anew.
    Fetched(Cache),
}

impl Credentials {
    /// Begins to follow and to fetch what may change. Needs a runtime.
    ///
    /// # Errors
    ///
    /// A client for a source can't be set up.
    pub(crate) fn start(settings: Settings, metrics: &Arc<Metrics>) -> Result<Self, String> {
        Ok(match settings {
            Settings::Passthrough => Self::Passthrough,
            Settings::One(kind) => Self::One(Held::start(kind, "default", metrics)?),
            Settings::Identities(kinds) => {
                let start = |(project, kind): (String, Kind)| {
                    let held = Held::start(kind, &project, metrics)?;
                    Ok((project, held))
                };
                Self::Identities(kinds.into_iter().map(start).collect::<Result<_, String>>()?)
            }
        })
    }

    /// What authorizes a call for this project.
    ///
    /// # Errors
    ///
    /// There is nothing, for one of the reasons of [`Missing`].
    pub(crate) async fn proof(&self, call: &Call, project: Option<&str>) -> Result<Proof, Missing> {
        match self.held(project)? {
            None => call.token.clone().map(Proof::Token).ok_or(Missing::Token),
            Some(held) => held.proof().await,
        }
    }

    /// Another in place of one that the cloud refused, if there is one by now. A signature never earns a repeat: after a
    /// few that fail in a row the cloud locks the key pair.
    pub(crate) async fn replacement(&self, refused: &Proof, project: Option<&str>) -> Option<Proof> {
        match self.held(project) {
            Ok(Some(held)) => held.replacement(refused).await,
            Ok(None) | Err(_) => None,
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
            Self::One(held) => held.ready().await,
            Self::Identities(identities) => {
                for held in identities.values() {
                    held.ready().await;
                }
            }
        }
    }

    fn held(&self, project: Option<&str>) -> Result<Option<&Held>, Missing> {
        match self {
            Self::Passthrough => Ok(None),
            Self::One(held) => Ok(Some(held)),
            Self::Identities(identities) => {
                project.and_then(|project| identities.get(project)).map(Some).ok_or(Missing::Identity)
            }
        }
    }
}

impl Held {
    fn start(kind: Kind, name: &str, metrics: &Arc<Metrics>) -> Result<Self, String> {
        Ok(match kind {
            Kind::Token(token) => Self::Fixed(Proof::Token(token)),
            Kind::Keys(keys) => Self::Fixed(Proof::Keys(Arc::new(keys))),
            Kind::TokenFile(path, token) => Self::TokenFile(TokenFile::follow(path, token)),
            Kind::Fetched(source) => {
                let source = Arc::new(source.connect(metrics)?);
                let name_of_source = source.to_string();
                let fetch = move || {
                    let source = Arc::clone(&source);
                    async move { source.fetch().await }
                };
                Self::Fetched(Cache::start(name_of_source, fetch, metrics.credential(name)))
            }
        })
    }

    async fn proof(&self) -> Result<Proof, Missing> {
        match self {
            Self::Fixed(proof) => Ok(proof.clone()),
            Self::TokenFile(file) => Ok(Proof::Token(file.current())),
            Self::Fetched(cache) => cache.proof().await,
        }
    }

    async fn replacement(&self, refused: &Proof) -> Option<Proof> {
        match (self, refused) {
            (Self::TokenFile(file), Proof::Token(token)) => file.newer_than(token).await.map(Proof::Token),
            (Self::Fetched(cache), _) => {
                cache.retire(refused);
                if refused.is_signature() {
                    return None;
                }
                cache.proof().await.ok().filter(|proof| proof != refused)
            }
            _ => None,
        }
    }

    async fn ready(&self) {
        if let Self::Fetched(cache) = self {
            cache.first().await;
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
