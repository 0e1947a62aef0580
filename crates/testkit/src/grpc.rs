//! gRPC as bytes.

/// The path of `AttachDomains`.
pub const ATTACH: &str = "/huaweicloud.apic.v2.CertificateService/AttachDomains";

/// A message behind the five bytes of its frame; `compressed` is the first of them.
pub fn frame(compressed: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 5);
    bytes.push(compressed);
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// Whether the server has not processed the call (RFC 9113, sections 6.8 and 8.7): its stream is above the last one of a
/// GOAWAY, or was refused.
pub fn is_unprocessed(error: &h2::Error) -> bool {
    let left_out = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (left_out || refused)
}
