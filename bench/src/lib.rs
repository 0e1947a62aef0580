//! What the programs of the bench share: the messages, as prost makes them, and the method that is called.

/// Generated from `proto/`.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
pub mod pb {
    tonic::include_proto!("huaweicloud.apic.v2");
}

/// The method that is called.
pub const METHOD: &str = "/huaweicloud.apic.v2.CertificateService/AttachDomains";
