//! The identity of a peer, from a verified client certificate or from the kernel. Claims in requests are never used.

use std::{fmt, net::SocketAddr};

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// A peer, for as long as its connection lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    /// `None` on a Unix socket.
    pub(crate) address: Option<SocketAddr>,
}

/// The identity of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Identity {
    /// Unauthenticated.
    #[default]
    Nobody,
    /// The user id of the peer of a Unix socket.
    Uid(u32),
    /// The names in a verified certificate.
    Certificate(Names),
}

/// The subject alternative names of a certificate. The common name is not used, because its content is not constrained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Names {
    /// The SPIFFE id. A certificate with several URIs has none (SPIFFE X.509-SVID, section 2).
    pub(crate) spiffe: Option<String>,
    /// DNS names, in lower case.
    pub(crate) dns: Vec<String>,
}

impl Names {
    /// Reads the names in a DER certificate. A malformed certificate has none.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Self::default() };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return Self::default() };
        let names = &names.value.general_names;
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let spiffe = match (uris.next(), uris.next()) {
            (Some(uri), None) if uri.starts_with("spiffe://") && is_printable(uri) => Some(uri.to_owned()),
            _ => None,
        };
        let dns = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) if is_printable(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        Self { spiffe, dns: dns.collect() }
    }
}

/// Whether a name can be printed in a log line without starting another one.
fn is_printable(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Prints the most specific name, in the syntax of the policy. Names are cut, so that a certificate can't make log lines
/// arbitrarily long.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Certificate(Names { spiffe: Some(id), .. }) => write!(f, "{id:.512}"),
            Self::Certificate(Names { dns, .. }) => match dns.first() {
                Some(name) => write!(f, "dns:{name:.253}"),
                None => f.write_str("certificate without names"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn names(sans: Vec<SanType>) -> Names {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "common.example");
        params.subject_alt_names = sans;
        Names::of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn the_alternative_names_count_and_the_common_name_does_not() {
        let found = names(vec![uri("spiffe://example.org/a"), dns("A.example"), dns("b.example")]);
        assert_eq!(found.spiffe.as_deref(), Some("spiffe://example.org/a"));
        assert_eq!(found.dns, ["a.example", "b.example"]);
        assert_eq!(names(vec![]), Names::default());
    }

    #[test]
    fn a_name_that_would_break_a_log_line_is_no_name() {
        let found = names(vec![uri("spiffe://example.org/a\nb"), dns("a.example\n"), dns("b.example")]);
        assert_eq!(found, Names { spiffe: None, dns: vec!["b.example".into()] });
    }

    #[test]
    fn of_several_uris_none_is_an_identity() {
        assert_eq!(names(vec![uri("spiffe://example.org/a"), uri("spiffe://example.org/b")]).spiffe, None);
        assert_eq!(names(vec![uri("https://example.org/a")]).spiffe, None);
    }
}
