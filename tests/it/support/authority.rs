//! An authority that makes certificates, and files for them.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use tempfile::TempDir;
use tonic::transport::Identity;

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate with these names; one with `://` in it is a URI.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_until(names, 2050)
    }

    /// One that ends with the first day of a year.
    pub(crate) fn issue_until(&self, names: &[&str], year: i32) -> Pair {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                if name.contains("://") {
                    SanType::URI((*name).try_into().unwrap())
                } else {
                    SanType::DnsName((*name).try_into().unwrap())
                }
            })
            .collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// As a client shows it.
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key)
    }
}

/// Files that a gateway reads, swapped as Kubernetes swaps mounted secrets: folders behind one symbolic link.
pub(crate) struct Mount {
    folder: TempDir,
    swaps: usize,
}

impl Mount {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let mut mount = Self { folder: tempfile::tempdir().unwrap(), swaps: 0 };
        mount.swap(files);
        mount
    }

    /// The path of a file, which stays.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join("data").join(name).to_str().unwrap().to_owned()
    }

    /// Puts other files in place of all there are.
    pub(crate) fn swap(&mut self, files: &[(&str, &str)]) {
        self.swaps += 1;
        let name = PathBuf::from(self.swaps.to_string());
        let next = self.folder.path().join(&name);
        fs::create_dir(&next).unwrap();
        for (file, text) in files {
            fs::write(next.join(file), text).unwrap();
        }
        let link = self.folder.path().join("next");
        std::os::unix::fs::symlink(&name, &link).unwrap();
        fs::rename(link, self.folder.path().join("data")).unwrap();
    }
}
