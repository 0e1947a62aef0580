//! Spells refusals the way each part of the cloud does, and turns what the web framework refuses
//! into them. It does not know why anything is refused.

use axum::Json;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody, QueryRejection};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Extension, IntoResponse, Response};
use serde::Serialize;

/// An answer that says no. Handlers return it, and [`Refusal::write`] spells it once the request
/// has its number, which only the front gateway's bodies repeat.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: StatusCode,
    spelling: Spelling,
    text: String,
}

#[derive(Debug, Clone, Copy)]
enum Spelling {
    /// The gateway before every service: "not processed".
    Front(&'static str),
    /// The service itself; IAM uses the same form for codes that begin with `IAM.`.
    Service(&'static str),
    /// The other form of IAM, whose code is a number, the HTTP status.
    Keystone,
}

#[derive(Serialize)]
struct FrontBody<'a> {
    error_msg: &'a str,
    error_code: &'static str,
    request_id: &'a str,
}

#[derive(Serialize)]
struct ServiceBody<'a> {
    error_code: &'static str,
    error_msg: &'a str,
}

#[derive(Serialize)]
struct KeystoneBody<'a> {
    error: KeystoneError<'a>,
}

#[derive(Serialize)]
struct KeystoneError<'a> {
    code: u16,
    message: &'a str,
    title: &'static str,
}

impl Refusal {
    pub(super) fn front(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, spelling: Spelling::Front(code), text: text.into() }
    }

    pub(super) fn service(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, spelling: Spelling::Service(code), text: text.into() }
    }

    pub(super) fn keystone(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, spelling: Spelling::Keystone, text: text.into() }
    }

    /// A 400 about one named parameter, in the wording of the documented examples.
    pub(super) fn parameter(code: &'static str, text: &str, name: &str) -> Self {
        let text = format!("{text},parameterName:{name}. Please refer to the support documentation");
        Self::service(StatusCode::BAD_REQUEST, code, text)
    }

    /// A 400 about the request as a whole.
    pub(super) fn unreadable(why: impl std::fmt::Display) -> Self {
        Self::service(StatusCode::BAD_REQUEST, "APIG.2000", format!("Parameter error: {why}"))
    }

    /// The refusal of a path that the server does not have.
    ///
    /// It also covers a verb that a known path does not have: the same code means "operation not offered there".
    pub(super) fn unknown_path() -> Self {
        Self::front(
            StatusCode::NOT_FOUND,
            "APIG.0101",
            "The API does not exist or has not been published in the environment.",
        )
    }

    /// The error code as the body gives it, for the log. A Keystone body has but the status.
    pub(super) fn code(&self) -> Option<&'static str> {
        match self.spelling {
            Spelling::Front(code) | Spelling::Service(code) => Some(code),
            Spelling::Keystone => None,
        }
    }

    /// The answer in full. `headers` are those that other parts of the server have set already.
    pub(super) fn write(&self, request_id: &str, mut headers: HeaderMap) -> Response {
        let mut answer = match self.spelling {
            Spelling::Front(error_code) => {
                Json(FrontBody { error_msg: &self.text, error_code, request_id }).into_response()
            }
            Spelling::Service(error_code) => Json(ServiceBody { error_code, error_msg: &self.text }).into_response(),
            Spelling::Keystone => Json(KeystoneBody {
                error: KeystoneError {
                    code: self.status.as_u16(),
                    message: &self.text,
                    title: self.status.canonical_reason().unwrap_or_default(),
                },
            })
            .into_response(),
        };
        // It measured the empty body that stood in for this one.
        headers.remove(CONTENT_LENGTH);
        *answer.status_mut() = self.status;
        answer.headers_mut().extend(headers);
        answer
    }
}

impl IntoResponse for Refusal {
    /// Status alone: the body is written by [`Refusal::write`], from the extension.
    fn into_response(self) -> Response {
        (self.status, Extension(self)).into_response()
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::unreadable(rejection.body_text())
    }
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                Self::front(StatusCode::PAYLOAD_TOO_LARGE, "APIG.0201", "Request entity too large.")
            }
            _ => Self::front(StatusCode::BAD_REQUEST, "APIG.0201", "API request error."),
        }
    }
}
