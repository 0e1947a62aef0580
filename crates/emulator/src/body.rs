//! Reads the body of an attachment and holds it to its documented form. It does not know what
//! exists, so it cannot say whether the attachment is possible.
//!
//! What the real service does with a body that is not quite the documented one is not documented.
//! This one refuses all of it (an unknown field, `null`, an empty list), so that a test notices
//! what a lenient server would hide.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde::{Deserialize, Deserializer};

use super::answer::Refusal;
use super::domain_name;

/// One domain of the request, with everything that its form promises.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) domain: String,
    /// Absent: not restricted to any instance. Never empty.
    pub(super) instance_ids: Option<Vec<String>>,
    /// Absent: as the certificate has it.
    pub(super) verified_client_certificate_enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBody {
    #[serde(default, deserialize_with = "nullable")]
    domains: Option<Vec<WrittenEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    #[serde(default, deserialize_with = "nullable")]
    domain: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    instance_ids: Option<Vec<String>>,
    #[serde(default, deserialize_with = "nullable")]
    verified_client_certificate_enabled: Option<bool>,
}

/// Reads a field that may be absent but not `null`.
fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// The domains of an attachment.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Entry>, Refusal> {
    if !is_json(headers) {
        return Err(Refusal::unreadable("the content type is not application/json"));
    }
    let body: WrittenBody =
        serde_json::from_slice(body).map_err(|fault| Refusal::unreadable(format!("Serialization error: {fault}")))?;
    let domains = body.domains.unwrap_or_default();
    if domains.is_empty() {
        return Err(missing("domains"));
    }
    domains.into_iter().map(entry).collect()
}

fn entry(written: WrittenEntry) -> Result<Entry, Refusal> {
    let domain = written.domain.ok_or_else(|| missing("domain"))?;
    if !domain_name::is_valid(&domain) {
        // The one text that the documents give for this operation; it names a parameter that the
        // request does not have.
        return Err(Refusal::parameter("APIG.2012", "Invalid parameter value", "domain_id"));
    }
    if written.instance_ids.as_ref().is_some_and(Vec::is_empty) {
        return Err(Refusal::parameter("APIG.2011", "Invalid parameter value", "instance_ids"));
    }
    Ok(Entry {
        domain,
        instance_ids: written.instance_ids,
        verified_client_certificate_enabled: written.verified_client_certificate_enabled,
    })
}

fn missing(name: &str) -> Refusal {
    Refusal::parameter("APIG.2001", "The request parameters must be specified", name)
}

/// Whether the request says that its body is JSON, whatever character set it adds.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}
