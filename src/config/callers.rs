//! TLS for callers, and the rules that decide about their calls.

use std::path::PathBuf;

use super::read::Reader;
use crate::{policy::Policy, server::Address, tls};

/// TLS for callers: `None` for plain text and after a fault.
pub(super) fn tls(read: &mut Reader<'_>, listen: Option<&Address>) -> Option<(tls::Settings, tls::Loaded)> {
    let path = |read: &Reader<'_>, key| read.text(key).map(PathBuf::from);
    let client_ca = path(read, "tls-client-ca");
    let client_crl = path(read, "tls-client-crl");
    if client_crl.is_some() && client_ca.is_none() {
        read.fault("tls-client-crl", "needs tls-client-ca");
        return None;
    }
    let settings = match (path(read, "tls-certificate"), path(read, "tls-key")) {
        (Some(certificate), Some(key)) => tls::Settings { certificate, key, client_ca, client_crl },
        (Some(_), None) => {
            read.fault("tls-certificate", "needs tls-key");
            return None;
        }
        (None, Some(_)) => {
            read.fault("tls-key", "needs tls-certificate");
            return None;
        }
        (None, None) => {
            if client_ca.is_some() {
                read.fault("tls-client-ca", "needs tls-certificate and tls-key");
            }
            return None;
        }
    };
    if matches!(listen, Some(Address::Unix(_))) {
        read.fault("tls-certificate", "needs a TCP port; on a Unix socket the kernel identifies callers");
        return None;
    }
    let loaded = read.check("tls-certificate", settings.load().map_err(|fault| format!("can't be used: {fault}")))?;
    Some((settings, loaded))
}

/// The rules: `None` after a fault.
pub(super) fn policy(read: &mut Reader<'_>, rules: &[toml::Table]) -> Option<Policy> {
    let policy = match Policy::read(rules) {
        Ok(policy) => policy,
        Err(faults) => {
            for fault in faults {
                read.fault_at("policy (file)", fault);
            }
            return None;
        }
    };
    if policy.names_certificates() && read.text("tls-client-ca").is_none() {
        read.fault_at(
            "policy (file)",
            "has rules for certificates, which callers present only if tls-client-ca is set",
        );
    }
    Some(policy)
}
