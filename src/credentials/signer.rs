//! Signs requests by SDK-HMAC-SHA256, the algorithm of the cloud's SDKs. Time and request are arguments.
//!
//! Steps and names follow the vendor's guide to AK/SK authentication; test vectors were made with the vendor's SDK.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{digest, hmac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

use super::keys::Keys;

static X_SDK_DATE: HeaderName = HeaderName::from_static("x-sdk-date");
static X_SDK_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-sdk-content-sha256");
static X_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-security-token");

const ALGORITHM: &str = "SDK-HMAC-SHA256";

/// All characters but the unreserved ones of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The request as sent, without its headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SigningInput<'a> {
    pub(crate) verb: &'a str,
    /// Host and port as the `Host` header has them.
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    /// Without the question mark; empty if absent.
    pub(crate) query: &'a str,
    pub(crate) body: &'a [u8],
}

/// Signs the request with all its headers, and adds the headers of the signature. Headers added later are not signed.
pub(crate) fn sign(keys: &Keys, input: SigningInput<'_>, headers: &mut HeaderMap, now: SystemTime) {
    if headers.contains_key(header::AUTHORIZATION) {
        return;
    }
    if let Some(token) = &keys.security_token {
        headers.insert(X_SECURITY_TOKEN.clone(), token.clone());
    }
    let is_plain = |kind: &HeaderValue| {
        kind.as_bytes().starts_with(b"application/json") || kind.as_bytes().starts_with(b"application/bson")
    };
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| !is_plain(kind)) {
        headers.insert(X_SDK_CONTENT_SHA256.clone(), HeaderValue::from_static("UNSIGNED-PAYLOAD"));
    }
    let date = headers.entry(X_SDK_DATE.clone()).or_insert_with(|| date(now)).clone();
    let (canonical, signed) = canonical_request(input, headers);
    let signature = hmac(keys.secret.expose().as_bytes(), &string_to_sign(&date, &canonical));
    let access = &keys.access_key_id;
    let text = format!("{ALGORITHM} Access={access}, SignedHeaders={signed}, Signature={signature}");
    let mut authorization = HeaderValue::from_str(&text).expect("the key's id was checked when it was read");
    authorization.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, authorization);
}

/// The signature in the header added by [`sign`]; the rest of the header is not secret.
pub(super) fn signature(authorization: &HeaderValue) -> Option<&[u8]> {
    authorization.as_bytes().rsplit(|byte| *byte == b'=').next()
}

/// The canonical request and the names of its signed headers. Wiped on drop, because it includes the security token.
fn canonical_request(input: SigningInput<'_>, headers: &HeaderMap) -> (Zeroizing<Vec<u8>>, String) {
    let mut signed: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes().trim_ascii()))
        .filter(|(name, _)| !name.contains('_'))
        .collect();
    // The HTTP client adds it when sending.
    if !headers.contains_key(header::HOST) {
        signed.push(("host", input.authority.as_bytes()));
    }
    signed.sort_unstable();
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");

    // Full capacity: a reallocation would leave an unwiped copy. Encoding at most triples the length of a path.
    let values: usize = signed.iter().map(|(name, value)| 2 * name.len() + value.len() + 3).sum();
    let room = 128 + input.verb.len() + 3 * (input.path.len() + input.query.len()) + values;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    let mut line = |parts: &[&[u8]]| {
        for part in parts {
            text.extend_from_slice(part);
        }
        text.push(b'\n');
    };
    line(&[input.verb.to_ascii_uppercase().as_bytes()]);
    line(&[canonical_path(input.path).as_bytes()]);
    line(&[canonical_query(input.query).as_bytes()]);
    for (name, value) in &signed {
        line(&[name.as_bytes(), b":", value]);
    }
    line(&[]);
    line(&[names.as_bytes()]);
    match headers.get(&X_SDK_CONTENT_SHA256) {
        Some(given) if !input.body.is_empty() => text.extend_from_slice(given.as_bytes()),
        _ => text.extend_from_slice(sha256(input.body).as_bytes()),
    }
    (text, names)
}

fn string_to_sign(date: &HeaderValue, canonical_request: &[u8]) -> Vec<u8> {
    [ALGORITHM.as_bytes(), date.as_bytes(), sha256(canonical_request).as_bytes()].join(&b'\n')
}

/// The canonical path: decoded, each segment encoded again, with a trailing slash.
fn canonical_path(path: &str) -> String {
    let decoded = decode(path);
    let mut canonical = String::with_capacity(decoded.len() + 1);
    for (at, piece) in decoded.split('/').enumerate() {
        if at > 0 {
            canonical.push('/');
        }
        canonical.extend(encode(piece));
    }
    if !canonical.ends_with('/') {
        canonical.push('/');
    }
    canonical
}

/// The canonical query: decoded, sorted by name and value, encoded again.
fn canonical_query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

fn encode(text: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(text, ENCODED)
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hmac(key: &[u8], bytes: &[u8]) -> String {
    hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |number: u8| DIGITS.get(usize::from(number)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// `YYYYMMDDTHHMMSSZ`, in UTC.
fn date(now: SystemTime) -> HeaderValue {
    // Dates beyond the year 9999 have no valid format.
    let now = now.clamp(UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(253_402_300_799));
    let text: String =
        humantime::format_rfc3339_seconds(now).to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    HeaderValue::from_str(&text).expect("digits and letters")
}

#[cfg(test)]
mod tests;
