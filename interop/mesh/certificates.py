"""The certificates of a run: a CA, and leaves with SPIFFE ids and host names."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

GATEWAY = "spiffe://example.org/ns/apig/sa/gateway"
DEPLOY = "spiffe://example.org/ns/prod/sa/deploy"
READER = "spiffe://example.org/ns/prod/sa/reader"
STRANGER = "spiffe://example.org/ns/test/sa/stranger"


class Authority:
    """A CA that writes its certificate and those that it issues into a folder, as PEM."""

    def __init__(self, folder, name):
        self.folder, self.key = Path(folder), ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        built = self._builder(self.name, self.key).add_extension(constraints, critical=True)
        built = built.add_extension(_usage(signs_certificates=True), critical=True)
        self.certificate = built.sign(self.key, hashes.SHA256())
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "ca.pem"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name, *alternatives):
        """Writes NAME.pem and NAME.key. `alternatives` are SPIFFE ids and host names."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        built = (
            self._builder(x509.Name([]), key)
            # Critical, for the subject is empty (RFC 5280, 4.2.1.6).
            .add_extension(x509.SubjectAlternativeName(map(_alternative, alternatives)), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        certificate = built.sign(self.key, hashes.SHA256())
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))

    def _builder(self, subject, key):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )


def _alternative(name):
    return x509.UniformResourceIdentifier(name) if name.startswith("spiffe:") else x509.DNSName(name)


def _usage(signs_certificates):
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )
