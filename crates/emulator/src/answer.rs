//! Writes error responses in the format of the service that refuses, and converts rejections of the
//! web framework into them.

use axum::Json;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody, QueryRejection};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Extension, IntoResponse, Response};
use serde::Serialize;

/// An error response. Handlers return it; [`Refusal::write`] writes the body once the request id is
/// known, because the front gateway's bodies repeat the id.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: StatusCode,
    format: Format,
    text: String,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    /// The front gateway, which refuses before the service processes the request.
    Front(&'static str),
    /// The service itself; IAM uses the same format for codes that begin with `IAM.`.
    Service(&'static str),
    /// IAM's Keystone format. Its code is the HTTP status, as a number.
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
        Self { status, format: Format::Front(code), text: text.into() }
    }

    pub(super) fn service(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, format: Format::Service(code), text: text.into() }
    }

    pub(super) fn keystone(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, format: Format::Keystone, text: text.into() }
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

    /// A 404 for an unknown path.
    ///
    /// Also used for an unknown method of a known path: the documented meaning of the code covers both.
    pub(super) fn unknown_path() -> Self {
        Self::front(
            StatusCode::NOT_FOUND,
            "APIG.0101",
            "The API does not exist or has not been published in the environment.",
        )
    }

    /// The error code in the body, for the log. A Keystone body has none besides the status.
    pub(super) fn code(&self) -> Option<&'static str> {
        match self.format {
            Format::Front(code) | Format::Service(code) => Some(code),
            Format::Keystone => None,
        }
    }

    /// The text, for people.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The complete response. `headers` are the headers that other layers have set already.
    pub(super) fn write(&self, request_id: &str, mut headers: HeaderMap) -> Response {
        let mut answer = match self.format {
            Format::Front(error_code) => {
                Json(FrontBody { error_msg: &self.text, error_code, request_id }).into_response()
            }
            Format::Service(error_code) => Json(ServiceBody { error_code, error_msg: &self.text }).into_response(),
            Format::Keystone => Json(KeystoneBody {
                error: KeystoneError {
                    code: self.status.as_u16(),
                    message: &self.text,
                    title: self.status.canonical_reason().unwrap_or_default(),
                },
            })
            .into_response(),
        };
        // The length of the empty placeholder body.
        headers.remove(CONTENT_LENGTH);
        *answer.status_mut() = self.status;
        answer.headers_mut().extend(headers);
        answer
    }
}

impl IntoResponse for Refusal {
    /// The status and a placeholder body: [`Refusal::write`] writes the body from the extension.
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
