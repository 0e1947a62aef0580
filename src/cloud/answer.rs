//! Reads an answer of the cloud: success with its message, or the error that it means.

use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Error, Operation, Refusal, Success, X_REQUEST_ID};
use crate::{mask::Masker, upstream::Response};

/// Success is the one status that the operation documents. Texts of the answer are masked here, before anything is cut.
pub(crate) fn read<O: Operation>(answer: &Response, masker: &Masker<'_>) -> Result<Success<O::Response>, Error> {
    let raw = |name: &HeaderName| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let text = |name: &HeaderName| raw(name).map(|text| masker.mask(text).into_owned());
    let request_id = request_id(answer.headers.get(&X_REQUEST_ID), masker);
    let status = answer.status;
    if status == O::SUCCESS {
        return match O::decode(&answer.body) {
            Ok(response) => Ok(Success { response, request_id, is_confirmed: false }),
            // The text quotes the answer.
            Err(fault) => {
                let cause = masker.mask(&fault.to_string()).into_owned();
                Err(Error::Malformed { status, cause, request_id })
            }
        };
    }
    if status.is_redirection() {
        return Err(Error::Redirected { status, request_id });
    }
    if status < StatusCode::BAD_REQUEST {
        let content_type = text(&header::CONTENT_TYPE).map(|text| text.chars().take(100).collect());
        return Err(Error::Unexpected { status, content_type, request_id });
    }
    // Times are read as they are: a short secret may look like one.
    let retry_after = raw(&header::RETRY_AFTER).and_then(|text| retry_after(text, SystemTime::now()));
    let mut refusal = Refusal::read(masker, status.as_u16(), request_id, retry_after, &answer.body);
    if status == StatusCode::UNAUTHORIZED {
        refusal.date = raw(&header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    }
    Err(Error::Refused(Box::new(refusal)))
}

/// The cloud's id for a request. One that would not fit a header, nor a log line, is no use to anyone.
pub(super) fn request_id(header: Option<&HeaderValue>, masker: &Masker<'_>) -> Option<String> {
    let id = masker.mask(header?.to_str().ok()?).into_owned();
    (1..=128).contains(&id.len()).then_some(id)
}

/// `Retry-After` as a pause: seconds, or the time until a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok().map(|date| date.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_given_in_seconds_or_as_a_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        assert_eq!(retry_after("3", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(" 0 ", now), Some(Duration::ZERO));
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:28:05 GMT", now), Some(Duration::from_secs(5)));
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:27:00 GMT", now), Some(Duration::ZERO));
        for nonsense in ["", "-1", "1.5", "soon", "99999999999999999999"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }
}
