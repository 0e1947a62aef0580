//! URLs of settings: those of upstreams hold no user, that of the proxy may.

use reqwest::Url;
use zeroize::Zeroizing;

use super::read::Reader;
use crate::upstream::Proxy;

/// The proxy towards the upstream. Its URL may hold a user and a password, but not as a flag, which other users of the host
/// can see.
pub(super) fn proxy(read: &mut Reader<'_>) -> Option<Proxy> {
    const KEY: &str = "upstream-proxy";
    let text = Zeroizing::new(read.text(KEY)?);
    let url = read.check(KEY, http_url(&text))?;
    if password_of(&text).is_some() && read.is_flag(KEY) {
        read.fault(KEY, "holds a user or a password, which must come from the environment or the file");
        return None;
    }
    read.check(KEY, Proxy::new(url))
}

/// The part of a URL that holds user and password.
pub(super) fn password_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (secret, _) = rest.split(['/', '?', '#']).next()?.rsplit_once('@')?;
    Some(secret)
}

pub(super) fn base_url(text: &str) -> Result<Url, &'static str> {
    let url = http_url(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password");
    }
    Ok(url)
}

fn http_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "must be an absolute URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("must begin with http:// or https://");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or a fragment");
    }
    Ok(url)
}
