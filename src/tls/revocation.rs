//! Certificate revocation lists for callers' certificates, checked when they are loaded: a list that the handshake could
//! not use would turn every caller away.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject as _};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::{about, read};

/// The revocation lists of one file.
#[derive(Debug, Default)]
pub(super) struct RevocationLists {
    pub(super) der: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them is due to be replaced, in seconds since 1970.
    pub(super) next_update: Option<i64>,
}

impl RevocationLists {
    /// Reads the lists, and holds them against the CAs that callers' certificates come from.
    ///
    /// # Errors
    ///
    /// The file can't be read or holds no list; a list is past its next update; a CA has no list, or one that its key has
    /// not signed.
    pub(super) fn load(path: &Path, authorities: &[CertificateDer<'_>], now: SystemTime) -> Result<Self, String> {
        let pem = read(path)?;
        let der: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
        let der = der.ok().filter(|der| !der.is_empty());
        let der = der.ok_or_else(|| about(path, "holds no certificate revocation list, or a broken one"))?;
        let lists = der.iter().map(|der| match CertificateRevocationList::from_der(der) {
            Ok(([], list)) => Ok(list),
            _ => Err(about(path, "holds a certificate revocation list that can't be read")),
        });
        let lists = lists.collect::<Result<Vec<_>, _>>()?;
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        let mut next_update = None;
        for (index, list) in lists.iter().enumerate() {
            let due = list.next_update().map(|time| time.timestamp()).filter(|due| *due > now);
            let due =
                due.ok_or_else(|| about(path, &format!("holds a list past its next update (number {})", index + 1)))?;
            next_update = Some(next_update.map_or(due, |first: i64| first.min(due)));
        }
        for (index, authority) in authorities.iter().enumerate() {
            let number = index + 1;
            let (_, authority) = X509Certificate::from_der(authority)
                .map_err(|_| about(path, &format!("can't be held against certificate {number} of tls-client-ca")))?;
            // The handshake takes the first list of an issuer, by name.
            let list = lists.iter().find(|list| list.issuer().as_raw() == authority.subject().as_raw());
            let list = list.ok_or_else(|| {
                about(
                    path,
                    &format!("holds no list of certificate {number} of tls-client-ca, whose callers would be refused"),
                )
            })?;
            list.verify_signature(authority.public_key()).map_err(|_| {
                about(path, &format!("holds a list that certificate {number} of tls-client-ca has not signed"))
            })?;
        }
        Ok(Self { der, next_update })
    }
}
