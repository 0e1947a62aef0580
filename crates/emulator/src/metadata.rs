//! Gives temporary keys to what runs on the cloud: to a virtual machine from its metadata service, to
//! a container from the address that it is told. It does not know what the keys open.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Refusal;
use super::caller::Asked;
use super::workload::{issue, refused, written};
use super::world::Workload;
use super::{Cloud, Shared};

/// The six hours that the SDK asks for. That nobody may ask for more is ours.
const LONGEST: u64 = 21_600;

/// The tokens of the metadata service, which open nothing else, and when they end.
#[derive(Default)]
pub(super) struct MetadataTokens(Mutex<HashMap<String, SystemTime>>);

impl MetadataTokens {
    fn issue(&self, now: SystemTime, life: Duration) -> String {
        let token = Uuid::now_v7().simple().to_string();
        let mut tokens = self.lock();
        tokens.retain(|_, end| *end > now);
        tokens.insert(token.clone(), now + life);
        token
    }

    fn knows(&self, token: &str, now: SystemTime) -> bool {
        self.lock().get(token).is_some_and(|end| *end > now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, SystemTime>> {
        // A panic elsewhere leaves the map whole: every change of it is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `PUT /meta-data/latest/api/token`
///
/// The SDK does without this step where there is none, which it sees by a 405, among others.
pub(super) async fn token(State(cloud): State<Shared>, asked: Asked) -> Result<String, Refusal> {
    if machine(&cloud).is_some_and(|(_, has_token_step)| !has_token_step) {
        return Err(Refusal::keystone(StatusCode::METHOD_NOT_ALLOWED, "There are no tokens here."));
    }
    let life = asked.header("x-metadata-token-ttl-seconds").and_then(|life| life.parse().ok());
    let life = life
        .filter(|seconds| (1..=LONGEST).contains(seconds))
        .ok_or_else(|| Refusal::keystone(StatusCode::BAD_REQUEST, "The life of the token is missing or invalid."))?;
    Ok(cloud.metadata_tokens.issue((cloud.clock)(), Duration::from_secs(life)))
}

/// `GET /openstack/latest/securitykey`
pub(super) async fn security_key(State(cloud): State<Shared>, asked: Asked) -> Result<Json<Value>, Refusal> {
    let machine = machine(&cloud);
    let given = asked.header("x-metadata-token").unwrap_or_default();
    let is_open = machine.is_some_and(|(_, has_token_step)| !has_token_step);
    if !is_open && !cloud.metadata_tokens.knows(given, (cloud.clock)()) {
        return Err(refused("The metadata token is missing or unknown."));
    }
    // What the SDK looks for in a 401, so as not to take it for the token's.
    let (user, _) = machine.ok_or_else(|| refused("Please configure Cloud Service Agency first"))?;
    Ok(Json(json!({ "credential": written(&issue(&cloud, user, cloud.life)) })))
}

/// The user whose rights the machine has, and whether its metadata service has the step of the token.
fn machine(cloud: &Cloud) -> Option<(&str, bool)> {
    cloud.world.workloads().find_map(|workload| match workload {
        Workload::Machine { user, has_token_step } => Some((user.as_str(), *has_token_step)),
        _ => None,
    })
}

/// `POST` to the address that a container is told; its path is ours.
pub(super) async fn container(State(cloud): State<Shared>, asked: Asked) -> Result<Json<Value>, Refusal> {
    let given = asked.header("authorization").unwrap_or_default();
    let user = cloud.world.workloads().find_map(|workload| match workload {
        Workload::Container { user, token } if token == given => Some(user),
        _ => None,
    });
    let user = user.ok_or_else(|| refused("The container's token is unknown."))?;
    Ok(Json(json!({ "credential": written(&issue(&cloud, user, cloud.life)) })))
}
