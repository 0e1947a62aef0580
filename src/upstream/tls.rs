//! Certificates towards the upstream, from files that are loaded again when they change. All pools that use them change
//! together: each gets new clients, and requests in flight end on the old ones.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio_rustls::rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Pool, Settings, chain};
use crate::{file_watcher, secret::Secret, telemetry::Metrics, tls};

const CA: &str = "upstream-ca";
const CERTIFICATE: &str = "upstream-client-certificate";
const KEY: &str = "upstream-client-key";

/// A fault of a file: its setting, and the reason.
pub(super) type Fault = (&'static str, String);

/// The files, and the pools that use them.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    ca: Option<PathBuf>,
    /// Certificate and key.
    identity: Option<(PathBuf, PathBuf)>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    material: Material,
    configs: Configs,
    pools: Vec<Weak<Pool>>,
}

/// The content of the files, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Material {
    /// Roots to trust besides the platform's.
    roots: Option<Vec<u8>>,
    /// The client certificate and its key, one after the other.
    identity: Option<Secret<Vec<u8>>>,
}

/// The TLS configurations of one content of the files, each made when it is first needed: the platform's roots are read once,
/// for all clients.
#[derive(Debug, Default)]
pub(super) struct Configs {
    anonymous: Option<Arc<ClientConfig>>,
    identified: Option<Arc<ClientConfig>>,
}

impl TlsFiles {
    /// Reads the files, if there are any.
    ///
    /// # Errors
    ///
    /// Every file that can't be read. The content is checked by [`Settings::check`].
    pub(crate) fn load(ca: Option<PathBuf>, identity: Option<(PathBuf, PathBuf)>) -> Result<Self, Vec<Fault>> {
        let material = Material::read(ca.as_deref(), identity.as_ref())?;
        let current = Current { material, configs: Configs::default(), pools: Vec::new() };
        Ok(Self { ca, identity, current: Mutex::new(current) })
    }

    /// Follows the files until the handle is dropped; `None` if there are none. Needs a runtime.
    pub(crate) fn follow(self: &Arc<Self>, metrics: &Metrics) -> Option<AbortOnDropHandle<()>> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        let paths: Vec<_> = self.ca.iter().chain(identity).cloned().collect();
        if paths.is_empty() {
            return None;
        }
        let setting = if self.identity.is_some() { CERTIFICATE } else { CA };
        let files = Arc::clone(self);
        Some(file_watcher::watch(paths, metrics.file_reloads(setting), move || files.reload()))
    }

    pub(super) fn check(&self, settings: &Settings) -> Result<(), Fault> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let config = current.config(settings)?;
        settings.clients(&config).map(drop)
    }

    /// The configuration of the files as they are now.
    pub(super) fn config(&self, settings: &Settings) -> Result<Arc<ClientConfig>, Fault> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).config(settings)
    }

    /// Makes a pool that follows the files from now on.
    pub(super) fn pool(&self, settings: &Settings) -> Result<Arc<Pool>, Fault> {
        // Locked over both, so that no change of the files falls between them.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let config = current.config(settings)?;
        let pool = Arc::new(Pool::new(settings, &config)?);
        current.pools.retain(|pool| pool.strong_count() > 0);
        current.pools.push(Arc::downgrade(&pool));
        Ok(pool)
    }

    /// Gives every pool new clients if the files have changed: all of them, or none if one can't be made.
    fn reload(&self) -> Result<bool, String> {
        let text = |faults: Vec<Fault>| {
            faults.into_iter().map(|(setting, error)| format!("{setting} {error}")).collect::<Vec<_>>().join("; ")
        };
        let material = Material::read(self.ca.as_deref(), self.identity.as_ref()).map_err(text)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if material == current.material {
            return Ok(false);
        }
        let has_new_roots = material.roots != current.material.roots;
        let pools: Vec<_> = current.pools.iter().filter_map(Weak::upgrade).collect();
        let concerned = pools.iter().filter(|pool| has_new_roots || pool.settings.shows_identity);
        let mut configs = Configs::default();
        let clients = concerned.map(|pool| {
            let config = configs.get(&material, pool.settings.shows_identity)?;
            Ok((pool, pool.settings.clients(&config)?))
        });
        for (pool, clients) in clients.collect::<Result<Vec<_>, Fault>>().map_err(|fault| text(vec![fault]))? {
            pool.replace(clients);
        }
        current.material = material;
        current.configs = configs;
        Ok(true)
    }
}

impl Current {
    fn config(&mut self, settings: &Settings) -> Result<Arc<ClientConfig>, Fault> {
        if self.material == Material::default() && !settings.has_tls() {
            return Ok(Arc::new(tls::client_without_roots()));
        }
        self.configs.get(&self.material, settings.shows_identity)
    }
}

impl Settings {
    /// TLS for a client of another kind.
    ///
    /// # Errors
    ///
    /// The certificates or the key can't be used.
    pub(crate) fn tls_config(&self) -> Result<ClientConfig, String> {
        let config = self.tls.as_ref().map_or_else(|| self.platform(), |tls| tls.config(self));
        config.map(|config| ClientConfig::clone(&config)).map_err(|(_, error)| error)
    }
}

impl Configs {
    fn get(&mut self, material: &Material, shows_identity: bool) -> Result<Arc<ClientConfig>, Fault> {
        let place = if shows_identity { &mut self.identified } else { &mut self.anonymous };
        if let Some(config) = place {
            return Ok(Arc::clone(config));
        }
        Ok(Arc::clone(place.insert(Arc::new(material.config(shows_identity)?))))
    }
}

impl Material {
    fn read(ca: Option<&Path>, identity: Option<&(PathBuf, PathBuf)>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut read = |setting: &'static str, path: &Path| -> Secret<Vec<u8>> {
            let content = fs::read(path).map_err(|error| faults.push((setting, format!("can't be read: {error}"))));
            Secret::new(content.unwrap_or_default())
        };
        let roots = ca.map(|path| read(CA, path).expose().clone());
        let identity = identity.map(|(certificate, key)| {
            let (certificate, key) = (read(CERTIFICATE, certificate), read(KEY, key));
            Secret::new([certificate.expose().as_slice(), b"\n", key.expose()].concat())
        });
        if faults.is_empty() { Ok(Self { roots, identity }) } else { Err(faults) }
    }

    /// Makes a configuration with these certificates.
    ///
    /// # Errors
    ///
    /// A file holds no PEM, or the key is another certificate's; the text quotes nothing of a file.
    pub(super) fn config(&self, shows_identity: bool) -> Result<ClientConfig, Fault> {
        let roots = match &self.roots {
            None => Vec::new(),
            Some(pem) => {
                let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
                let roots = roots.map_err(|error| (CA, format!("can't be used: {error}")))?;
                // A file that is being written may be empty; trusting the platform's roots alone is not its meaning.
                if roots.is_empty() {
                    return Err((CA, "holds no certificate".to_owned()));
                }
                roots
            }
        };
        let identity = self.identity.as_ref().filter(|_| shows_identity);
        let identity = identity.map(|pem| pair(pem.expose())).transpose()?;
        let setting = if identity.is_some() { CERTIFICATE } else { CA };
        tls::client(roots, identity).map_err(|error| (setting, format!("can't be used: {}", chain(&error))))
    }
}

/// The certificates of a file, and the key.
fn pair(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Fault> {
    let unusable = || (CERTIFICATE, format!("can't be used, with {KEY}"));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable())?;
    Ok((chain, key))
}
