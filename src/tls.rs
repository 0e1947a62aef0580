//! TLS on the gRPC port: certificate, key and callers' CA come from files that are read again when they change. What can't
//! be used is told and counted, and what was there before serves on.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::{follow::follow, telemetry::Metrics};

/// The files, as the settings name them.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// `None`: callers need no certificate.
    pub(crate) client_ca: Option<PathBuf>,
}

/// What the files held.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    config: Arc<ServerConfig>,
    /// What was read, to tell a change from a mere touch.
    certificates: Vec<CertificateDer<'static>>,
    /// When the first certificate of the chain ends, in seconds since 1970.
    not_after: i64,
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
    /// One can't be read, holds no PEM, or the key is another certificate's. The text quotes nothing of a file.
    pub(crate) fn load(&self) -> Result<Loaded, String> {
        let certificates = certificates(&self.certificate)?;
        let key = Zeroizing::new(read(&self.key)?);
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| about(&self.key, "holds no private key"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        // TLS 1.2 and 1.3: rustls knows no other.
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|fault| fault.to_string())?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(path)? {
                    roots.add(certificate).map_err(|fault| about(path, &fault.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|fault| about(path, &fault.to_string()))?;
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
        Ok(Loaded { config: Arc::new(config), certificates, not_after })
    }

    fn files(&self) -> Vec<PathBuf> {
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }
}

impl Tls {
    /// Serves what was loaded, and follows the files. Needs a runtime.
    pub(crate) fn start(settings: Settings, loaded: Loaded, metrics: Arc<Metrics>) -> Self {
        metrics.tls_not_after.set(loaded.not_after);
        let current = Arc::new(RwLock::new(loaded));
        let held = Arc::clone(&current);
        let watch = follow(settings.files(), move || match settings.load() {
            Ok(loaded) => {
                metrics.tls_not_after.set(loaded.not_after);
                metrics.tls_reloads.inc();
                let mut current = held.write().unwrap_or_else(PoisonError::into_inner);
                if current.certificates != loaded.certificates {
                    info!(certificate = %settings.certificate.display(), not_after = loaded.not_after, "certificate read again");
                }
                *current = loaded;
            }
            Err(fault) => {
                metrics.tls_reload_failures.inc();
                warn!(%fault, "TLS files can't be used; the old ones serve on");
            }
        });
        Self { current, _watch: watch }
    }

    /// The configuration for a new connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
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
