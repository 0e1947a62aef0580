//! Reads request metadata: request id, deadline, token, trace context, and the memory size of the head.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, request};

use crate::call::Trace;

pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static GRPC_PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// The memory overhead of a header: its map entry and its share of the index.
const HEADER_COST: usize = 128;

/// The memory of a request's head.
pub(super) fn size(head: &request::Parts) -> usize {
    let headers: usize = head.headers.iter().map(|(name, value)| HEADER_COST + name.as_str().len() + value.len()).sum();
    headers + head.uri.path().len() + head.uri.query().map_or(0, str::len)
}

/// The caller's request id if it is valid, else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |id: &&HeaderValue| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    headers.get(&X_REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Unique, but not secret: random bytes of the system would cost a system call.
        let random = fastrand::u128(..).to_ne_bytes();
        let random = random.first_chunk().expect("ten of sixteen");
        let milliseconds = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        let id = uuid::Builder::from_unix_timestamp_millis(milliseconds, random).into_uuid();
        let mut text = uuid::Uuid::encode_buffer();
        HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut text)).expect("hexadecimal digits and hyphens")
    })
}

/// The attempts of this call that the client library made before (gRFC A6).
pub(super) fn previous_attempts(headers: &HeaderMap) -> u32 {
    headers.get(&GRPC_PREVIOUS_ATTEMPTS).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// The caller's token, marked so that it never shows in a log.
pub(super) fn token(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut token = headers.get(&X_AUTH_TOKEN).filter(|token| !token.is_empty())?.clone();
    token.set_sensitive(true);
    Some(token)
}

/// W3C trace context. Other values under these names are not passed on to the cloud's front gateway.
pub(super) fn trace(headers: &HeaderMap) -> Trace {
    let sane = |value: &&HeaderValue| (1..=512).contains(&value.len()) && value.to_str().is_ok();
    let parent = headers.get(&TRACEPARENT).filter(sane).cloned();
    let state = parent.as_ref().and_then(|_| headers.get(&TRACESTATE)).filter(sane).cloned();
    Trace { parent, state, span: None }
}

/// The timeout of the call: the caller's `grpc-timeout`, at most `most`.
///
/// The caller's value is shortened a little, so that the gateway's status, which has the outcome of the change, arrives
/// before the caller's timer expires.
pub(super) fn timeout(headers: &HeaderMap, most: Duration) -> Result<Duration, ()> {
    let Some(value) = headers.get(&GRPC_TIMEOUT) else { return Ok(most) };
    let asked = value.to_str().ok().and_then(parse_timeout).ok_or(())?;
    let margin = (asked / 20).min(Duration::from_millis(20));
    Ok(asked.saturating_sub(margin).min(most))
}

/// `grpc-timeout`: 1 to 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("0n"), Some(Duration::ZERO));
        for wrong in ["", "S", "5", "-1S", "+1S", "123456789S", "1s", "5 S", "1é"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_caller_gets_its_answer_before_its_own_timer() {
        let with = |text: &str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("grpc-timeout"), text.parse().unwrap())]);
            timeout(&headers, Duration::from_secs(30))
        };
        assert_eq!(with("1S"), Ok(Duration::from_millis(980)));
        assert_eq!(with("100m"), Ok(Duration::from_millis(95)));
        assert_eq!(with("1H"), Ok(Duration::from_secs(30)));
        assert_eq!(with("soon"), Err(()));
        assert_eq!(timeout(&HeaderMap::new(), Duration::from_secs(30)), Ok(Duration::from_secs(30)));
    }

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        let with = |id: &[u8]| {
            let id = HeaderValue::from_bytes(id).unwrap();
            request_id(&HeaderMap::from_iter([(X_REQUEST_ID.clone(), id)]))
        };
        assert_eq!(with(b"abc-1"), "abc-1");
        for odd in [&b""[..], b"two words", &[b'x'; 129], b"\xff"] {
            assert_eq!(with(odd).len(), 36);
        }
    }
}
