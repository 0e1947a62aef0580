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

/// The `FileDescriptorSet` of the service and everything that it imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
