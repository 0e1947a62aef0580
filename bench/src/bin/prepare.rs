//! Writes the files that the bench's programs need into a folder: the descriptors for Envoy, and a CA with a
//! certificate for loopback.

use std::{env, error::Error, fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(proto), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("prepare PROTO FOLDER".into());
    };
    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_imports(true).open_file("huaweicloud/apic/v2/certificate_service.proto")?;
    fs::write(folder.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let mut authority = CertificateParams::new([])?;
    // Not the name that certificates have by default: OpenSSL would take the certificate for its own issuer.
    authority.distinguished_name.push(DnType::CommonName, "bench");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    fs::write(folder.join("server.pem"), certificate.pem())?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    Ok(())
}
