//! Answers the token API of IAM: the password method, scoped to a project, an account or nothing.
//! It does not know what a token opens, and it offers no other method (MFA, agencies, federation).
//!
//! Where the documents are silent, the choice is ours: fields that are not documented are
//! ignored; a user's and an account's name is its id too, because the world gives them no other;
//! the catalogue is always empty, as if `nocatalog` had been given.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::answer::Refusal;
use super::body::is_json;
use super::caller::Asked;
use super::token::Grant;
use super::world::{Project, User, World};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `POST /v3/auth/tokens`
pub(super) async fn issue_token(
    State(cloud): State<Shared>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let asked = read(&headers, &body?)?;
    let user = authenticate(&cloud.world, &asked)?;
    let project = scope(&cloud.world, user, &asked)?;

    let now = (cloud.clock)();
    let expires_at = now + cloud.life;
    let grant = Grant {
        user: user.name.clone(),
        project: project.map(|project| project.id.clone()),
        may_attach: user.may_attach,
        expires_at: Some(expires_at),
    };
    let value = cloud.tokens.issue(grant, now);
    let body = describe(user, project, now, expires_at);
    Ok((StatusCode::CREATED, AppendHeaders([("x-subject-token", value)]), Json(body)))
}

/// Which projects are looked for.
#[derive(Deserialize)]
pub(super) struct Wanted {
    name: Option<String>,
}

/// `GET /v3/projects`: those of the caller, who is known by a signature or by a token.
pub(super) async fn list_projects(
    State(cloud): State<Shared>,
    asked: Asked,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Refusal> {
    let name = cloud.user_of_iam(&asked, b"")?;
    let own = cloud.world.user(&name).map(|user| user.projects.as_slice()).unwrap_or_default();
    let projects: Vec<Value> = own
        .iter()
        .filter_map(|id| cloud.world.project(id))
        .filter(|project| wanted.name.as_ref().is_none_or(|name| *name == project.name))
        .map(|project| json!({ "id": project.id, "name": project.name, "enabled": true }))
        .collect();
    Ok(Json(json!({ "projects": projects })))
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .ok()
        .filter(|_| is_json(headers))
        .ok_or_else(|| Refusal::service(StatusCode::BAD_REQUEST, "IAM.0011", "Request body is invalid."))
}

/// The user whose name, password and account the request gives.
fn authenticate<'a>(world: &'a World, asked: &Value) -> Result<&'a User, Refusal> {
    let methods = required(asked, "/auth/identity/methods")?;
    if *methods != json!(["password"]) {
        return Err(invalid("/auth/identity/methods"));
    }
    let name = required_text(asked, "/auth/identity/password/user/name")?;
    let password = required_text(asked, "/auth/identity/password/user/password")?;
    let account = required_text(asked, "/auth/identity/password/user/domain/name")?;
    world
        .user(name)
        .filter(|user| user.account == account && user.password == password)
        .ok_or_else(|| Refusal::keystone(StatusCode::UNAUTHORIZED, "The username or password is wrong."))
}

/// The project that the token is asked for, or none for a token of the account. A scope that
/// names both is a project's, as documented; of id and name given together, the id counts, which
/// is our choice.
fn scope<'a>(world: &'a World, user: &User, asked: &Value) -> Result<Option<&'a Project>, Refusal> {
    if asked.pointer("/auth/scope/project").is_some() {
        let known = if asked.pointer("/auth/scope/project/id").is_some() {
            world.project(required_text(asked, "/auth/scope/project/id")?)
        } else {
            world.project_named(required_text(asked, "/auth/scope/project/name")?)
        };
        // Of this refusal and the next one only the codes are documented, not when they are given.
        let project = known.ok_or_else(|| {
            Refusal::service(StatusCode::BAD_REQUEST, "IAM.1109", "The project of the scope does not exist.")
        })?;
        if !user.projects.contains(&project.id) {
            return Err(not_the_users("project"));
        }
        return Ok(Some(project));
    }
    if asked.pointer("/auth/scope/domain").is_some() {
        let account = if asked.pointer("/auth/scope/domain/id").is_some() {
            required_text(asked, "/auth/scope/domain/id")?
        } else {
            required_text(asked, "/auth/scope/domain/name")?
        };
        if account != user.account {
            return Err(not_the_users("account"));
        }
    }
    Ok(None)
}

fn required<'a>(asked: &'a Value, pointer: &str) -> Result<&'a Value, Refusal> {
    asked.pointer(pointer).ok_or_else(|| invalid(pointer))
}

fn required_text<'a>(asked: &'a Value, pointer: &str) -> Result<&'a str, Refusal> {
    required(asked, pointer)?.as_str().ok_or_else(|| invalid(pointer))
}

/// The refusal of a field that is missing or is not what it must be. It names the field and never
/// its value, which may be a password. The wording is ours.
fn invalid(pointer: &str) -> Refusal {
    let field = pointer.trim_start_matches('/').replace('/', ".");
    Refusal::service(StatusCode::BAD_REQUEST, "IAM.0007", format!("Request parameter {field} is missing or invalid."))
}

fn not_the_users(what: &str) -> Refusal {
    Refusal::service(StatusCode::FORBIDDEN, "IAM.0002", format!("The {what} of the scope is not the user's."))
}

fn describe(user: &User, project: Option<&Project>, issued_at: SystemTime, expires_at: SystemTime) -> Value {
    let account = json!({ "id": user.account, "name": user.account });
    let roles = if user.may_attach { json!([{ "id": "0", "name": "te_admin" }]) } else { json!([]) };
    let mut token = json!({
        "catalog": [],
        "expires_at": written(expires_at),
        "issued_at": written(issued_at),
        "methods": ["password"],
        "roles": roles,
        "user": {
            "domain": account,
            "id": user.name,
            "name": user.name,
            "password_expires_at": "",
        },
    });
    let (key, scope) = match project {
        Some(project) => ("project", json!({ "domain": account, "id": project.id, "name": project.name })),
        None => ("domain", account),
    };
    token.as_object_mut().expect("the token is built as an object").insert(key.to_owned(), scope);
    json!({ "token": token })
}

/// The moment in IAM's form: UTC, six digits of fraction, `Z`.
fn written(moment: SystemTime) -> String {
    let date = httpdate::fmt_http_date(moment);
    let words: Vec<&str> = date.split(' ').collect();
    let [_, day, month, year, time, _] = words[..] else {
        unreachable!("an HTTP date has six words");
    };
    let month = MONTHS.iter().zip(1..).find(|(name, _)| **name == month).map_or(0, |(_, n)| n);
    let micros = moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_micros());
    format!("{year}-{month:02}-{day}T{time}.{micros:06}Z")
}
