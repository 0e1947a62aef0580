//! Issues temporary keys to workloads on the cloud: to virtual machines through the metadata service,
//! to containers through their credentials endpoint.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Refusal;
use super::caller::RequestHead;
use super::workload::{credential_json, issue, refused};
use super::world::Workload;
use super::{Cloud, Shared};

/// The maximum lifetime of a metadata token, in seconds: the value that the SDK requests. The limit is ours.
const LONGEST: u64 = 21_600;

/// The tokens of the metadata service, with their expiry. They are not valid elsewhere.
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
        // A panic while the lock was held cannot leave the map half updated: each update is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `PUT /meta-data/latest/api/token`
///
/// The SDK skips the token when this endpoint answers 405, among others.
pub(super) async fn token(State(cloud): State<Shared>, request: RequestHead) -> Result<String, Refusal> {
    if machine(&cloud).is_some_and(|(_, has_token_step)| !has_token_step) {
        return Err(Refusal::keystone(StatusCode::METHOD_NOT_ALLOWED, "This service issues no tokens."));
    }
    let life = request.header("x-metadata-token-ttl-seconds").and_then(|life| life.parse().ok());
    let life = life
        .filter(|seconds| (1..=LONGEST).contains(seconds))
        .ok_or_else(|| Refusal::keystone(StatusCode::BAD_REQUEST, "The life of the token is missing or invalid."))?;
    Ok(cloud.metadata_tokens.issue((cloud.clock)(), Duration::from_secs(life)))
}

/// `GET /openstack/latest/securitykey`
pub(super) async fn security_key(State(cloud): State<Shared>, request: RequestHead) -> Result<Json<Value>, Refusal> {
    let machine = machine(&cloud);
    let given = request.header("x-metadata-token").unwrap_or_default();
    let is_open = machine.is_some_and(|(_, has_token_step)| !has_token_step);
    if !is_open && !cloud.metadata_tokens.knows(given, (cloud.clock)()) {
        return Err(refused("The metadata token is missing or unknown."));
    }
    // The SDK recognizes this text in a 401 and does not blame the metadata token for it.
    let (user, _) = machine.ok_or_else(|| refused("Please configure Cloud Service Agency first"))?;
    Ok(Json(json!({ "credential": credential_json(&issue(&cloud, user, cloud.life)) })))
}

/// The user of the virtual machine, and whether its metadata service requires a token.
fn machine(cloud: &Cloud) -> Option<(&str, bool)> {
    cloud.world.workloads().find_map(|workload| match workload {
        Workload::Machine { user, has_token_step } => Some((user.as_str(), *has_token_step)),
        _ => None,
    })
}

/// `POST` to the container's credentials endpoint. The path is ours: a container reads its address from the environment.
pub(super) async fn container(State(cloud): State<Shared>, request: RequestHead) -> Result<Json<Value>, Refusal> {
    let given = request.header("authorization").unwrap_or_default();
    let user = cloud.world.workloads().find_map(|workload| match workload {
        Workload::Container { user, token } if token == given => Some(user),
        _ => None,
    });
    let user = user.ok_or_else(|| refused("The container's token is unknown."))?;
    Ok(Json(json!({ "credential": credential_json(&issue(&cloud, user, cloud.life)) })))
}
