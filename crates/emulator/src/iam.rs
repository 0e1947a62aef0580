//! Handles IAM's requests for tokens by password, and the project search. Other authentication
//! methods (MFA, agencies) are not implemented.
//!
//! Not documented, so the choices are ours: undocumented fields are ignored; the id of a user or an
//! account is its name, because the world has no other; the catalogue is always empty, as with
//! `nocatalog`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::answer::Refusal;
use super::body::is_json;
use super::caller::RequestHead;
use super::lock::Lock;
use super::token::Grant;
use super::world::{Project, User, World};

/// Wrong passwords in a row that lock the account, and the duration of the lock. The administrator
/// of a real account sets both; these values are ours.
const MAX_WRONG_PASSWORDS: u32 = 5;
const LOCKED_FOR: Duration = Duration::from_secs(15 * 60);

/// The lockout state of each user, by name.
#[derive(Default)]
pub(super) struct Logins(Mutex<HashMap<String, Lock>>);

impl Logins {
    /// Authenticates a user by name, password and account.
    fn user<'a>(&self, world: &'a World, login: &Login<'_>, now: SystemTime) -> Result<&'a User, Refusal> {
        let wrong = || Refusal::keystone(StatusCode::UNAUTHORIZED, "The username or password is wrong.");
        // Unknown users have no lockout state, which bounds the memory.
        let user = world.user(login.name).filter(|user| user.account == login.account).ok_or_else(wrong)?;
        // A panic while the lock was held cannot leave the map half updated: each update is one step.
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = locks.entry(user.name.clone()).or_default();
        if lock.is_shut(now) {
            return Err(Refusal::service(StatusCode::UNAUTHORIZED, "IAM.0061", "The account is locked."));
        }
        if user.password == login.password {
            lock.open();
            Ok(user)
        } else {
            lock.count_failure(now, MAX_WRONG_PASSWORDS, LOCKED_FOR);
            Err(wrong())
        }
    }
}

/// `POST /v3/auth/tokens`
pub(super) async fn issue_token(
    State(cloud): State<Shared>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let request = decode_body(&headers, &body?)?;
    let now = (cloud.clock)();
    let user = cloud.logins.user(&cloud.world, &Login::of(&request)?, now)?;
    let project = scope(&cloud.world, user, &request)?;

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

/// The query parameters of the project search.
#[derive(Deserialize)]
pub(super) struct ProjectQuery {
    name: Option<String>,
}

/// `GET /v3/projects`: the projects of the caller, authenticated by signature or token.
pub(super) async fn list_projects(
    State(cloud): State<Shared>,
    request: RequestHead,
    query: Result<Query<ProjectQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query.map_err(|_| invalid("/name"))?;
    let name = cloud.user_of_iam(&request, b"")?;
    let ids = cloud.world.user(&name).map(|user| user.projects.as_slice()).unwrap_or_default();
    let projects: Vec<Value> = ids
        .iter()
        .filter_map(|id| cloud.world.project(id))
        .filter(|project| query.name.as_ref().is_none_or(|name| *name == project.name))
        .map(|project| json!({ "id": project.id, "name": project.name, "enabled": true }))
        .collect();
    Ok(Json(json!({ "projects": projects })))
}

/// Decodes the body of a request to IAM.
pub(super) fn decode_body(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .ok()
        .filter(|_| is_json(headers))
        .ok_or_else(|| Refusal::service(StatusCode::BAD_REQUEST, "IAM.0011", "Request body is invalid."))
}

/// The user credentials of a token request.
struct Login<'a> {
    name: &'a str,
    password: &'a str,
    account: &'a str,
}

impl<'a> Login<'a> {
    fn of(request: &'a Value) -> Result<Self, Refusal> {
        let methods = required(request, "/auth/identity/methods")?;
        if *methods != json!(["password"]) {
            return Err(invalid("/auth/identity/methods"));
        }
        Ok(Self {
            name: required_text(request, "/auth/identity/password/user/name")?,
            password: required_text(request, "/auth/identity/password/user/password")?,
            account: required_text(request, "/auth/identity/password/user/domain/name")?,
        })
    }
}

/// The project in the scope of the requested token; none for a token of the account. A project takes
/// precedence over an account, as documented; an id takes precedence over a name, which is our choice.
fn scope<'a>(world: &'a World, user: &User, request: &Value) -> Result<Option<&'a Project>, Refusal> {
    if request.pointer("/auth/scope/project").is_some() {
        let known = if request.pointer("/auth/scope/project/id").is_some() {
            world.project(required_text(request, "/auth/scope/project/id")?)
        } else {
            world.project_named(required_text(request, "/auth/scope/project/name")?)
        };
        // For this refusal and the next one only the codes are documented, not their conditions.
        let project = known.ok_or_else(|| {
            Refusal::service(StatusCode::BAD_REQUEST, "IAM.1109", "The project of the scope does not exist.")
        })?;
        if !user.projects.contains(&project.id) {
            return Err(not_the_users("project"));
        }
        return Ok(Some(project));
    }
    if request.pointer("/auth/scope/domain").is_some() {
        let account = if request.pointer("/auth/scope/domain/id").is_some() {
            required_text(request, "/auth/scope/domain/id")?
        } else {
            required_text(request, "/auth/scope/domain/name")?
        };
        if account != user.account {
            return Err(not_the_users("account"));
        }
    }
    Ok(None)
}

fn required<'a>(request: &'a Value, pointer: &str) -> Result<&'a Value, Refusal> {
    request.pointer(pointer).ok_or_else(|| invalid(pointer))
}

pub(super) fn required_text<'a>(request: &'a Value, pointer: &str) -> Result<&'a str, Refusal> {
    required(request, pointer)?.as_str().ok_or_else(|| invalid(pointer))
}

/// The refusal of a missing or invalid field. The text names the field but never its value, which
/// may be a password. The text is ours.
pub(super) fn invalid(pointer: &str) -> Refusal {
    let field = pointer.trim_start_matches('/').replace('/', ".");
    Refusal::service(StatusCode::BAD_REQUEST, "IAM.0007", format!("Request parameter {field} is missing or invalid."))
}

fn not_the_users(scope: &str) -> Refusal {
    Refusal::service(StatusCode::FORBIDDEN, "IAM.0002", format!("The {scope} of the scope is not the user's."))
}

fn describe(user: &User, project: Option<&Project>, issued_at: SystemTime, expires_at: SystemTime) -> Value {
    let account = json!({ "id": user.account, "name": user.account });
    let roles = if user.may_attach { json!([{ "id": "0", "name": "te_admin" }]) } else { json!([]) };
    let mut token = json!({
        "catalog": [],
        "expires_at": timestamp(expires_at),
        "issued_at": timestamp(issued_at),
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

/// A time in IAM's format: RFC 3339 in UTC with microseconds.
pub(super) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}
