//! Gives temporary keys to what runs on the cloud or is trusted by it: virtual machines, containers,
//! workloads with an OIDC token, federated identities, and whoever has a token of IAM.
//!
//! The documents give the forms of requests and answers. Who proves what to whom is the world's;
//! the codes of refusals are ours where nothing else is said.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Shared;
use super::answer::Refusal;
use super::keys::Issued;
use super::token::Grant;
use super::world::Workload;

/// Documented bounds of the life that may be asked for, in seconds; the lower is the default.
const LEAST_LIFE: u64 = 900;
const MOST_LIFE: u64 = 86_400;

/// `PUT /meta-data/latest/api/token`
pub(super) async fn metadata_token(State(cloud): State<Shared>, headers: HeaderMap) -> Result<String, Refusal> {
    let ttl = headers.get("x-metadata-token-ttl-seconds").and_then(|ttl| ttl.to_str().ok()?.parse::<u64>().ok());
    // That it is bounded by the six hours that the SDK asks for is ours.
    if !ttl.is_some_and(|ttl| (1..=21_600).contains(&ttl)) {
        return Err(Refusal::keystone(StatusCode::BAD_REQUEST, "The life of the token is missing or invalid."));
    }
    let token = Uuid::now_v7().simple().to_string();
    cloud.remember_metadata_token(token.clone());
    Ok(token)
}

/// `GET /openstack/latest/securitykey`
pub(super) async fn security_key(State(cloud): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let given = headers.get("x-metadata-token").and_then(|token| token.to_str().ok()).unwrap_or_default();
    if !cloud.knows_metadata_token(given) {
        return Err(refused("The metadata token is missing or unknown."));
    }
    let machine = cloud.world.workload(|workload| matches!(workload, Workload::Machine { .. }));
    let user = machine.ok_or_else(|| Refusal::keystone(StatusCode::NOT_FOUND, "The machine has no agency."))?;
    Ok(Json(json!({ "credential": written(&issue(&cloud, user, cloud.life)) })))
}

/// The address that a container is told; its path is ours.
pub(super) async fn container_credentials(
    State(cloud): State<Shared>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let given = headers.get("authorization").and_then(|token| token.to_str().ok()).unwrap_or_default();
    let pod = cloud.world.workload(|workload| matches!(workload, Workload::Container { token, .. } if token == given));
    let user = pod.ok_or_else(|| refused("The container's token is unknown."))?;
    Ok(Json(json!({ "credential": written(&issue(&cloud, user, cloud.life)) })))
}

/// `POST /v5/agencies/assume-with-oidc`
pub(super) async fn assume_with_oidc(
    State(cloud): State<Shared>,
    Json(asked): Json<Value>,
) -> Result<Json<Value>, Refusal> {
    let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("agency_session_name").is_empty() {
        return Err(Refusal::service(StatusCode::BAD_REQUEST, "IAM.0007", "agency_session_name is missing."));
    }
    let life = life(asked.get("duration_seconds").unwrap_or(&Value::Null))?;
    let known = cloud.world.workload(|workload| {
        matches!(workload, Workload::Oidc { provider_urn, agency_urn, token, .. }
            if provider_urn == text("provider_urn") && agency_urn == text("agency_urn") && token == text("id_token"))
    });
    let user = known.ok_or_else(|| refused("The provider, the agency or the token is unknown."))?;
    let Issued { access, secret, token, end } = issue(&cloud, user, life.min(cloud.life));
    Ok(Json(json!({ "credentials": {
        "access_key_id": access,
        "secret_access_key": secret,
        "security_token": token,
        "expiration": written_date(end),
    }})))
}

/// `POST /v3.0/OS-AUTH/id-token/tokens`: a token without a project.
pub(super) async fn federate(
    State(cloud): State<Shared>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> Result<impl IntoResponse, Refusal> {
    let given = headers.get("x-idp-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let id_token = asked.pointer("/auth/id_token/id").and_then(Value::as_str).unwrap_or_default();
    let known = cloud.world.workload(|workload| {
        matches!(workload, Workload::Federated { provider, token, .. } if provider == given && token == id_token)
    });
    let name = known.ok_or_else(|| refused("The identity provider or its token is unknown."))?;
    let user = cloud.world.user(name).ok_or_else(|| refused("The user does not exist."))?;
    let now = (cloud.clock)();
    let expires_at = now + cloud.life;
    let grant =
        Grant { user: user.name.clone(), project: None, may_attach: user.may_attach, expires_at: Some(expires_at) };
    let token = cloud.tokens.issue(grant, now);
    let body = json!({"token": {"expires_at": written_date(expires_at), "issued_at": written_date(now), "methods": ["mapped"]}});
    Ok((StatusCode::CREATED, AppendHeaders([("x-subject-token", token)]), Json(body)))
}

/// `POST /v3.0/OS-CREDENTIAL/securitytokens`, by a token of IAM.
pub(super) async fn security_tokens(
    State(cloud): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<impl IntoResponse, Refusal> {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if asked.pointer("/auth/identity/methods") != Some(&json!(["token"])) {
        return Err(Refusal::service(StatusCode::BAD_REQUEST, "IAM.0007", "Only the method token is emulated."));
    }
    let life = life(asked.pointer("/auth/identity/token/duration_seconds").unwrap_or(&Value::Null))?;
    let inner = asked.pointer("/auth/identity/token/id").and_then(Value::as_str);
    let outer = headers.get("x-auth-token").and_then(|token| token.to_str().ok());
    let now = (cloud.clock)();
    let grant = cloud.tokens.grant(inner.or(outer).unwrap_or_default(), now)?;
    let issued = issue(&cloud, &grant.user, life.min(cloud.life));
    Ok((StatusCode::CREATED, Json(json!({ "credential": written(&issued) }))))
}

fn issue(cloud: &Shared, user: &str, life: Duration) -> Issued {
    cloud.keys.issue(user, (cloud.clock)(), life)
}

fn written(issued: &Issued) -> Value {
    let Issued { access, secret, token, end } = issued;
    json!({ "access": access, "secret": secret, "securitytoken": token, "expires_at": written_date(*end) })
}

fn life(asked: &Value) -> Result<Duration, Refusal> {
    let seconds = if asked.is_null() { Some(LEAST_LIFE) } else { asked.as_u64() };
    seconds
        .filter(|seconds| (LEAST_LIFE..=MOST_LIFE).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| Refusal::service(StatusCode::BAD_REQUEST, "IAM.0007", "duration_seconds must be 900 to 86400."))
}

fn refused(text: &str) -> Refusal {
    Refusal::keystone(StatusCode::UNAUTHORIZED, text)
}

/// UTC, six digits of fraction, `Z`.
fn written_date(moment: SystemTime) -> String {
    humantime::format_rfc3339_micros(moment).to_string()
}
