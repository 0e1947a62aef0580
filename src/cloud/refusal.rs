//! Decodes an error response into a [`Refusal`]: kind, error code, message, ids. Accepts every error body that the cloud's
//! SDKs accept; for any other body the HTTP status determines the kind. [`crate::status`] maps kinds to gRPC codes.

mod json;

use std::time::{Duration, SystemTime};

use self::json::{Object, Value};
use super::catalogue::{self, Kind, Plane, Processed, Row};
use crate::mask::Masker;

/// The maximum length of a message: percent-encoded and with the details, it fits the default header limit of gRPC
/// clients, 8 KiB.
const MAX_MESSAGE: usize = 1024;

/// The maximum wait taken from `Retry-After`; a longer one is of no use to a program.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// An error response of the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The cloud's error code, if the body has one.
    pub(crate) code: Option<String>,
    /// The cloud's message, masked and cut; a generated one if the body has none.
    pub(crate) message: String,
    /// The cloud's request id.
    pub(crate) request_id: Option<String>,
    /// An opaque text for IAM's decoding API.
    pub(crate) encoded_authorization_message: Option<String>,
    /// The wait requested by `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// The cloud's clock, if clock skew may have invalidated a signature.
    pub(crate) date: Option<SystemTime>,
    /// The code's row in the catalogue.
    row: Option<&'static Row>,
}

impl Refusal {
    /// Decodes an error response. `body` is the part of the body that was read; its texts are masked before they are cut.
    pub(crate) fn read(
        masker: &Masker<'_>,
        status: u16,
        request_id: Option<String>,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim();
        let object = serde_json::from_str::<Object<'_>>(text).ok();
        let found = object.map(|object| Body::of(&object, status, masker)).unwrap_or_default();
        Self {
            status,
            message: match (&found.message, &found.code) {
                (Some(message), _) => cut(message, MAX_MESSAGE),
                (None, Some(code)) => format!("the cloud answered {status} {code} without a message"),
                (None, None) => without_message(status, &masker.mask(text)),
            },
            row: found.code.as_deref().and_then(|code| catalogue::find(code, status)),
            code: found.code,
            request_id: request_id.or(found.request_id),
            encoded_authorization_message: found.encoded_authorization_message,
            retry_after: retry_after.map(|wait| wait.min(MAX_WAIT)),
            date: None,
        }
    }

    /// The code's row in the catalogue.
    pub(crate) fn row(&self) -> Option<&'static Row> {
        self.row
    }

    /// The kind of the refusal: by the catalogue, else by the HTTP status.
    pub(crate) fn kind(&self) -> Kind {
        self.row().map_or_else(|| by_status(self.status, self.code.is_some()), |row| row.kind)
    }

    /// Whether the request was processed: by the catalogue, else by the HTTP status.
    pub(crate) fn processed(&self) -> Processed {
        self.row().map_or_else(
            || match self.status {
                429 | 503 => Processed::No,
                400..=499 => Processed::Yes,
                _ => Processed::Unknown,
            },
            |row| row.processed,
        )
    }

    /// The layer that refused, if known.
    pub(crate) fn plane(&self) -> Option<Plane> {
        self.row().map(|row| row.plane)
    }

    /// The wait before a retry, if waiting helps: by `Retry-After`, else by the message, else by the catalogue.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let by_status = matches!(self.status, 429 | 503).then_some(Duration::from_secs(1));
        self.retry_after
            // After a full window the quota has been reset.
            .or_else(|| self.throttle().map(|throttle| throttle.window.min(MAX_WAIT)))
            .or_else(|| self.row().map_or(by_status, |row| row.wait))
    }

    /// Whether the cloud requested the wait.
    pub(crate) fn is_wait_asked(&self) -> bool {
        self.retry_after.is_some()
    }

    /// Whether the cloud throttles requests.
    pub(crate) fn is_throttling(&self) -> bool {
        self.kind() == Kind::ResourceExhausted
    }

    /// The limit in the message of a throttling error.
    pub(crate) fn throttle(&self) -> Option<Throttle<'_>> {
        self.is_throttling().then(|| Throttle::parse(&self.message)).flatten()
    }

    /// The parameters named in the message, as in `parameterName:domain_id`.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.message.split("parameterName:").skip(1).filter_map(|rest| {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.-[]".contains(c))).unwrap_or(rest.len());
            let name = rest.get(..end).unwrap_or_default().trim_end_matches('.');
            (1..=128).contains(&name.len()).then_some(name)
        })
    }
}

/// A limit in the front gateway's message: `policy user over ratelimit,limit:200,time:5 minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Throttle<'a> {
    /// The scope of the limit: `user`, `api`, `ip`.
    pub(crate) policy: &'a str,
    pub(crate) limit: u64,
    pub(crate) window: Duration,
}

impl<'a> Throttle<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (_, rest) = text.split_once("policy ")?;
        let (policy, rest) = rest.split_once(" over ratelimit,limit:")?;
        let (limit, rest) = rest.split_once(",time:")?;
        let (number, rest) = rest.split_once(' ')?;
        let unit = rest.get(..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()))?;
        let seconds = match unit.strip_suffix('s').unwrap_or(unit) {
            "second" => 1,
            "minute" => 60,
            "hour" => 3600,
            "day" => 86_400,
            _ => return None,
        };
        let window = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?);
        let is_word = (1..=32).contains(&policy.len()) && policy.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_word.then_some(Self { policy, limit: limit.parse().ok()?, window })
    }
}

/// The kind of an HTTP status, for errors without a row in the catalogue.
fn by_status(status: u16, has_code: bool) -> Kind {
    match status {
        400 => Kind::InvalidArgument,
        401 => Kind::Unauthenticated,
        403 => Kind::PermissionDenied,
        404 => Kind::NotFound,
        409 => Kind::Aborted,
        412 => Kind::FailedPrecondition,
        429 => Kind::ResourceExhausted,
        501 => Kind::Unimplemented,
        502 | 503 => Kind::Unavailable,
        504 => Kind::DeadlineExceeded,
        // The service's errors have a code; without one the response is from another server, as of a wrong address.
        400..=499 if has_code => Kind::InvalidArgument,
        _ => Kind::Internal,
    }
}

/// The fields of an error body.
#[derive(Debug, Default)]
struct Body {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    encoded_authorization_message: Option<String>,
}

impl Body {
    /// The field names of code and message in the cloud's services and IAM: at the top level, or one level below.
    const PAIRS: [(&str, &str); 3] = [("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message")];

    fn of(top: &Object<'_>, status: u16, masker: &Masker<'_>) -> Self {
        let pair = |object| Self::pair(object, status, masker);
        let (code, message) = pair(top).or_else(|| top.inner().find_map(pair)).unwrap_or_default();
        let text = |name: &str, most: usize| {
            std::iter::once(top).chain(top.inner()).find_map(|object| short(object.get(name)?, most, masker))
        };
        Self {
            code,
            message,
            request_id: text("request_id", 128),
            encoded_authorization_message: text("encoded_authorization_message", 16 * 1024),
        }
    }

    /// Code and message of one object. One of the two suffices.
    fn pair(object: &Object<'_>, status: u16, masker: &Masker<'_>) -> Option<(Option<String>, Option<String>)> {
        // A documented code is not masked, even if it equals a short token.
        let known = |value: &Value<'_>| {
            value.as_str().filter(|code| catalogue::find(code, status).is_some()).map(str::to_owned)
        };
        Self::PAIRS.iter().find_map(|(code, message)| {
            let code = object.get(code).and_then(|value| known(value).or_else(|| short(value, 64, masker)));
            let code = code.filter(|code| is_code(code));
            let message = object.get(message).and_then(Value::as_str).map(|text| masker.mask(text).into_owned());
            (code.is_some() || message.is_some()).then_some((code, message))
        })
    }
}

/// A short printable text or a number, as Keystone's codes are.
fn short(value: &Value<'_>, most: usize, masker: &Masker<'_>) -> Option<String> {
    let text = match value {
        Value::Text(text) => masker.mask(text).into_owned(),
        Value::Number(number) => masker.mask(&number.to_string()).into_owned(),
        Value::Object(_) | Value::Other => return None,
    };
    ((1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
}

fn is_code(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn without_message(status: u16, body: &str) -> String {
    if body.is_empty() {
        return format!("the cloud answered {status} without a body");
    }
    // An excerpt long enough to recognize the server that sent the page, in one line.
    let excerpt: String = body.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
    let excerpt = excerpt.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("the cloud answered {status} with a body that is no error object: {}", cut(&excerpt, 200))
}

/// Cuts at a character boundary and marks the cut with an ellipsis.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let kept = (0..=most - '…'.len_utf8()).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    format!("{kept}…")
}

#[cfg(test)]
mod tests;
