//! Counts the entries of a request on the wire: everything of which a message can hold many. Two bytes of the wire can
//! become a hundred in memory, so the count is bounded before the message is built.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The fields of a message that are repeated or messages, by number.
type Shape = &'static [(u32, Field)];

#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "not every .proto has a field of each kind")]
enum Field {
    /// A message, by its shape.
    Message { is_many: bool, shape: usize },
    /// Repeated strings or bytes.
    Texts,
    /// Repeated numbers, packed or not.
    Numbers(Width),
}

/// The size of a packed number.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "not every .proto has a field of each kind")]
enum Width {
    Varint,
    Four,
    Eight,
}

include!(concat!(env!("OUT_DIR"), "/entries.rs"));

/// Deeper messages are refused when they are decoded: prost allows 100 levels below the first.
const MAX_DEPTH: usize = 102;

/// The entries in a request of the method. Counting stops where the bytes
/// are no protobuf message: decoding fails there too, and has built no more than was counted.
pub(crate) fn count(method: &str, mut message: impl Buf) -> usize {
    let Some((_, shape)) = REQUESTS.iter().find(|(name, _)| *name == method) else { return 0 };
    let mut count = 0;
    let _ = scan(&mut message, 0, *shape, MAX_DEPTH, &mut count);
    count
}

/// Scans until so many bytes are left. `None`: the bytes are no message.
fn scan(message: &mut impl Buf, end: usize, shape: usize, depth: usize, count: &mut usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let shape = SHAPES.get(shape)?;
    while message.remaining() > end {
        let (number, wire_type) = decode_key(message).ok()?;
        let field = shape.iter().find(|(known, _)| *known == number).map(|(_, field)| *field);
        match (field, wire_type) {
            (Some(field), WireType::LengthDelimited) => {
                let length = usize::try_from(decode_varint(message).ok()?).ok()?;
                let after = message.remaining().checked_sub(length).filter(|after| *after >= end)?;
                match field {
                    Field::Message { is_many, shape } => {
                        *count += usize::from(is_many);
                        scan(message, after, shape, depth, count)?;
                    }
                    Field::Texts => {
                        *count += 1;
                        message.advance(length);
                    }
                    Field::Numbers(width) => *count += numbers(message, length, width),
                }
            }
            (field, wire_type) => {
                *count += usize::from(matches!(field, Some(Field::Numbers(_))));
                skip_field(wire_type, number, message, DecodeContext::default()).ok()?;
            }
        }
    }
    (message.remaining() == end).then_some(())
}

/// The packed numbers in so many bytes.
fn numbers(message: &mut impl Buf, mut length: usize, width: Width) -> usize {
    match width {
        Width::Four | Width::Eight => {
            message.advance(length);
            length / if matches!(width, Width::Four) { 4 } else { 8 }
        }
        Width::Varint => {
            let mut count = 0;
            while length > 0 {
                let chunk = message.chunk();
                let chunk = chunk.get(..length.min(chunk.len())).unwrap_or_default();
                // The last byte of a varint has no continuation bit.
                count += chunk.iter().filter(|byte| **byte < 0x80).count();
                let taken = chunk.len();
                message.advance(taken);
                length -= taken;
            }
            count
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::{
        pb::{AttachDomainsRequest, AttachOrDetachDomainInfo},
        resources::METHODS,
    };

    const ATTACH: &str = "huaweicloud.apic.v2.CertificateService/AttachDomains";

    fn built(request: &AttachDomainsRequest) -> usize {
        request.domains.len() + request.domains.iter().map(|domain| domain.instance_ids.len()).sum::<usize>()
    }

    #[test]
    fn every_method_has_a_shape() {
        for method in METHODS {
            assert!(REQUESTS.iter().any(|(name, _)| *name == method.name), "{}", method.name);
        }
        assert_eq!(count("no.such/Method", &[0x1a, 0][..]), 0);
    }

    #[test]
    fn packed_numbers_are_counted_one_by_one() {
        let count = |width, bytes: &[u8]| numbers(&mut &*bytes, bytes.len(), width);
        assert_eq!(count(Width::Varint, &[1, 0x80, 1, 0xff, 0xff, 3, 0]), 4);
        assert_eq!(count(Width::Four, &[0; 12]), 3);
        assert_eq!(count(Width::Eight, &[0; 16]), 2);
    }

    #[test]
    fn what_is_cut_counts_as_far_as_it_was_read() {
        let mut bytes = [0x1a, 0].repeat(10);
        bytes.push(0x1a);
        assert_eq!(count(ATTACH, &*bytes), 10);
        // A domain that claims to be longer than the message.
        assert_eq!(count(ATTACH, &[0x1a, 0, 0x1a, 9, 0x12, 0][..]), 1);
        assert_eq!(count(ATTACH, &[0x1a, 4, 0x12, 0, 0x12, 0, 0x1a, 0][..]), 4);
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_the_message(counts in prop::collection::vec(0_usize..5, 0..50)) {
            let domain = |instances: &usize| AttachOrDetachDomainInfo {
                domain: "d".repeat(*instances),
                instance_ids: vec!["i".into(); *instances],
                verified_client_certificate_enabled: Some(true),
            };
            let request = AttachDomainsRequest {
                project_id: "p".into(),
                certificate_id: "c".into(),
                domains: counts.iter().map(domain).collect(),
            };
            prop_assert_eq!(count(ATTACH, &*request.encode_to_vec()), built(&request));
        }

        /// A message that decodes has no more entries than were counted.
        #[test]
        fn no_bytes_hide_an_entry(bytes in prop::collection::vec(prop::sample::select(&[0_u8, 1, 2, 8, 0x0a, 0x12, 0x18, 0x1a, 0x1b, 0x1c, 0x22][..]), 0..60)) {
            if let Ok(request) = AttachDomainsRequest::decode(&*bytes) {
                prop_assert!(count(ATTACH, &*bytes) >= built(&request), "{request:?}");
            }
        }
    }
}
