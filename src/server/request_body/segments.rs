//! Stores a message in pieces of growing size: the first byte allocates little, bytes are never moved, and each piece is
//! freed separately.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::PREFIX;

const SMALLEST: usize = 512;
const LARGEST: usize = 16 * 1024;

/// The pieces of a message. The first one begins with room for the prefix.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pieces: VecDeque<BytesMut>,
    /// Bytes written.
    length: usize,
    /// Allocated bytes that have not been charged yet.
    uncharged: usize,
}

impl Segments {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let piece = match self.pieces.back_mut() {
                Some(piece) if piece.len() < piece.capacity() => piece,
                _ => self.allocate(bytes.len()),
            };
            let (now, later) = bytes.split_at(bytes.len().min(piece.capacity() - piece.len()));
            piece.extend_from_slice(now);
            self.length += now.len();
            bytes = later;
        }
    }

    fn allocate(&mut self, needed: usize) -> &mut BytesMut {
        let capacity = needed.max(self.length).saturating_add(PREFIX).clamp(SMALLEST, LARGEST);
        let mut piece = BytesMut::with_capacity(capacity);
        if self.pieces.is_empty() {
            piece.extend_from_slice(&[0; PREFIX]);
        }
        self.uncharged += piece.capacity();
        self.pieces.push_back(piece);
        self.pieces.back_mut().expect("a piece was pushed")
    }

    /// Returns the bytes allocated since the last call.
    pub(super) fn take_uncharged(&mut self) -> usize {
        std::mem::take(&mut self.uncharged)
    }

    /// The pieces as one uncompressed frame.
    pub(super) fn into_frame(mut self) -> VecDeque<Bytes> {
        if self.pieces.is_empty() {
            return VecDeque::from([Bytes::from_static(&[0; PREFIX])]);
        }
        let length = u32::try_from(self.length).expect("limits on messages are below 4 GiB");
        if let Some(first) = self.pieces.front_mut().and_then(|piece| piece.first_chunk_mut::<PREFIX>()) {
            let [_, room @ ..] = first;
            *room = length.to_be_bytes();
        }
        self.pieces.into_iter().map(BytesMut::freeze).collect()
    }
}
