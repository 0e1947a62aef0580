//! An answer that is not success becomes a [`Refusal`]: kind, error code, message, ids. Every shape of body that the
//! cloud's SDKs accept is read, and any other body still gives the kind from the HTTP status. It knows no gRPC.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::catalogue::{self, Kind, Plane, Processed, Row};
use crate::mask::Masker;

/// The longest message that reaches a caller: with its percent-encoding and the details, the answer still fits the
/// 8 KiB of header space that gRPC clients give by default.
const MOST_MESSAGE: usize = 1024;

/// The longest wait that a `Retry-After` may ask for; longer is no hint to a program any more.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What the cloud said when it did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The cloud's error code, if the body has one.
    pub(crate) code: Option<String>,
    /// The cloud's message, masked and cut; ours if the body has none.
    pub(crate) message: String,
    /// The cloud's id for the request.
    pub(crate) request_id: Option<String>,
    /// An opaque text that IAM can decode.
    pub(crate) encoded_authorization_message: Option<String>,
    /// How long the cloud asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The cloud's clock, where a signature's date may be what is wrong.
    pub(crate) date: Option<SystemTime>,
    /// Looked up once.
    row: Option<&'static Row>,
}

impl Refusal {
    /// Reads an answer. `body` is the part of the body that was read; each text of it is masked before it is cut.
    pub(crate) fn read(
        masker: &Masker<'_>,
        status: u16,
        request_id: Option<String>,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim();
        let json = serde_json::from_str::<Value>(text).ok();
        let found = json.map(|json| Body::read(json, status, masker)).unwrap_or_default();
        Self {
            status,
            message: match (&found.message, &found.code) {
                (Some(message), _) => cut(message, MOST_MESSAGE),
                (None, Some(code)) => format!("the cloud answered {status} {code} without a message"),
                (None, None) => without_message(status, &masker.mask(text)),
            },
            row: found.code.as_deref().and_then(|code| catalogue::find(code, status)),
            code: found.code,
            request_id: request_id.or(found.request_id),
            encoded_authorization_message: found.encoded_authorization_message,
            retry_after: retry_after.map(|wait| wait.min(LONGEST_WAIT)),
            date: None,
        }
    }

    /// What the catalogue knows of the code.
    pub(crate) fn row(&self) -> Option<&'static Row> {
        self.row
    }

    /// What the refusal means: by the catalogue, else by the HTTP status.
    pub(crate) fn kind(&self) -> Kind {
        self.row().map_or_else(|| by_status(self.status, self.code.is_some()), |row| row.kind)
    }

    /// Whether the request has been acted on: by the catalogue, else by the HTTP status.
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

    /// The layer that refused, where that is known.
    pub(crate) fn plane(&self) -> Option<Plane> {
        self.row().map(|row| row.plane)
    }

    /// How long to wait before a repeat, if waiting helps: as the cloud asks, else as its text says, else as the catalogue
    /// advises.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let by_status = matches!(self.status, 429 | 503).then_some(Duration::from_secs(1));
        self.retry_after
            // When the window has passed, it has certainly turned.
            .or_else(|| self.throttle().map(|throttle| throttle.window.min(LONGEST_WAIT)))
            .or_else(|| self.row().map_or(by_status, |row| row.wait))
    }

    /// Whether the cloud itself asks for the wait.
    pub(crate) fn is_wait_asked(&self) -> bool {
        self.retry_after.is_some()
    }

    /// Whether the cloud refuses since there are too many requests.
    pub(crate) fn is_throttling(&self) -> bool {
        self.kind() == Kind::ResourceExhausted
    }

    /// The limit that a throttling text names.
    pub(crate) fn throttle(&self) -> Option<Throttle<'_>> {
        self.is_throttling().then(|| Throttle::read(&self.message)).flatten()
    }

    /// The parameters that the message names, as in `parameterName:domain_id`.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.message.split("parameterName:").skip(1).filter_map(|rest| {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.-[]".contains(c))).unwrap_or(rest.len());
            let name = rest.get(..end).unwrap_or_default().trim_end_matches('.');
            (1..=128).contains(&name.len()).then_some(name)
        })
    }
}

/// A limit as the front gateway's text names it: `policy user over ratelimit,limit:200,time:5 minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Throttle<'a> {
    /// Whom or what the limit is for: `user`, `api`, `ip`.
    pub(crate) policy: &'a str,
    pub(crate) limit: u64,
    pub(crate) window: Duration,
}

impl<'a> Throttle<'a> {
    fn read(text: &'a str) -> Option<Self> {
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

/// What a status means when nothing better is known.
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
        // The service refuses what it understands; without its code, the request did not reach a server that does.
        400..=499 if has_code => Kind::InvalidArgument,
        _ => Kind::Internal,
    }
}

/// What a body says of an error.
#[derive(Debug, Default)]
struct Body {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    encoded_authorization_message: Option<String>,
}

impl Body {
    /// The names that the cloud and its IAM use: at the top, or one object down.
    const PAIRS: [(&str, &str); 3] = [("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message")];

    fn read(json: Value, status: u16, masker: &Masker<'_>) -> Self {
        let Value::Object(top) = json else { return Self::default() };
        let inner = || top.values().filter_map(Value::as_object);
        let pair = |object: &Map<_, _>| Self::pair(object, status, masker);
        let (code, message) = pair(&top).or_else(|| inner().find_map(pair)).unwrap_or_default();
        let text = |name: &str, most: usize| {
            std::iter::once(&top).chain(inner()).find_map(|object| short(object.get(name)?, most, masker))
        };
        Self {
            code,
            message,
            request_id: text("request_id", 128),
            encoded_authorization_message: text("encoded_authorization_message", 16 * 1024),
        }
    }

    /// Code and message of one object. One of the two is enough, so that a body cut down to a code keeps it.
    fn pair(object: &Map<String, Value>, status: u16, masker: &Masker<'_>) -> Option<(Option<String>, Option<String>)> {
        // A documented code is no secret, even if a short token is spelled like it.
        let known =
            |value: &Value| value.as_str().filter(|code| catalogue::find(code, status).is_some()).map(str::to_owned);
        Self::PAIRS.iter().find_map(|(code, message)| {
            let code = object.get(*code).and_then(|value| known(value).or_else(|| short(value, 64, masker)));
            let code = code.filter(|code| is_code(code));
            let message = object.get(*message).and_then(Value::as_str).map(|text| masker.mask(text).into_owned());
            (code.is_some() || message.is_some()).then_some((code, message))
        })
    }
}

/// A short text; Keystone's codes are numbers.
fn short(value: &Value, most: usize, masker: &Masker<'_>) -> Option<String> {
    let text = match value {
        Value::String(text) => masker.mask(text).into_owned(),
        Value::Number(number) => masker.mask(&number.to_string()).into_owned(),
        _ => return None,
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
    // Enough to recognise whose page it is; mark-up and line breaks would not survive a terminal.
    let glimpse: String = body.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
    let glimpse = glimpse.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("the cloud answered {status} with a body that is no error object: {}", cut(&glimpse, 200))
}

/// Cuts at a character boundary, and shows it.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let kept = (0..=most - '…'.len_utf8()).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    format!("{kept}…")
}

#[cfg(test)]
mod tests;
