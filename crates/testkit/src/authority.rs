//! A certificate authority, and files for its certificates.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;
use tonic::transport::Identity;

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    serial: u64,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// One with a usual name.
    pub fn new() -> Self {
        Self::named("authority.example")
    }

    /// One with a name of its own.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// The certificate of the authority itself, PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate with these names; one with `://` in it is a URI.
    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_until(names, 2050)
    }

    /// A list of revoked certificates, PEM, that is due to be replaced on the first day of a year.
    pub fn revoking(&self, revoked: &[&Pair], next_update: i32) -> String {
        let revoked = revoked.iter().map(|pair| RevokedCertParams {
            serial_number: SerialNumber::from(pair.serial),
            revocation_time: date_time_ymd(2001, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2000, 1, 1),
            next_update: date_time_ymd(next_update, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// One that ends with the first day of a year.
    pub fn issue_until(&self, names: &[&str], year: i32) -> Pair {
        static SERIAL: AtomicU64 = AtomicU64::new(1000);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
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
        Pair { certificate: certificate.pem(), key: key.serialize_pem(), serial }
    }
}

impl Pair {
    /// The pair as a client of tonic takes it.
    pub fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key)
    }
}

/// Files that a gateway reads, swapped as Kubernetes swaps mounted secrets: folders behind one symbolic link.
#[derive(Debug)]
pub struct Mount {
    folder: TempDir,
    swaps: usize,
}

impl Mount {
    /// A folder with these files.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let mut mount = Self { folder: tempfile::tempdir().unwrap(), swaps: 0 };
        mount.swap(files);
        mount
    }

    /// The path of a file, the same after swaps.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join("data").join(name).to_str().unwrap().to_owned()
    }

    /// Replaces all files at once.
    pub fn swap(&mut self, files: &[(&str, &str)]) {
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
