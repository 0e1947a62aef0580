//! The cloud's API as functions: a request message goes in, success or an [`Error`] comes out. It has never heard of
//! gRPC's status codes or metadata.

mod catalogue;
mod error;
mod refusal;
mod rest;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

pub(crate) use self::{
    catalogue::{Kind, Plane, Processed, Row, rows},
    error::Error,
    refusal::{Refusal, Throttle},
    rest::{METHODS, Operation, Place},
};
use crate::{
    call::Call,
    credentials::{Credentials, TokenMissing},
    http::{Answer, Failure, Upstream},
};

static X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A client of the cloud's API.
#[derive(Debug)]
pub(crate) struct Client {
    upstream: Upstream,
    credentials: Credentials,
    place: Place,
}

/// What a successful call brought.
#[derive(Debug)]
pub(crate) struct Done<T> {
    pub(crate) response: T,
    /// The cloud's id for the request.
    pub(crate) request_id: Option<String>,
}

impl Client {
    pub(crate) fn new(upstream: Upstream, credentials: Credentials, place: Place) -> Self {
        Self { upstream, credentials, place }
    }

    /// The project that requests without one act on.
    pub(crate) fn default_project(&self) -> Option<&str> {
        self.place.default_project.as_deref()
    }

    /// Performs one operation. Dropping the future gives the request up, and its connection with it.
    ///
    /// # Errors
    ///
    /// Every [`Error`]: what the cloud refused, what kept the request from the cloud, what happened to its answer.
    pub(crate) async fn call<O: Operation>(&self, request: &O, call: &Call) -> Result<Done<O::Response>, Error> {
        let form = rest::form(request, &self.place).map_err(|unsafe_| Error::UnsafeRequest(unsafe_.0))?;
        let mut token = self.credentials.token(call).map_err(|TokenMissing| Error::TokenMissing)?;
        loop {
            let answer = self.attempt::<O>(&form, token.clone(), call).await?;
            match read::<O>(&answer) {
                Err(Error::Refused(refusal)) if refusal.kind() == Kind::Unauthenticated => {
                    call.progress.settled();
                    // A token that has just been replaced (they die early when permissions change) earns one repeat.
                    match self.credentials.replacement(&token).await {
                        Some(newer) => token = newer,
                        None => return Err(self.blame(refusal)),
                    }
                }
                other => return other,
            }
        }
    }

    /// One exchange, freshly authorized.
    async fn attempt<O: Operation>(&self, form: &rest::Form, token: HeaderValue, call: &Call) -> Result<Answer, Error> {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::ACCEPT, JSON.clone());
        if form.body.is_some() {
            headers.insert(header::CONTENT_TYPE, JSON.clone());
        }
        headers.insert(X_REQUEST_ID.clone(), call.request_id.clone());
        if let Some(parent) = &call.trace.parent {
            headers.insert(TRACEPARENT.clone(), parent.clone());
        }
        if let Some(state) = &call.trace.state {
            headers.insert(TRACESTATE.clone(), state.clone());
        }
        headers.insert(X_AUTH_TOKEN.clone(), token);
        self.upstream.exchange(O::VERB, &form.path, headers, form.body.clone(), &call.progress).await.map_err(
            |failure| match failure {
                Failure::NotSent(cause) => Error::Unreachable(cause),
                Failure::Lost(cause) => Error::ConnectionLost(cause),
                Failure::Garbled(cause) => Error::Garbled(cause),
            },
        )
    }

    /// Whose fault a refused credential is.
    fn blame(&self, refusal: Box<Refusal>) -> Error {
        if self.credentials.are_ours() { Error::CredentialsRefused(refusal) } else { Error::Refused(refusal) }
    }
}

/// Success is the one status that the operation documents.
pub(crate) fn read<O: Operation>(answer: &Answer) -> Result<Done<O::Response>, Error> {
    let text = |name: &HeaderName| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // An id that would not fit a header, nor a log line, is no use to anyone.
    let request_id = text(&X_REQUEST_ID).filter(|id| (1..=128).contains(&id.len()));
    let status = answer.status;
    if status == O::SUCCESS {
        return Ok(Done { response: O::Response::default(), request_id });
    }
    if status.is_redirection() {
        return Err(Error::Redirected { status, request_id });
    }
    if status < StatusCode::BAD_REQUEST {
        let content_type = text(&header::CONTENT_TYPE).map(|text| text.chars().take(100).collect());
        return Err(Error::Unexpected { status, content_type, request_id });
    }
    let retry_after = answer
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| retry_after(text, SystemTime::now()));
    Err(Error::Refused(Box::new(Refusal::read(status.as_u16(), request_id, retry_after, &answer.body))))
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
