//! An access key pair, permanent or temporary.

use http::HeaderValue;

use crate::secret::{self, Secret};

/// An access key id and its secret, with the security token that a temporary pair needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) access_key_id: String,
    pub(crate) secret: Secret,
    pub(crate) security_token: Option<HeaderValue>,
}

impl Keys {
    /// # Errors
    ///
    /// A part is empty or invalid in a header. The error quotes no part.
    pub(crate) fn new(access_key_id: &str, secret: &str, security_token: Option<&str>) -> Result<Self, &'static str> {
        let (access_key_id, secret) = (access_key_id.trim(), secret.trim());
        let is_plain =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if !is_plain(access_key_id) {
            return Err("holds no access key id");
        }
        if secret.is_empty() {
            return Err("holds no secret access key");
        }
        let security_token = match security_token.map(str::trim).filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => Some(
                secret::header(token)
                    .map_err(|_| "holds a security token with characters that are invalid in a header")?,
            ),
        };
        Ok(Self { access_key_id: access_key_id.to_owned(), secret: Secret::new(secret), security_token })
    }
}
