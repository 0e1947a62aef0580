//! TLS on the gRPC port: certificate, key, callers' CA and revocation lists come from files that are loaded again when they
//! change. Files that can't be used are reported and counted, and their previous content stays in use. Also the TLS
//! configuration of every client of the gateway.

mod revocation;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio_util::task::AbortOnDropHandle;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use self::revocation::RevocationLists;
use crate::{file_watcher, telemetry::Metrics};

/// The files, as the settings name them.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// `None`: callers need no certificate.
    pub(crate) client_ca: Option<PathBuf>,
    /// `None`: revocation is not checked.
    pub(crate) client_crl: Option<PathBuf>,
}

/// The content of the files.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    config: Arc<ServerConfig>,
    /// The public content of the files, to tell a change from a mere touch. A new key has a new certificate.
    certificates: Vec<CertificateDer<'static>>,
    client_ca: Vec<CertificateDer<'static>>,
    client_crl: Vec<CertificateRevocationListDer<'static>>,
    /// When the first certificate of the chain ends, in seconds since 1970.
    not_after: i64,
    /// When the first of the revocation lists is due to be replaced, in seconds since 1970.
    next_update: Option<i64>,
}

/// TLS for new connections, as the files have it.
#[derive(Debug)]
pub(crate) struct Tls {
    current: Arc<RwLock<Loaded>>,
    _watch: AbortOnDropHandle<()>,
}

impl Settings {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A file can't be read or holds no PEM, the key is another certificate's, or the revocation lists can't be relied on.
    /// The text quotes no content of a file.
    pub(crate) fn load(&self) -> Result<Loaded, String> {
        let certificates = certificates_of(&self.certificate)?;
        let key = Zeroizing::new(read(&self.key)?);
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| about(&self.key, "holds no private key"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        // TLS 1.2 and 1.3: rustls knows no other.
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|fault| fault.to_string())?;
        let client_ca = self.client_ca.as_deref().map(certificates_of).transpose()?.unwrap_or_default();
        let lists = match &self.client_crl {
            None => RevocationLists::default(),
            Some(path) => RevocationLists::load(path, &client_ca, SystemTime::now())?,
        };
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in &client_ca {
                    roots.add(certificate.clone()).map_err(|fault| about(path, &fault.to_string()))?;
                }
                // With lists, every certificate of a caller's chain must be on record as not revoked: an unknown status is
                // refused. A list past its next update still counts: it is replaced as soon as a newer one can be loaded.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .with_crls(lists.der.iter().cloned())
                    .build()
                    .map_err(|fault| about(self.client_crl.as_deref().unwrap_or(path), &fault.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates.clone(), key)
            .map_err(|fault| about(&self.certificate, &format!("can't be used with its key: {fault}")))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // No resumption, so that every connection is held against the certificates of its day. Connections last: a full
        // handshake is rare.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let not_after = certificates.iter().map(|der| not_after(der)).min().flatten();
        let not_after = not_after.ok_or_else(|| about(&self.certificate, "holds a certificate that can't be read"))?;
        let RevocationLists { der: client_crl, next_update } = lists;
        Ok(Loaded { config: Arc::new(config), certificates, client_ca, client_crl, not_after, next_update })
    }

    fn files(&self) -> Vec<PathBuf> {
        let optional = [self.client_ca.as_ref(), self.client_crl.as_ref()];
        [&self.certificate, &self.key].into_iter().chain(optional.into_iter().flatten()).cloned().collect()
    }
}

impl Loaded {
    fn is_like(&self, other: &Self) -> bool {
        self.certificates == other.certificates
            && self.client_ca == other.client_ca
            && self.client_crl == other.client_crl
    }

    fn report(&self, metrics: &Metrics) {
        metrics.tls_not_after.set(self.not_after);
        metrics.tls_crl_next_update.set(self.next_update.unwrap_or_default());
    }
}

impl Tls {
    /// Serves with the loaded files, and follows them. Needs a runtime.
    pub(crate) fn start(settings: Settings, loaded: Loaded, metrics: Arc<Metrics>) -> Self {
        loaded.report(&metrics);
        let current = Arc::new(RwLock::new(loaded));
        let held = Arc::clone(&current);
        let reloads = metrics.file_reloads("tls-certificate");
        let watch = file_watcher::watch(settings.files(), reloads, move || {
            let loaded = settings.load()?;
            loaded.report(&metrics);
            let mut current = held.write().unwrap_or_else(PoisonError::into_inner);
            let is_changed = !current.is_like(&loaded);
            *current = loaded;
            Ok(is_changed)
        });
        Self { current, _watch: watch }
    }

    /// The configuration for a new connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }
}

/// The configuration of a client: the platform's roots and these, a certificate to show, HTTP/2 or HTTP/1.1.
///
/// # Errors
///
/// There are no roots at all, a root can't be used, or the key is another certificate's.
pub(crate) fn client(
    roots: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The configuration of a client that trusts nobody.
pub(crate) fn client_without_roots() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of all versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(about(path, "holds no certificate, or a broken one")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|fault| about(path, &format!("can't be read: {fault}")))
}

fn about(path: &Path, what: &str) -> String {
    format!("{} {what}", path.display())
}

fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
