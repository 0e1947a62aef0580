//! Gives temporary keys to what the cloud trusts: workloads with an OIDC token, federated identities,
//! and whoever has a token of IAM. It does not know what the keys open.
//!
//! The documents give the forms of requests and answers. Who proves what to whom is the world's;
//! the codes of refusals are ours where nothing else is said.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse};
use serde_json::{Value, json};

use super::answer::Refusal;
use super::caller::Asked;
use super::iam;
use super::keys::Issued;
use super::token::Grant;
use super::world::Workload;
use super::{Cloud, Shared};

/// Documented bounds of the life that may be asked for, in seconds; the lower is the default.
const LEAST_LIFE: u64 = 900;
const MOST_LIFE: u64 = 86_400;

/// `POST /v5/agencies/assume-with-oidc`
pub(super) async fn assume_with_oidc(
    State(cloud): State<Shared>,
    asked: Asked,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let body = iam::read(&asked.headers, &body?)?;
    let text = |pointer| iam::required_text(&body, pointer);
    let (provider, agency, id_token) = (text("/provider_urn")?, text("/agency_urn")?, text("/id_token")?);
    // The SDK always sends one, but for what it is used is not documented.
    if text("/agency_session_name")?.is_empty() {
        return Err(iam::invalid("/agency_session_name"));
    }
    let life = life(&body, "/duration_seconds")?;
    let user = cloud.world.workloads().find_map(|workload| match workload {
        Workload::Oidc { user, provider_urn, agency_urn, token }
            if provider_urn == provider && agency_urn == agency && token == id_token =>
        {
            Some(user)
        }
        _ => None,
    });
    let user = user.ok_or_else(|| refused("The provider, the agency or the token is unknown."))?;
    let Issued { access, secret, token, end } = issue(&cloud, user, life.min(cloud.life));
    Ok(Json(json!({ "credentials": {
        "access_key_id": access,
        "secret_access_key": secret,
        "security_token": token,
        "expiration": iam::written(end),
    }})))
}

/// `POST /v3.0/OS-AUTH/id-token/tokens`: a token without a project.
pub(super) async fn federate(
    State(cloud): State<Shared>,
    asked: Asked,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let body = iam::read(&asked.headers, &body?)?;
    let given = asked.header("x-idp-id").unwrap_or_default();
    let id_token = iam::required_text(&body, "/auth/id_token/id")?;
    let name = cloud.world.workloads().find_map(|workload| match workload {
        Workload::Federated { user, provider, token } if provider == given && token == id_token => Some(user),
        _ => None,
    });
    let user = name.and_then(|name| cloud.world.user(name));
    let user = user.ok_or_else(|| refused("The identity provider or its token is unknown."))?;
    let now = (cloud.clock)();
    let end = now + cloud.life;
    let grant = Grant { user: user.name.clone(), project: None, may_attach: user.may_attach, expires_at: Some(end) };
    let token = cloud.tokens.issue(grant, now);
    let body = json!({ "token": {
        "expires_at": iam::written(end),
        "issued_at": iam::written(now),
        "methods": ["mapped"],
    }});
    Ok((StatusCode::CREATED, AppendHeaders([("x-subject-token", token)]), Json(body)))
}

/// `POST /v3.0/OS-CREDENTIAL/securitytokens`, by a token of IAM. The other method is that of agencies,
/// which this cloud does not have.
pub(super) async fn security_tokens(
    State(cloud): State<Shared>,
    asked: Asked,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let body = iam::read(&asked.headers, &body?)?;
    if body.pointer("/auth/identity/methods") != Some(&json!(["token"])) {
        return Err(iam::invalid("/auth/identity/methods"));
    }
    let life = life(&body, "/auth/identity/token/duration_seconds")?;
    let inner = body.pointer("/auth/identity/token/id").and_then(Value::as_str);
    let value = inner.or(asked.header("x-auth-token")).unwrap_or_default();
    let grant = cloud.tokens.grant(value, (cloud.clock)())?;
    let issued = issue(&cloud, &grant.user, life.min(cloud.life));
    Ok((StatusCode::CREATED, Json(json!({ "credential": written(&issued) }))))
}

pub(super) fn issue(cloud: &Cloud, user: &str, life: Duration) -> Issued {
    cloud.keys.issue(user, (cloud.clock)(), life)
}

/// A temporary pair in the form that all but STS have for it.
pub(super) fn written(issued: &Issued) -> Value {
    let Issued { access, secret, token, end } = issued;
    json!({ "access": access, "secret": secret, "securitytoken": token, "expires_at": iam::written(*end) })
}

fn life(body: &Value, pointer: &str) -> Result<Duration, Refusal> {
    let seconds = body.pointer(pointer).map_or(Some(LEAST_LIFE), Value::as_u64);
    seconds
        .filter(|seconds| (LEAST_LIFE..=MOST_LIFE).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| iam::invalid(pointer))
}

pub(super) fn refused(text: &str) -> Refusal {
    Refusal::keystone(StatusCode::UNAUTHORIZED, text)
}
