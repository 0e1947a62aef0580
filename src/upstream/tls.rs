//! Certificates towards the upstream, from files that are loaded again when they change. All pools that use them change
//! together: each gets a new client, and requests in flight end on the old one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use reqwest::{Certificate, ClientBuilder, Identity};
use tokio_util::task::AbortOnDropHandle;

use super::{Pool, Settings, chain};
use crate::{file_watcher, secret::Secret, telemetry::Metrics};

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

impl TlsFiles {
    /// Reads the files; `None` if there are none.
    ///
    /// # Errors
    ///
    /// Every file that can't be read. The content is checked by [`Settings::check`].
    pub(crate) fn load(ca: Option<PathBuf>, identity: Option<(PathBuf, PathBuf)>) -> Result<Option<Self>, Vec<Fault>> {
        if ca.is_none() && identity.is_none() {
            return Ok(None);
        }
        let material = Material::read(ca.as_deref(), identity.as_ref())?;
        Ok(Some(Self { ca, identity, current: Mutex::new(Current { material, pools: Vec::new() }) }))
    }

    /// Follows the files until the handle is dropped. Needs a runtime.
    pub(crate) fn follow(self: &Arc<Self>, metrics: &Metrics) -> AbortOnDropHandle<()> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        let paths = self.ca.iter().chain(identity).cloned().collect();
        let setting = if self.identity.is_some() { CERTIFICATE } else { CA };
        let files = Arc::clone(self);
        file_watcher::watch(paths, metrics.file_reloads(setting), move || files.reload())
    }

    pub(super) fn check(&self, settings: &Settings) -> Result<(), Fault> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        settings.client(&current.material).map(drop)
    }

    /// Makes a pool that follows the files from now on.
    pub(super) fn pool(&self, settings: &Settings) -> Result<Arc<Pool>, Fault> {
        // Locked over both, so that no change of the files falls between them.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = Arc::new(Pool::new(settings, &current.material)?);
        current.pools.retain(|pool| pool.strong_count() > 0);
        current.pools.push(Arc::downgrade(&pool));
        Ok(pool)
    }

    /// Gives every pool a new client if the files have changed: all of them, or none if one can't be made.
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
        let clients = concerned.map(|pool| Ok((pool, pool.settings.client(&material)?)));
        for (pool, client) in clients.collect::<Result<Vec<_>, Fault>>().map_err(|fault| text(vec![fault]))? {
            pool.replace(client);
        }
        current.material = material;
        Ok(true)
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

    /// Adds the certificates to a client.
    ///
    /// # Errors
    ///
    /// A file holds no PEM; the text quotes nothing of it. That the key is another certificate's shows when the client is built.
    pub(super) fn add_to(&self, mut builder: ClientBuilder, shows_identity: bool) -> Result<ClientBuilder, Fault> {
        if let Some(pem) = &self.roots {
            let roots =
                Certificate::from_pem_bundle(pem).map_err(|error| (CA, format!("can't be used: {}", chain(&error))))?;
            // A file that is being written may be empty; trusting the platform's roots alone is not its meaning.
            if roots.is_empty() {
                return Err((CA, "holds no certificate".to_owned()));
            }
            builder = builder.tls_certs_merge(roots);
        }
        if let Some(pem) = self.identity.as_ref().filter(|_| shows_identity) {
            let identity =
                Identity::from_pem(pem.expose()).map_err(|_| (CERTIFICATE, format!("can't be used, with {KEY}")))?;
            builder = builder.identity(identity);
        }
        Ok(builder)
    }

    /// The setting to name when a client can't be built with these certificates.
    pub(super) fn setting(&self) -> &'static str {
        if self.identity.is_some() { CERTIFICATE } else { CA }
    }
}
