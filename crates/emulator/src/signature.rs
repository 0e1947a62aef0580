//! Verifies request signatures by SDK-HMAC-SHA256: a second implementation of the documented algorithm.

use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use axum::http::Uri;

use super::caller::RequestHead;

/// The documented maximum difference between a request's date and the gateway's clock.
const DRIFT: Duration = Duration::from_secs(15 * 60);

/// Replaces the hash of an unsigned body. The SDK uses it for all content types but JSON and BSON;
/// accepting it for those too is our choice.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// A parsed `Authorization` header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim<'a> {
    pub(super) access: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

/// The reason for rejecting a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureError {
    /// The header or the date is malformed, or a required header is not signed.
    Malformed,
    /// The signature is of another key or another request.
    Mismatch,
    /// The date differs too much from the clock.
    Expired,
}

impl<'a> Claim<'a> {
    /// `SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…`
    pub(super) fn parse(authorization: &'a str) -> Option<Self> {
        let mut parts = authorization.strip_prefix("SDK-HMAC-SHA256 ")?.split(',').map(str::trim_start);
        let access = parts.next()?.strip_prefix("Access=")?;
        let signed: Vec<&str> = parts.next()?.strip_prefix("SignedHeaders=")?.split(';').collect();
        let signature = parts.next()?.strip_prefix("Signature=")?;
        // The guide requires only the date to be signed; the algorithm requires lower-case names in ascending order.
        // Refusing a repeated name is our choice.
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
        RequestHead { method, uri, headers }: &RequestHead,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), SignatureError> {
        let date = headers.get("x-sdk-date").and_then(|date| date.to_str().ok()).ok_or(SignatureError::Malformed)?;
        let moment = moment(date).ok_or(SignatureError::Malformed)?;
        let mut request = format!("{}\n{}\n{}\n", method.as_str().to_uppercase(), path(uri), query(uri)).into_bytes();
        for name in &self.signed {
            let mut values = headers.get_all(*name).iter();
            // The host is verified as sent: the SDK signs an explicit default port, the guide omits it, and both send
            // the host that they sign.
            let value = match (values.next(), values.next()) {
                (Some(value), None) => value.as_bytes(),
                // HTTP/2 sends it in `:authority`.
                (None, None) if *name == "host" => {
                    uri.authority().map(|host| host.as_str().as_bytes()).ok_or(SignatureError::Malformed)?
                }
                // The signature of a repeated header is not documented. Refusing it keeps unsigned values out.
                _ => return Err(SignatureError::Malformed),
            };
            request.extend([name.as_bytes(), b":", value.trim_ascii(), b"\n"].concat());
        }
        request.extend(format!("\n{}\n", self.signed.join(";")).bytes());
        let hash = hexadecimal(digest::digest(&digest::SHA256, body).as_ref());
        match headers.get("x-sdk-content-sha256").filter(|_| !body.is_empty()) {
            Some(given) if given == UNSIGNED => request.extend(UNSIGNED.bytes()),
            // The SDK signs any value that its caller gives. Requiring the hash of the body is our choice.
            Some(given) if *given != *hash => return Err(SignatureError::Mismatch),
            _ => request.extend(hash.bytes()),
        }
        let hash = hexadecimal(digest::digest(&digest::SHA256, &request).as_ref());
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let ours = hmac::sign(&key, format!("SDK-HMAC-SHA256\n{date}\n{hash}").as_bytes());
        verify_slices_are_equal(hexadecimal(ours.as_ref()).as_bytes(), self.signature.as_bytes())
            .map_err(|_| SignatureError::Mismatch)?;
        let distance = now.duration_since(moment).or_else(|_| moment.duration_since(now)).unwrap_or_default();
        if distance > DRIFT { Err(SignatureError::Expired) } else { Ok(()) }
    }
}

/// The canonical path: decoded, each segment encoded again, with a trailing slash.
fn path(uri: &Uri) -> String {
    let mut written: String =
        decoded(uri.path()).iter().map(|byte| if *byte == b'/' { "/".into() } else { encoded(*byte) }).collect();
    if !written.ends_with('/') {
        written.push('/');
    }
    written
}

/// The canonical query: parameters decoded, sorted and encoded again.
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

/// Percent-decodes. A percent sign without two hexadecimal digits stays as it is.
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
