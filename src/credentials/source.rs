//! Sources of credentials that expire: IAM tokens by password, and the services that issue temporary keys to workloads.
//!
//! Requests and responses follow the vendor's IAM documents and SDK.

mod body;

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use self::body::{Body, ResponseJson};
use super::{
    Credential, Scope,
    answer::{is_refusal, retry_after},
    cache::{Failed, Fetched},
    keys::Keys,
    parse_token,
};
use crate::{
    mask::Masker,
    secret::{self, Secret},
    telemetry::Metrics,
    upstream::{self, Response, Upstream},
};

/// The maximum length of a reason in an error.
const MAX_REASON: usize = 300;

/// The lifetime of keys for a federated identity in seconds, as requested by the SDK.
const FEDERATED_LIFE: u64 = 6 * 60 * 60;

/// The lifetime of the metadata service's token in seconds, as requested by the SDK.
const METADATA_TOKEN_LIFE: &str = "21600";

/// A user of IAM.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret,
    /// The user's account; IAM calls it a domain.
    pub(crate) account: String,
    pub(crate) scope: Scope,
}

/// The parameters of STS for a workload with an OIDC token.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) provider_urn: String,
    pub(crate) agency_urn: String,
    pub(crate) session_name: String,
    pub(crate) duration: Duration,
    /// Read for each fetch, because the platform rotates it.
    pub(crate) id_token: IdToken,
}

/// An OIDC token, or the path of its file.
#[derive(Debug, Clone)]
pub(crate) enum IdToken {
    Given(Secret),
    File(PathBuf),
}

/// A source, with the settings of its HTTP client or with the client.
#[derive(Debug, Clone)]
pub(crate) enum Source<At = Upstream> {
    /// IAM, by a user's password.
    Password(At, Login),
    /// The metadata service of a virtual machine.
    Metadata(At),
    /// The credentials endpoint of a container.
    Container { at: At, query: String, token_file: PathBuf },
    /// STS, by an OIDC token.
    Oidc(At, Workload),
    /// IAM, by an identity provider's token.
    Federation { at: At, provider: String, id_token: IdToken },
    /// The first source that succeeds.
    First(Vec<Source<At>>),
}

impl Source<upstream::Settings> {
    /// Creates the HTTP clients, without connecting yet.
    ///
    /// # Errors
    ///
    /// A client can't be created.
    pub(crate) fn connect(self, metrics: &Arc<Metrics>) -> Result<Source, String> {
        let client = |at: &upstream::Settings| Upstream::new(at, Arc::clone(metrics));
        Ok(match self {
            Self::Password(at, login) => Source::Password(client(&at)?, login),
            Self::Metadata(at) => Source::Metadata(client(&at)?),
            Self::Container { at, query, token_file } => Source::Container { at: client(&at)?, query, token_file },
            Self::Oidc(at, workload) => Source::Oidc(client(&at)?, workload),
            Self::Federation { at, provider, id_token } => Source::Federation { at: client(&at)?, provider, id_token },
            Self::First(sources) => {
                Source::First(sources.into_iter().map(|source| source.connect(metrics)).collect::<Result<_, _>>()?)
            }
        })
    }
}

impl<At> fmt::Display for Source<At> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(..) | Self::Federation { .. } => "IAM",
            Self::Metadata(_) => "the metadata service",
            Self::Container { .. } => "the container's credentials service",
            Self::Oidc(..) => "STS",
            Self::First(_) => "the chain of credentials services",
        })
    }
}

impl Source {
    /// Fetches a credential.
    pub(crate) async fn fetch(&self) -> Result<Fetched, Failed> {
        match self {
            Self::Password(iam, login) => {
                let body = Body::password(login);
                let answer = ask(self, iam, Method::POST, ("/v3/auth/tokens", ""), json_headers(), Some(body)).await?;
                self.iam_token(&answer)
            }
            Self::Metadata(service) => self.metadata(service).await,
            Self::Container { at, query, token_file } => {
                let mut headers = json_headers();
                headers.insert(header::AUTHORIZATION, sensitive(read(token_file).await?.expose())?);
                let body = Body::plain(&json!({}));
                let answer = ask(self, at, Method::POST, ("", query), headers, Some(body)).await?;
                self.temporary_keys(&answer)
            }
            Self::Oidc(sts, workload) => {
                let token = workload.id_token.read().await?;
                let body = Body::workload(workload, &token);
                let target = ("/v5/agencies/assume-with-oidc", "");
                let answer = ask(self, sts, Method::POST, target, json_headers(), Some(body)).await?;
                self.temporary_keys(&answer)
            }
            Self::Federation { at: iam, provider, id_token } => {
                let token = id_token.read().await?;
                let mut headers = json_headers();
                headers.insert(HeaderName::from_static("x-idp-id"), sensitive(provider)?);
                let body = Body::federation(&token);
                let target = ("/v3.0/OS-AUTH/id-token/tokens", "");
                let answer = ask(self, iam, Method::POST, target, headers, Some(body)).await?;
                // A token without a project is only good for requesting keys.
                let mut headers = json_headers();
                headers.insert(HeaderName::from_static("x-auth-token"), self.subject_token(&answer)?);
                let identity = json!({"methods": ["token"], "token": {"duration_seconds": FEDERATED_LIFE}});
                let body = Body::plain(&json!({"auth": {"identity": identity}}));
                let target = ("/v3.0/OS-CREDENTIAL/securitytokens", "");
                let answer = ask(self, iam, Method::POST, target, headers, Some(body)).await?;
                self.temporary_keys(&answer)
            }
            Self::First(sources) => {
                let mut causes = Vec::new();
                for source in sources {
                    // Recursion of depth one: configured lists are not nested.
                    match Box::pin(source.fetch()).await {
                        Ok(fetched) => return Ok(fetched),
                        Err(failed) => causes.push(failed.cause),
                    }
                }
                Err(failed(causes.join("; ")))
            }
        }
    }

    /// The keys of the machine's agency. Older metadata services have no tokens.
    async fn metadata(&self, service: &Upstream) -> Result<Fetched, Failed> {
        let ttl = HeaderName::from_static("x-metadata-token-ttl-seconds");
        let headers = HeaderMap::from_iter([(ttl, HeaderValue::from_static(METADATA_TOKEN_LIFE))]);
        let target = ("/meta-data/latest/api/token", "");
        let nothing = Masker::default();
        let answer = exchange(self, service, Method::PUT, target, headers, None, &nothing).await?;
        let mut headers = HeaderMap::new();
        match answer.status.as_u16() {
            404 | 405 | 503 => {}
            _ => {
                let answer = self.success(answer, &nothing)?;
                let token = String::from_utf8_lossy(&answer.body);
                headers.insert(HeaderName::from_static("x-metadata-token"), sensitive(token.trim())?);
            }
        }
        let answer = ask(self, service, Method::GET, ("/openstack/latest/securitykey", ""), headers, None).await?;
        self.temporary_keys(&answer)
    }

    /// The token in the header, with the lifetime as the difference of both dates in the body, independent of the local clock.
    fn iam_token(&self, answer: &Response) -> Result<Fetched, Failed> {
        let token = self.subject_token(answer)?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let date = |name: &str| parse_date(body.pointer(&format!("/token/{name}"))?.as_str()?);
        let expires = date("expires_at").ok_or_else(|| failed(format!("{self} answered without expires_at")))?;
        let life = expires.duration_since(date("issued_at").unwrap_or_else(SystemTime::now)).unwrap_or_default();
        Ok(Fetched { credential: Credential::Token(token), life })
    }

    fn subject_token(&self, answer: &Response) -> Result<HeaderValue, Failed> {
        let text = answer.headers.get("x-subject-token").and_then(|token| token.to_str().ok());
        parse_token(text.unwrap_or_default())
            .map_err(|cause| failed(format!("X-Subject-Token in the answer of {self} {cause}")))
    }

    /// Temporary keys in any of the formats that the SDK accepts.
    fn temporary_keys(&self, answer: &Response) -> Result<Fetched, Failed> {
        let json = ResponseJson::parse(&answer.body);
        let body = &json.0;
        let found = ["credential", "credentials"].iter().find_map(|name| body.get(name)?.as_object());
        let credential = found.or_else(|| body.as_object());
        let text = |names: &[&str]| find(credential?, names);
        let keys = Keys::new(
            text(&["access", "accessKeyId", "access_key_id"]).unwrap_or_default(),
            text(&["secret", "secretAccessKey", "secret_access_key"]).unwrap_or_default(),
            text(&["securitytoken", "securityToken", "security_token"]),
        )
        .map_err(|cause| failed(format!("the answer of {self} {cause}")))?;
        if keys.security_token.is_none() {
            return Err(failed(format!("the answer of {self} holds no security token")));
        }
        let expires = text(&["expires_at", "expiration"]).and_then(parse_date);
        let expires = expires.ok_or_else(|| failed(format!("the answer of {self} has no valid expiry")))?;
        let life = expires.duration_since(SystemTime::now());
        let life = life.map_err(|_| failed(format!("the keys of {self} have expired by the local clock")))?;
        Ok(Fetched { credential: Credential::keys(keys), life })
    }

    /// Returns a successful response, else an error.
    fn success(&self, answer: Response, masker: &Masker<'_>) -> Result<Response, Failed> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let cause = format!("{self} answered {}{}", answer.status.as_u16(), reason(&answer.body, masker));
        Err(Failed { cause, refused: is_refusal(&answer), wait: retry_after(&answer.headers) })
    }
}

impl IdToken {
    async fn read(&self) -> Result<Secret, Failed> {
        match self {
            Self::Given(token) => Ok(token.clone()),
            Self::File(path) => read(path).await,
        }
    }
}

/// Sends a request and requires success. Errors contain no secret of the request.
async fn ask(
    source: &Source,
    service: &Upstream,
    verb: Method,
    target: (&str, &str),
    headers: HeaderMap,
    body: Option<Body<'_>>,
) -> Result<Response, Failed> {
    let sent: Vec<HeaderValue> = headers.values().filter(|value| value.is_sensitive()).cloned().collect();
    let secret = body.as_ref().and_then(|body| body.secret);
    let secrets = sent.iter().map(HeaderValue::as_bytes).chain(secret.map(|secret| secret.expose().as_bytes()));
    let masker = Masker::new(secrets);
    source.success(exchange(source, service, verb, target, headers, body, &masker).await?, &masker)
}

async fn exchange(
    source: &Source,
    service: &Upstream,
    verb: Method,
    (path, query): (&str, &str),
    headers: HeaderMap,
    body: Option<Body<'_>>,
    masker: &Masker<'_>,
) -> Result<Response, Failed> {
    let answer = service.fetch(verb, path, query, headers, body.map(|body| body.json), masker).await;
    answer.map_err(|cause| failed(format!("{source} can't be reached: {cause}")))
}

fn failed(cause: String) -> Failed {
    Failed::temporary(cause)
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json;charset=utf8"))])
}

fn sensitive(text: &str) -> Result<HeaderValue, Failed> {
    secret::header(text).map_err(|_| failed("a token has characters that are invalid in a header".into()))
}

async fn read(path: &PathBuf) -> Result<Secret, Failed> {
    let text = tokio::fs::read_to_string(path).await.map(Zeroizing::new);
    let text = text.map_err(|fault| failed(format!("{} can't be read: {fault}", path.display())))?;
    Ok(Secret::new(text.trim()))
}

fn find<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| object.get(*name)?.as_str())
}

/// Parses a time in IAM's format, RFC 3339 with a fraction of any length.
fn parse_date(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// The reason in an error body of IAM, in either of its formats, as `: IAM.0001, text`. Masked before it is cut.
pub(super) fn reason(body: &[u8], masker: &Masker<'_>) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let parts = match body.get("error") {
        Some(error) => [error.get("code"), error.get("message")],
        None => [body.get("error_code"), body.get("error_msg")],
    };
    let text = parts.into_iter().flatten().map(|part| match part {
        Value::String(text) => masker.mask(text).into_owned(),
        other => masker.mask(&other.to_string()).into_owned(),
    });
    let text = text.collect::<Vec<_>>().join(", ");
    // Control characters become spaces: removing them could join the parts of a secret.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}
