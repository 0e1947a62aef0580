//! Parses the PEM text of a certificate chain, checks it, and describes its first certificate.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry as oid;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::key;
use crate::answer::Refusal;

/// The latest documented end of a validity, 2038-01-19T03:14:07Z: a certificate must end before.
const LAST_SECOND: i64 = i32::MAX as i64;

/// A certificate as the cloud describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub(super) summary: Summary,
    pub(super) details: Details,
}

/// The part of the description that lists have, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Summary {
    pub(crate) common_name: String,
    pub(crate) san: Vec<String>,
    pub(crate) not_after: String,
    pub(crate) signature_algorithm: String,
    pub(crate) algorithm_type: String,
}

impl Description {
    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// The part of the description that lists do not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Details {
    version: u32,
    organization: Vec<String>,
    organizational_unit: Vec<String>,
    locality: Vec<String>,
    state: Vec<String>,
    country: Vec<String>,
    not_before: String,
    serial_number: String,
    issuer: Vec<String>,
}

/// Describes a chain and checks that its private key is the first certificate's.
pub(crate) fn describe_pair(chain: &str, private_key: &str, now: SystemTime) -> Result<Description, Refusal> {
    let blocks = certificates(chain)?;
    let certificates = parse(&blocks)?;
    let leaf = certificates.first().ok_or_else(invalid)?;
    let description = describe(leaf)?;
    check_chain(&certificates)?;
    if seconds(leaf.validity().not_after)? <= now {
        return Err(refusal("APIG.2102", "The certificate has expired."));
    }
    if key::public_part(private_key)? != *leaf.public_key().subject_public_key.data {
        return Err(refusal("APIG.2101", "The certificate and private key do not match."));
    }
    Ok(description)
}

/// Describes a chain of which the key is not known. It may have expired.
pub(crate) fn describe_chain(chain: &str) -> Result<Description, Refusal> {
    let blocks = certificates(chain)?;
    let certificates = parse(&blocks)?;
    check_chain(&certificates)?;
    describe(certificates.first().ok_or_else(invalid)?)
}

/// Checks that a trusted root CA is a PEM certificate. That its use as a CA is not checked is our choice.
pub(crate) fn check_ca(text: &str) -> Result<(), Refusal> {
    let blocks = certificates(text)?;
    parse(&blocks).map(drop)
}

/// The blocks of a PEM text that has certificates and nothing else.
fn certificates(text: &str) -> Result<Vec<Pem>, Refusal> {
    let blocks: Vec<Pem> = Pem::iter_from_buffer(text.as_bytes()).collect::<Result<_, _>>().map_err(|_| invalid())?;
    if blocks.is_empty() || blocks.iter().any(|block| block.label != "CERTIFICATE") {
        return Err(invalid());
    }
    Ok(blocks)
}

fn parse(blocks: &[Pem]) -> Result<Vec<X509Certificate<'_>>, Refusal> {
    let parsed = blocks.iter().map(|block| match X509Certificate::from_der(&block.contents) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(invalid()),
    });
    parsed.collect()
}

/// Each certificate must be signed by the next. That the root may be left out is our choice.
fn check_chain(certificates: &[X509Certificate<'_>]) -> Result<(), Refusal> {
    let is_signed = certificates.windows(2).all(|pair| match pair {
        [child, parent] => {
            child.issuer().as_raw() == parent.subject().as_raw()
                && child.verify_signature(Some(parent.public_key())).is_ok()
        }
        _ => true,
    });
    if is_signed { Ok(()) } else { Err(refusal("APIG.2104", "The certificate chain is not matched.")) }
}

fn describe(certificate: &X509Certificate<'_>) -> Result<Description, Refusal> {
    let san = alternative_names(certificate)?;
    if san.is_empty() {
        return Err(refusal("APIG.2109", "Invalid certificate. SAN missing."));
    }
    let (not_before, not_after) = (certificate.validity().not_before, certificate.validity().not_after);
    if not_after.timestamp() >= LAST_SECOND {
        let text = "Invalid certificate. Add one that expires before January 19, 2038 03:14:07 UTC.";
        return Err(refusal("APIG.3148", text));
    }
    let subject = certificate.subject();
    Ok(Description {
        summary: Summary {
            common_name: values(subject.iter_common_name()).into_iter().next().unwrap_or_default(),
            san,
            not_after: whole_seconds(not_after)?,
            signature_algorithm: signature_algorithm(certificate),
            algorithm_type: algorithm_type(certificate)?.to_owned(),
        },
        details: Details {
            version: certificate.version().0 + 1,
            organization: values(subject.iter_organization()),
            organizational_unit: values(subject.iter_organizational_unit()),
            locality: values(subject.iter_locality()),
            state: values(subject.iter_state_or_province()),
            country: values(subject.iter_country()),
            not_before: whole_seconds(not_before)?,
            // Decimal digits: the documents only say that it is a string.
            serial_number: certificate.tbs_certificate.serial.to_string(),
            issuer: issuer(certificate.issuer()),
        },
    })
}

/// The DNS names and addresses. That other kinds of names count for nothing is our choice.
fn alternative_names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, Refusal> {
    let Some(extension) = certificate.subject_alternative_name().map_err(|_| invalid())? else {
        return Ok(Vec::new());
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    };
    Ok(extension.value.general_names.iter().filter_map(name).collect())
}

/// The documents have one example, `SHA256-RSA`; the other names are made like it.
fn signature_algorithm(certificate: &X509Certificate<'_>) -> String {
    let id = &certificate.signature_algorithm.algorithm;
    let known = [
        (oid::OID_PKCS1_SHA1WITHRSA, "SHA1-RSA"),
        (oid::OID_PKCS1_SHA256WITHRSA, "SHA256-RSA"),
        (oid::OID_PKCS1_SHA384WITHRSA, "SHA384-RSA"),
        (oid::OID_PKCS1_SHA512WITHRSA, "SHA512-RSA"),
        (oid::OID_SIG_ECDSA_WITH_SHA256, "SHA256-ECDSA"),
        (oid::OID_SIG_ECDSA_WITH_SHA384, "SHA384-ECDSA"),
        (oid::OID_SIG_ECDSA_WITH_SHA512, "SHA512-ECDSA"),
    ];
    known.iter().find(|(known, _)| known == id).map_or_else(|| id.to_id_string(), |(_, name)| (*name).to_owned())
}

/// DSA keys are documented as accepted, but no algorithm type is for them: they are refused here, as all others are.
fn algorithm_type(certificate: &X509Certificate<'_>) -> Result<&'static str, Refusal> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(_)) => Ok("RSA"),
        Ok(PublicKey::EC(_)) => Ok("ECC"),
        _ => Err(invalid()),
    }
}

/// The organizations of the issuer, or its common names if it has none: the documents only say that there is a list.
fn issuer(name: &X509Name<'_>) -> Vec<String> {
    let organizations = values(name.iter_organization());
    if organizations.is_empty() { values(name.iter_common_name()) } else { organizations }
}

fn values<'a>(attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Vec<String> {
    attributes.filter_map(|attribute| attribute.as_str().ok()).map(str::to_owned).collect()
}

/// Times before 1970 are refused, which is our choice.
fn seconds(time: ASN1Time) -> Result<SystemTime, Refusal> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_| invalid())?;
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn whole_seconds(time: ASN1Time) -> Result<String, Refusal> {
    Ok(humantime::format_rfc3339_seconds(seconds(time)?).to_string())
}

pub(super) fn invalid() -> Refusal {
    refusal("APIG.2106", "Invalid certificate or private key.")
}

pub(super) fn refusal(code: &'static str, text: &str) -> Refusal {
    Refusal::service(StatusCode::BAD_REQUEST, code, text)
}
