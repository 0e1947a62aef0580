//! Authenticates a request by signature or token, and looks up the caller's permissions in a project.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri};

use super::Cloud;
use super::answer::Refusal;
use super::token::{Grant, no_permission};

/// A request without its body.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl RequestHead {
    /// The text of a header; none if it is absent or not printable ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// That a signature takes precedence over a token is our choice.
    fn authorization(&self) -> Option<&str> {
        self.header(AUTHORIZATION.as_str())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestHead {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { method: parts.method.clone(), uri: parts.uri.clone(), headers: parts.headers.clone() })
    }
}

impl Cloud {
    /// The permissions of an API caller in `project`.
    pub(super) fn grant(&self, request: &RequestHead, body: &[u8], project: &str) -> Result<Grant, Refusal> {
        let now = (self.clock)();
        let Some(authorization) = request.authorization() else {
            return self.tokens.check(&request.headers, project, now);
        };
        let signed = self.keys.check(authorization, request, body, now);
        let user = signed.map_err(|text| Refusal::front(StatusCode::UNAUTHORIZED, "APIG.0301", text))?;
        // The SDK sends the project in a header too. A mismatch with the path is not documented; refusing it exposes a
        // client that mixes up its projects.
        if request.headers.get("x-project-id").is_some_and(|named| named.as_bytes() != project.as_bytes()) {
            return Err(no_permission());
        }
        match self.world.user(&user).filter(|user| user.projects.iter().any(|id| id == project)) {
            Some(user) => Ok(Grant {
                user: user.name.clone(),
                project: Some(project.to_owned()),
                may_attach: user.may_attach,
                expires_at: None,
            }),
            None => Err(no_permission()),
        }
    }

    /// The user of an IAM request. IAM's text for a bad signature is not documented: here it is the
    /// front gateway's text with IAM's code for a failed authentication.
    pub(super) fn user_of_iam(&self, request: &RequestHead, body: &[u8]) -> Result<String, Refusal> {
        let now = (self.clock)();
        match request.authorization() {
            Some(authorization) => self
                .keys
                .check(authorization, request, body, now)
                .map_err(|text| Refusal::service(StatusCode::UNAUTHORIZED, "IAM.0001", text)),
            None => Ok(self.tokens.grant(request.header("x-auth-token").unwrap_or_default(), now)?.user),
        }
    }
}
