//! The HTTP proxy towards an upstream: its URL without the user, and the user as a header.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use zeroize::Zeroizing;

use crate::secret;

/// A proxy and its credential.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    url: Url,
    /// The value of `Proxy-Authorization`.
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Takes user and password out of the URL, so that nothing that prints the URL prints them.
    ///
    /// # Errors
    ///
    /// The user or the password can't be part of a URL's authority.
    pub(crate) fn new(mut url: Url) -> Result<Self, &'static str> {
        let decoded = |text: &str| Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
        let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let authorization = if user.is_empty() && password.is_empty() {
            None
        } else {
            let pair = Zeroizing::new([user.as_slice(), b":", &password].concat());
            let text = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(&*pair))));
            Some(secret::header(&text).map_err(|_| "has a user or a password that no header can carry")?)
        };
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| "can't have a user or a password")?;
        Ok(Self { url, authorization })
    }

    /// The URL, without user and password.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_become_a_header_that_does_not_show() {
        let proxy = Proxy::new("http://us%65r:p%40ss@proxy.example:3128".parse().unwrap()).unwrap();
        assert_eq!(proxy.url().as_str(), "http://proxy.example:3128/");
        // "user:p@ss"
        assert_eq!(proxy.authorization().unwrap(), "Basic dXNlcjpwQHNz");
        let shown = format!("{proxy:?}");
        assert!(!shown.contains("dXNl") && !shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
        assert!(Proxy::new("http://proxy.example".parse().unwrap()).unwrap().authorization().is_none());
    }
}
