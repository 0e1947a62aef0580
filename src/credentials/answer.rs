//! Classifies error responses of identity services as refusals or outages, and parses `Retry-After`.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use super::source::reason;
use crate::{mask::Masker, upstream::Response};

/// Whether an identity service refused the gateway's credentials or request, so that retries can't help. Other statuses may
/// come from proxies or a service that is starting; a 400 counts only with an error body of IAM.
pub(super) fn is_refusal(answer: &Response) -> bool {
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
        StatusCode::BAD_REQUEST => !reason(&answer.body, &Masker::default()).is_empty(),
        _ => false,
    }
}

/// The delay in `Retry-After`, in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // An overflowing number is still a request to wait.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;

    fn answer(status: u16, body: &'static str) -> Response {
        let status = StatusCode::from_u16(status).unwrap();
        Response { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn only_a_plain_no_is_a_refusal() {
        const IAM: [&str; 2] = [
            r#"{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}"#,
            r#"{"error_code":"IAM.0011","error_msg":"Request body is invalid."}"#,
        ];
        for status in 300..600 {
            for body in ["", "<html>", "{}"] {
                assert_eq!(is_refusal(&answer(status, body)), matches!(status, 401 | 403), "{status} {body}");
            }
            for body in IAM {
                assert_eq!(is_refusal(&answer(status, body)), matches!(status, 400 | 401 | 403), "{status} {body}");
            }
        }
    }

    #[test]
    fn retry_after_is_in_seconds_or_a_date() {
        let asked = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, value)]))
        };
        assert_eq!(asked(" 7 "), Some(Duration::from_secs(7)));
        for huge in ["18446744073709551615", "99999999999999999999999999"] {
            assert_eq!(asked(huge), Some(Duration::from_secs(u64::MAX)), "{huge}");
        }
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(asked("Fri, 31 Dec 9999 23:59:59 GMT") > Some(Duration::from_secs(3_600)));
        for nonsense in ["", "-1", "1.5", "soon"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }
}
