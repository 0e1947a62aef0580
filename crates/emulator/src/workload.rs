//! Issues temporary keys to workloads with an OIDC token, to federated identities, and to holders of
//! an IAM token.
//!
//! Requests and responses are as documented; the world configures the accepted identities. Error
//! codes are ours unless a comment says otherwise.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse};
use serde_json::{Value, json};

use super::answer::Refusal;
use super::caller::RequestHead;
use super::iam;
use super::keys::Issued;
use super::token::Grant;
use super::world::Workload;
use super::{Cloud, Shared};

/// The documented bounds of the requested lifetime, in seconds; the lower one is the default.
const MIN_LIFE: u64 = 900;
const MAX_LIFE: u64 = 86_400;

/// `POST /v5/agencies/assume-with-oidc`
pub(super) async fn assume_with_oidc(
    State(cloud): State<Shared>,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let body = iam::decode_body(&request.headers, &body?)?;
    let text = |pointer| iam::required_text(&body, pointer);
    let (provider, agency, id_token) = (text("/provider_urn")?, text("/agency_urn")?, text("/id_token")?);
    // The SDK always sends a session name; its use is not documented.
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
        "expiration": iam::timestamp(end),
    }})))
}

/// `POST /v3.0/OS-AUTH/id-token/tokens`: a token without a project.
pub(super) async fn federate(
    State(cloud): State<Shared>,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let body = iam::decode_body(&request.headers, &body?)?;
    let given = request.header("x-idp-id").unwrap_or_default();
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
        "expires_at": iam::timestamp(end),
        "issued_at": iam::timestamp(now),
        "methods": ["mapped"],
    }});
    Ok((StatusCode::CREATED, AppendHeaders([("x-subject-token", token)]), Json(body)))
}

/// `POST /v3.0/OS-CREDENTIAL/securitytokens`, by IAM token. The other documented method, by agency,
/// is not implemented.
pub(super) async fn security_tokens(
    State(cloud): State<Shared>,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let body = iam::decode_body(&request.headers, &body?)?;
    if body.pointer("/auth/identity/methods") != Some(&json!(["token"])) {
        return Err(iam::invalid("/auth/identity/methods"));
    }
    let life = life(&body, "/auth/identity/token/duration_seconds")?;
    let inner = body.pointer("/auth/identity/token/id").and_then(Value::as_str);
    let value = inner.or(request.header("x-auth-token")).unwrap_or_default();
    let grant = cloud.tokens.grant(value, (cloud.clock)())?;
    let issued = issue(&cloud, &grant.user, life.min(cloud.life));
    Ok((StatusCode::CREATED, Json(json!({ "credential": credential_json(&issued) }))))
}

pub(super) fn issue(cloud: &Cloud, user: &str, life: Duration) -> Issued {
    cloud.keys.issue(user, (cloud.clock)(), life)
}

/// A temporary key pair in the format of all services but STS.
pub(super) fn credential_json(issued: &Issued) -> Value {
    let Issued { access, secret, token, end } = issued;
    json!({ "access": access, "secret": secret, "securitytoken": token, "expires_at": iam::timestamp(*end) })
}

fn life(body: &Value, pointer: &str) -> Result<Duration, Refusal> {
    let seconds = body.pointer(pointer).map_or(Some(MIN_LIFE), Value::as_u64);
    seconds
        .filter(|seconds| (MIN_LIFE..=MAX_LIFE).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| iam::invalid(pointer))
}

pub(super) fn refused(text: &str) -> Refusal {
    Refusal::keystone(StatusCode::UNAUTHORIZED, text)
}
