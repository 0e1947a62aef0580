//! Rejects endpoints to which secrets would travel in plain text: every request carries a token or a signature.

use std::net::IpAddr;

use reqwest::Url;

use super::read::Reader;

/// Notes a fault if requests to this URL cross a network unencrypted, unless `allow-plaintext-upstream` permits it.
pub(super) fn check(read: &mut Reader<'_>, key: &'static str, base: &Url, proxy: Option<&Url>) {
    if let Err(what) = encrypted(base, proxy) {
        refuse(read, key, what);
    }
}

/// The same for the services that give temporary keys, see [`near`].
pub(super) fn check_near(read: &mut Reader<'_>, key: &'static str, base: &Url) {
    if let Err(what) = near(base) {
        refuse(read, key, what);
    }
}

/// Whether the operator permits plain text.
pub(super) fn is_allowed(read: &Reader<'_>) -> bool {
    read.text("allow-plaintext-upstream").as_deref() == Some("true")
}

fn refuse(read: &mut Reader<'_>, key: &'static str, what: &str) {
    if is_allowed(read) {
        read.note(format!("{key} {what}: allow-plaintext-upstream permits it"));
    } else {
        read.fault(key, format_args!("{what}: use https://, or set allow-plaintext-upstream = true"));
    }
}

/// Whether requests are encrypted or stay on this host.
///
/// # Errors
///
/// The reason why they don't.
pub(super) fn encrypted(base: &Url, proxy: Option<&Url>) -> Result<(), &'static str> {
    if base.scheme() == "https" {
        return Ok(());
    }
    if !is_local(base) {
        return Err(REMOTE);
    }
    // A proxy sees the whole request if its target is http.
    match proxy {
        Some(proxy) if proxy.scheme() == "http" && !is_local(proxy) => {
            Err("is http:// through a proxy on another host, which carries secrets in plain text")
        }
        _ => Ok(()),
    }
}

/// Whether requests go out only encrypted or on a link of the host's own, without a proxy: machines and containers get
/// temporary keys from link-local addresses.
///
/// # Errors
///
/// The reason why they don't.
pub(super) fn near(base: &Url) -> Result<(), &'static str> {
    if base.scheme() == "https" || is_local(base) || is_link_local(base) { Ok(()) } else { Err(REMOTE) }
}

const REMOTE: &str = "is http:// to another host, which carries secrets in plain text";

/// Whether it is this host. Host names other than localhost count as remote.
fn is_local(url: &Url) -> bool {
    match host(url) {
        Host::Address(address) => address.to_canonical().is_loopback(),
        Host::Name(name) => name.strip_suffix('.').unwrap_or(name) == "localhost",
    }
}

fn is_link_local(url: &Url) -> bool {
    match host(url) {
        Host::Address(address) => match address.to_canonical() {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        },
        Host::Name(_) => false,
    }
}

enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

/// The host, which a URL holds in lower case and with addresses in their usual form.
fn host(url: &Url) -> Host<'_> {
    let text = url.host_str().unwrap_or_default();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_or(Host::Name(text), Host::Address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn plain_text_stays_on_this_host() {
        for (base, is_fine) in [
            ("https://cloud.example", true),
            ("http://127.0.0.1:8080", true),
            ("http://127.1/x", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://LocalHost:80", true),
            ("http://localhost.", true),
            ("http://cloud.example", false),
            ("http://localhost.example", false),
            ("http://my.localhost", false),
            ("http://127.0.0.1.example", false),
            ("http://10.0.0.1", false),
            ("http://0.0.0.0", false),
            ("http://[fd00::1]", false),
            ("http://169.254.169.254", false),
        ] {
            assert_eq!(encrypted(&url(base), None).is_ok(), is_fine, "{base}");
        }
    }

    #[test]
    fn a_link_of_the_hosts_own_may_be_plain_for_temporary_keys() {
        for (base, is_fine) in [
            ("http://169.254.169.254", true),
            ("http://[fe80::1]", true),
            ("http://127.0.0.1:1/v1", true),
            ("http://metadata.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(near(&url(base)).is_ok(), is_fine, "{base}");
        }
    }

    #[test]
    fn a_proxy_hears_every_request_to_an_http_target() {
        for (base, proxy, is_fine) in [
            ("https://cloud.example", "http://proxy.example:3128", true),
            ("http://cloud.example", "http://127.0.0.1:3128", false),
            ("http://cloud.example", "https://proxy.example", false),
            ("http://127.0.0.1", "http://proxy.example", false),
            ("http://127.0.0.1", "https://proxy.example", true),
            ("http://127.0.0.1", "http://127.0.0.1:3128", true),
        ] {
            assert_eq!(encrypted(&url(base), Some(&url(proxy))).is_ok(), is_fine, "{base} {proxy}");
        }
    }
}
