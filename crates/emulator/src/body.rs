//! Decodes the bodies of changes of bindings and validates them.
//!
//! The real service's treatment of unknown fields, `null` and empty lists is not documented. The
//! emulator refuses them all, so that a test notices mistakes that a lenient server would hide.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::answer::Refusal;
use super::domain_name;

/// One domain of the request, validated.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) domain: String,
    /// Absent: not restricted to instances. Never empty.
    pub(super) instance_ids: Option<Vec<String>>,
    /// Absent: the default of the certificate.
    pub(super) verified_client_certificate_enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBody {
    #[serde(default, deserialize_with = "not_null")]
    domains: Option<Vec<RawEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    #[serde(default, deserialize_with = "not_null")]
    domain: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    instance_ids: Option<Vec<String>>,
    #[serde(default, deserialize_with = "not_null")]
    verified_client_certificate_enabled: Option<bool>,
}

/// The body of a change from the domain's side, validated.
#[derive(Debug)]
pub(super) struct OfDomain {
    pub(super) certificate: String,
    /// Absent: the default of the certificate.
    pub(super) verified_client_certificate_enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOfDomain {
    #[serde(default, deserialize_with = "not_null")]
    certificate_ids: Option<Vec<String>>,
    #[serde(default, deserialize_with = "not_null")]
    verified_client_certificate_enabled: Option<bool>,
}

/// Decodes a field that may be absent but not `null`.
pub(super) fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// Decodes a JSON object. Errors quote member names, but no text of a value: it may be a private key.
pub(super) fn object<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Refusal> {
    if !is_json(headers) {
        return Err(Refusal::unreadable("the content type is not application/json"));
    }
    // Of a string in place of the object, the decoder would quote all.
    if body.trim_ascii_start().starts_with(b"\"") {
        return Err(Refusal::unreadable("Serialization error: the body is not an object"));
    }
    serde_json::from_slice(body).map_err(|fault| Refusal::unreadable(format!("Serialization error: {fault}")))
}

/// Decodes a certificate to attach to a domain or to detach from it. Exactly one id is documented; the code of the
/// refusal of more is ours.
pub(super) fn decode_of_domain(headers: &HeaderMap, body: &[u8]) -> Result<OfDomain, Refusal> {
    let RawOfDomain { certificate_ids, verified_client_certificate_enabled } = object(headers, body)?;
    let mut ids = certificate_ids.unwrap_or_default().into_iter();
    match (ids.next(), ids.next()) {
        (None, _) => Err(missing("certificate_ids")),
        (Some(certificate), None) => Ok(OfDomain { certificate, verified_client_certificate_enabled }),
        (Some(_), Some(_)) => Err(invalid("certificate_ids")),
    }
}

/// Decodes the domains to attach or detach.
pub(super) fn decode(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Entry>, Refusal> {
    let body: RawBody = object(headers, body)?;
    let domains = body.domains.unwrap_or_default();
    if domains.is_empty() {
        return Err(missing("domains"));
    }
    domains.into_iter().map(entry).collect()
}

fn entry(raw: RawEntry) -> Result<Entry, Refusal> {
    let domain = raw.domain.ok_or_else(|| missing("domain"))?;
    if !domain_name::is_valid(&domain) {
        // The documented text of this operation, although the request has no parameter of that name.
        return Err(Refusal::parameter("APIG.2012", "Invalid parameter value", "domain_id"));
    }
    if raw.instance_ids.as_ref().is_some_and(Vec::is_empty) {
        return Err(invalid("instance_ids"));
    }
    Ok(Entry {
        domain,
        instance_ids: raw.instance_ids,
        verified_client_certificate_enabled: raw.verified_client_certificate_enabled,
    })
}

pub(super) fn missing(name: &str) -> Refusal {
    Refusal::parameter("APIG.2001", "The request parameters must be specified", name)
}

pub(super) fn invalid(name: &str) -> Refusal {
    Refusal::parameter("APIG.2011", "Invalid parameter value", name)
}

/// Whether the content type is JSON, with any parameters.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}
