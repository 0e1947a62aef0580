//! Answers IAM's calls for tokens, by the password method, and its look for projects. It does not
//! know what a token opens, and it offers no other method here (MFA, agencies).
//!
//! Where the documents are silent, the choice is ours: fields that are not documented are
//! ignored; a user's and an account's name is its id too, because the world gives them no other;
//! the catalogue is always empty, as if `nocatalog` had been given.

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
use super::caller::Asked;
use super::lock::Lock;
use super::token::Grant;
use super::world::{Project, User, World};

/// Wrong passwords lock the account, after a number of them that its administrator sets: how many
/// in a row, and for how long, is ours.
const MOST_WRONG: u32 = 5;
const LOCKED_FOR: Duration = Duration::from_secs(15 * 60);

/// Which accounts are locked, by the name of the user: the world gives each user one.
#[derive(Default)]
pub(super) struct Logins(Mutex<HashMap<String, Lock>>);

impl Logins {
    /// The user whose name, password and account these are.
    fn user<'a>(&self, world: &'a World, login: &Login<'_>, now: SystemTime) -> Result<&'a User, Refusal> {
        let wrong = || Refusal::keystone(StatusCode::UNAUTHORIZED, "The username or password is wrong.");
        // Nobody is locked who does not exist, which keeps the memory bounded.
        let user = world.user(login.name).filter(|user| user.account == login.account).ok_or_else(wrong)?;
        // A panic elsewhere leaves the map whole: every change of it is one step.
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = locks.entry(user.name.clone()).or_default();
        if lock.is_shut(now) {
            return Err(Refusal::service(StatusCode::UNAUTHORIZED, "IAM.0061", "The account is locked."));
        }
        if user.password == login.password {
            lock.open();
            Ok(user)
        } else {
            lock.count_failure(now, MOST_WRONG, LOCKED_FOR);
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
    let asked = read(&headers, &body?)?;
    let now = (cloud.clock)();
    let user = cloud.logins.user(&cloud.world, &Login::of(&asked)?, now)?;
    let project = scope(&cloud.world, user, &asked)?;

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
pub(super) struct ProjectQuery {
    name: Option<String>,
}

/// `GET /v3/projects`: those of the caller, who is known by a signature or by a token.
pub(super) async fn list_projects(
    State(cloud): State<Shared>,
    asked: Asked,
    query: Result<Query<ProjectQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query.map_err(|_| invalid("/name"))?;
    let name = cloud.user_of_iam(&asked, b"")?;
    let own = cloud.world.user(&name).map(|user| user.projects.as_slice()).unwrap_or_default();
    let projects: Vec<Value> = own
        .iter()
        .filter_map(|id| cloud.world.project(id))
        .filter(|project| query.name.as_ref().is_none_or(|name| *name == project.name))
        .map(|project| json!({ "id": project.id, "name": project.name, "enabled": true }))
        .collect();
    Ok(Json(json!({ "projects": projects })))
}

/// The body of a request to IAM.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .ok()
        .filter(|_| is_json(headers))
        .ok_or_else(|| Refusal::service(StatusCode::BAD_REQUEST, "IAM.0011", "Request body is invalid."))
}

/// Who somebody says to be, and the proof.
struct Login<'a> {
    name: &'a str,
    password: &'a str,
    account: &'a str,
}

impl<'a> Login<'a> {
    fn of(asked: &'a Value) -> Result<Self, Refusal> {
        let methods = required(asked, "/auth/identity/methods")?;
        if *methods != json!(["password"]) {
            return Err(invalid("/auth/identity/methods"));
        }
        Ok(Self {
            name: required_text(asked, "/auth/identity/password/user/name")?,
            password: required_text(asked, "/auth/identity/password/user/password")?,
            account: required_text(asked, "/auth/identity/password/user/domain/name")?,
        })
    }
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

pub(super) fn required_text<'a>(asked: &'a Value, pointer: &str) -> Result<&'a str, Refusal> {
    required(asked, pointer)?.as_str().ok_or_else(|| invalid(pointer))
}

/// The refusal of a field that is missing or is not what it must be. It names the field and never
/// its value, which may be a password. The wording is ours.
pub(super) fn invalid(pointer: &str) -> Refusal {
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
pub(super) fn written(moment: SystemTime) -> String {
    humantime::format_rfc3339_micros(moment).to_string()
}
