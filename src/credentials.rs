//! What authorizes a request to the cloud: the caller's own token, or one that the operator gave the gateway.

mod token_file;

use std::path::PathBuf;

use http::HeaderValue;

use self::token_file::TokenFile;
pub(crate) use self::token_file::read as read_token;
use crate::call::Call;

/// The caller must bring a token, and brought none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenMissing;

/// Which credentials to use. Files have been read once already.
#[derive(Debug, Clone)]
pub(crate) enum Settings {
    /// Each caller brings a token.
    Passthrough,
    /// One token.
    Token(HeaderValue),
    /// One token, as it was in a file that may change.
    TokenFile(PathBuf, HeaderValue),
}

/// Where tokens come from.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// Each caller brings a token.
    Passthrough,
    /// One token, given at the start.
    Token(HeaderValue),
    /// One token, kept in a file that may change.
    TokenFile(TokenFile),
}

impl Credentials {
    /// Begins to follow what may change. Needs a runtime.
    pub(crate) fn start(settings: Settings) -> Self {
        match settings {
            Settings::Passthrough => Self::Passthrough,
            Settings::Token(token) => Self::Token(token),
            Settings::TokenFile(path, token) => Self::TokenFile(TokenFile::follow(path, token)),
        }
    }

    /// The token for a call.
    ///
    /// # Errors
    ///
    /// [`TokenMissing`], where each caller brings a token.
    pub(crate) fn token(&self, call: &Call) -> Result<HeaderValue, TokenMissing> {
        match self {
            Self::Passthrough => call.token.clone().ok_or(TokenMissing),
            Self::Token(token) => Ok(token.clone()),
            Self::TokenFile(file) => Ok(file.current()),
        }
    }

    /// Another token in place of one that the cloud refused, if there is one by now.
    pub(crate) async fn replacement(&self, refused: &HeaderValue) -> Option<HeaderValue> {
        match self {
            Self::Passthrough | Self::Token(_) => None,
            Self::TokenFile(file) => file.newer_than(refused).await,
        }
    }

    /// Whether the gateway holds the credentials, rather than the caller.
    pub(crate) fn are_ours(&self) -> bool {
        !matches!(self, Self::Passthrough)
    }
}

/// Reads a token, marked so that it never shows in a log.
///
/// # Errors
///
/// It is empty, or has characters that a header can't carry.
pub(crate) fn parse_token(text: &str) -> Result<HeaderValue, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("holds no token");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds a token with characters that a header can't carry");
    }
    let mut token =
        HeaderValue::from_str(text).map_err(|_| "holds a token with characters that a header can't carry")?;
    token.set_sensitive(true);
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_shows_in_debug_output() {
        let credentials = Credentials::Token(parse_token(" canary\n").unwrap());
        assert!(!format!("{credentials:?}").contains("canary"));
    }

    #[test]
    fn a_token_must_fit_a_header() {
        for text in ["", " \n", "two words", "line\nbreak", "é"] {
            assert!(parse_token(text).is_err(), "{text:?}");
        }
    }
}
