//! Code generated from `proto/`: messages, the service, a client for it, and the descriptors that reflection serves; and
//! the readers of JSON, and the count of a request's entries.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::indexing_slicing,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

pub(crate) mod entries;
#[allow(dead_code, reason = "not every API answers with data")]
pub(crate) mod json;

tonic::include_proto!("huaweicloud.apic.v2");
include!(concat!(env!("OUT_DIR"), "/redacted.rs"));

/// A message that a call begins or ends with: generated for each.
pub(crate) trait Decoded {
    /// Whether it asks for a change, so that bytes that can't be decoded have an outcome.
    const IS_CHANGE: bool;
}

include!(concat!(env!("OUT_DIR"), "/decoded.rs"));

/// The `FileDescriptorSet` of the service and everything that it imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
