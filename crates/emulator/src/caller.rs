//! Finds out who asks, by a signature or by a token, and what they may do in a project. It does not
//! know what is asked for.

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
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl Asked {
    /// The text of a header; none for one that has no text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// That a signature counts before a token is ours.
    fn authorization(&self) -> Option<&str> {
        self.header(AUTHORIZATION.as_str())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { method: parts.method.clone(), uri: parts.uri.clone(), headers: parts.headers.clone() })
    }
}

impl Cloud {
    /// What the caller of the API may do in `project`.
    pub(super) fn grant(&self, asked: &Asked, body: &[u8], project: &str) -> Result<Grant, Refusal> {
        let now = (self.clock)();
        let Some(authorization) = asked.authorization() else {
            return self.tokens.check(&asked.headers, project, now);
        };
        let signed = self.keys.check(authorization, asked, body, now);
        let user = signed.map_err(|text| Refusal::front(StatusCode::UNAUTHORIZED, "APIG.0301", text))?;
        // The SDK sends the project in a header too. What the cloud does with another one than the path's is not
        // documented; refused, a client that mixes up its projects is found out.
        if asked.headers.get("x-project-id").is_some_and(|named| named.as_bytes() != project.as_bytes()) {
            return Err(no_permission());
        }
        match self.world.user(&user).filter(|user| user.projects.iter().any(|own| own == project)) {
            Some(user) => Ok(Grant {
                user: user.name.clone(),
                project: Some(project.to_owned()),
                may_attach: user.may_attach,
                expires_at: None,
            }),
            None => Err(no_permission()),
        }
    }

    /// The user who asks IAM for something. How IAM words the refusal of a signature is not
    /// documented: here as the gateway does, with its own code for whoever it does not know.
    pub(super) fn user_of_iam(&self, asked: &Asked, body: &[u8]) -> Result<String, Refusal> {
        let now = (self.clock)();
        match asked.authorization() {
            Some(authorization) => self
                .keys
                .check(authorization, asked, body, now)
                .map_err(|text| Refusal::service(StatusCode::UNAUTHORIZED, "IAM.0001", text)),
            None => Ok(self.tokens.grant(asked.header("x-auth-token").unwrap_or_default(), now)?.user),
        }
    }
}
