//! Verifies requests that are signed with an access key: the algorithm SDK-HMAC-SHA256, read from
//! its description a second time. It does not know whose the keys are.

use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use axum::http::Uri;

use super::caller::Asked;

/// The documented distance that a request's date may have from the gateway's clock.
const DRIFT: Duration = Duration::from_secs(15 * 60);

/// In place of the hash of a body that is not signed. The SDK says it of everything but JSON and BSON;
/// that it may be said of those too is ours.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What an `Authorization` header of this algorithm says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim<'a> {
    pub(super) access: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The header or the date does not have its form, or what must be signed is not.
    Malformed,
    /// Another key or another request.
    Wrong,
    /// The date is too far from now.
    Stale,
}

impl<'a> Claim<'a> {
    /// `SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…`
    pub(super) fn read(authorization: &'a str) -> Option<Self> {
        let mut parts = authorization.strip_prefix("SDK-HMAC-SHA256 ")?.split(',').map(str::trim_start);
        let access = parts.next()?.strip_prefix("Access=")?;
        let signed: Vec<&str> = parts.next()?.strip_prefix("SignedHeaders=")?.split(';').collect();
        let signature = parts.next()?.strip_prefix("Signature=")?;
        // Only the date must be signed, says the guide; in lower case and in ascending order, says the algorithm.
        // That a name may not come twice is ours.
        let is_plain = |name: &&str| !name.bytes().any(|byte| byte.is_ascii_uppercase());
        let in_order = signed.is_sorted_by(|name, next| name < next) && signed.iter().all(is_plain);
        let is_whole = parts.next().is_none() && in_order && signed.contains(&"x-sdk-date");
        is_whole.then_some(Self { access, signed, signature })
    }

    pub(super) fn covers(&self, header: &str) -> bool {
        self.signed.contains(&header)
    }

    /// Whether the request was signed with this secret.
    pub(super) fn verify(
        &self,
        secret: &str,
        Asked { method, uri, headers }: &Asked,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), Fault> {
        let date = headers.get("x-sdk-date").and_then(|date| date.to_str().ok()).ok_or(Fault::Malformed)?;
        let moment = moment(date).ok_or(Fault::Malformed)?;
        let mut request = format!("{}\n{}\n{}\n", method.as_str().to_uppercase(), path(uri), query(uri)).into_bytes();
        for name in &self.signed {
            let mut values = headers.get_all(*name).iter();
            // The host counts as it was sent: the SDK signs a default port that is written, the guide leaves it out,
            // and both send what they sign.
            let value = match (values.next(), values.next()) {
                (Some(value), None) => value.as_bytes(),
                // HTTP/2 has it in the URI.
                (None, None) if *name == "host" => {
                    uri.authority().map(|host| host.as_str().as_bytes()).ok_or(Fault::Malformed)?
                }
                // What a repeated header counts as is not described. Refused, none of its values passes unsigned.
                _ => return Err(Fault::Malformed),
            };
            request.extend([name.as_bytes(), b":", value.trim_ascii(), b"\n"].concat());
        }
        request.extend(format!("\n{}\n", self.signed.join(";")).bytes());
        let hash = hexadecimal(digest::digest(&digest::SHA256, body).as_ref());
        match headers.get("x-sdk-content-sha256").filter(|_| !body.is_empty()) {
            Some(given) if given == UNSIGNED => request.extend(UNSIGNED.bytes()),
            // The SDK signs whatever its caller calls the hash. That it must be the body's is ours.
            Some(given) if *given != *hash => return Err(Fault::Wrong),
            _ => request.extend(hash.bytes()),
        }
        let hash = hexadecimal(digest::digest(&digest::SHA256, &request).as_ref());
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let ours = hmac::sign(&key, format!("SDK-HMAC-SHA256\n{date}\n{hash}").as_bytes());
        verify_slices_are_equal(hexadecimal(ours.as_ref()).as_bytes(), self.signature.as_bytes())
            .map_err(|_| Fault::Wrong)?;
        let distance = now.duration_since(moment).or_else(|_| moment.duration_since(now)).unwrap_or_default();
        if distance > DRIFT { Err(Fault::Stale) } else { Ok(()) }
    }
}

/// Decodes the path, encodes what is between its slashes, and ends it in a slash.
fn path(uri: &Uri) -> String {
    let mut written: String =
        decoded(uri.path()).iter().map(|byte| if *byte == b'/' { "/".into() } else { encoded(*byte) }).collect();
    if !written.ends_with('/') {
        written.push('/');
    }
    written
}

/// The parameters, decoded, in order, and encoded.
fn query(uri: &Uri) -> String {
    let mut parameters: Vec<(Vec<u8>, Vec<u8>)> = uri
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| match parameter.find('=') {
            Some(at) => (decoded(&parameter[..at]), decoded(&parameter[at + 1..])),
            None => (decoded(parameter), Vec::new()),
        })
        .collect();
    parameters.sort();
    let written = |bytes: &[u8]| bytes.iter().copied().map(encoded).collect::<String>();
    parameters.iter().map(|(name, value)| written(name) + "=" + &written(value)).collect::<Vec<_>>().join("&")
}

fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// A percent sign that two hexadecimal digits do not follow stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let code = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        plain.push(code.unwrap_or(*byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    plain
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// `20251022T083015Z`
fn moment(date: &str) -> Option<SystemTime> {
    let part = |from, to| date.get(from..to);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?
    );
    let is_whole = date.len() == 16 && part(8, 9) == Some("T") && date.ends_with('Z');
    humantime::parse_rfc3339(&text).ok().filter(|_| is_whole)
}
