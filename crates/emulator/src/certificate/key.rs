//! Reads the public part of an uploaded private key.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    KeyPair as _,
};
use x509_parser::pem::Pem;

use super::chain::{invalid, refusal};
use crate::answer::Refusal;

/// The public key as a certificate has it: an RSA key in DER, or an uncompressed point.
///
/// Keys of RSA (2048 to 8192 bits) and of the curves P-256, P-384 and P-521 are read. The documents give no sizes and no
/// curves, and accept DSA keys, too.
pub(super) fn public_part(text: &str) -> Result<Vec<u8>, Refusal> {
    // The older form of a protected key is a plain block with headers, which is no valid base64.
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(refusal("APIG.2105", "Encrypted private keys are not supported."));
    }
    let blocks: Vec<Pem> = Pem::iter_from_buffer(text.as_bytes()).collect::<Result<_, _>>().map_err(|_| invalid())?;
    // OpenSSL writes the parameters of a curve before its key.
    let mut keys = blocks.iter().filter(|block| block.label != "EC PARAMETERS");
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(invalid()) };
    let der = key.contents.as_slice();
    match key.label.as_str() {
        "PRIVATE KEY" => rsa::KeyPair::from_pkcs8(der).ok().map(|pair| rsa_part(&pair)).or_else(|| ecdsa_part(der)),
        "RSA PRIVATE KEY" => rsa::KeyPair::from_der(der).ok().map(|pair| rsa_part(&pair)),
        "EC PRIVATE KEY" => ecdsa_part(der),
        _ => None,
    }
    .ok_or_else(invalid)
}

fn rsa_part(pair: &rsa::KeyPair) -> Vec<u8> {
    pair.public_key().as_ref().to_vec()
}

fn ecdsa_part(der: &[u8]) -> Option<Vec<u8>> {
    let curves = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
    let pair = curves.into_iter().find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der).ok());
    pair.map(|pair| pair.public_key().as_ref().to_vec())
}
