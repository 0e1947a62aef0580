//! Decodes the body of a request to create or update a certificate and validates it.

use std::time::SystemTime;

use axum::http::HeaderMap;
use serde::Deserialize;

use super::answer::Refusal;
use super::binding::no_such_instance;
use super::body::{invalid, missing, not_null, object};
use super::certificate::chain::{self, Description};
use super::world::World;

/// A validated upload. The private key has been checked and dropped.
pub(super) struct Upload {
    pub(super) name: String,
    /// None if the body has no type.
    pub(super) scope: Option<Scope>,
    pub(super) description: Description,
    pub(super) trusted_root_ca: Option<String>,
}

pub(super) enum Scope {
    Global,
    Instance(String),
}

/// Without `Debug`: it has the private key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUpload {
    #[serde(default, deserialize_with = "not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    cert_content: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    private_key: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    r#type: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    instance_id: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    trusted_root_ca: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    algorithm_type: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    cert_content_sign: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    private_key_sign: Option<String>,
}

/// Decodes and validates. The order of the checks is ours.
pub(super) fn decode(
    world: &World,
    project: &str,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Result<Upload, Refusal> {
    let raw: RawUpload = object(headers, body)?;
    let required = |value: Option<String>, name| value.filter(|value| !value.is_empty()).ok_or_else(|| missing(name));
    let name = required(raw.name, "name")?;
    let content = required(raw.cert_content, "cert_content")?;
    let private_key = required(raw.private_key, "private_key")?;
    if !is_name(&name) {
        return Err(invalid("name"));
    }
    let scope = scope(world, project, raw.r#type.as_deref(), raw.instance_id)?;
    // SM2 is documented as not supported yet; the signature pair is for it alone. The codes of these refusals are ours.
    if raw.algorithm_type.as_ref().is_some_and(|name| name != "RSA" && name != "ECC") {
        return Err(invalid("algorithm_type"));
    }
    if raw.cert_content_sign.is_some() {
        return Err(invalid("cert_content_sign"));
    }
    if raw.private_key_sign.is_some() {
        return Err(invalid("private_key_sign"));
    }
    let description = chain::describe_pair(&content, &private_key, now)?;
    if raw.algorithm_type.is_some_and(|name| name != description.summary().algorithm_type) {
        return Err(invalid("algorithm_type"));
    }
    if let Some(ca) = &raw.trusted_root_ca {
        chain::check_ca(ca)?;
    }
    Ok(Upload { name, scope, description, trusted_root_ca: raw.trusted_root_ca })
}

/// An instance certificate names its instance. A global one names none, or `common` as responses do, which is our
/// choice; so is the refusal of an instance without a type.
fn scope(world: &World, project: &str, kind: Option<&str>, instance: Option<String>) -> Result<Option<Scope>, Refusal> {
    let instance = instance.filter(|id| !id.is_empty());
    match (kind, instance) {
        (None, None) => Ok(None),
        (Some("global"), None) => Ok(Some(Scope::Global)),
        (None | Some("global"), Some(id)) if id == "common" => Ok(Some(Scope::Global)),
        (None | Some("global"), Some(_)) => Err(invalid("instance_id")),
        (Some("instance"), None) => Err(missing("instance_id")),
        (Some("instance"), Some(id)) if world.has_instance(project, &id) => Ok(Some(Scope::Instance(id))),
        (Some("instance"), Some(id)) => Err(no_such_instance(&id)),
        (Some(_), _) => Err(invalid("type")),
    }
}

/// 4 to 50 letters, digits, underscores and Chinese characters, beginning with a letter or a Chinese character. The
/// rule is stated for the dedicated gateway and applied to both products here. That Chinese characters are those of the
/// block of unified ideographs is our reading.
fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphabetic() || ('\u{4e00}'..='\u{9fff}').contains(&letter);
    (4..=50).contains(&name.chars().count())
        && name.starts_with(is_letter)
        && name.chars().all(|letter| is_letter(letter) || letter.is_ascii_digit() || letter == '_')
}
