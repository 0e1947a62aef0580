//! Replaces an unusable `:authority` in a header block (RFC 7541), with no table of the other fields.
//!
//! The replacement is as long as the original. So an entry that it makes in the dynamic table has the original's size, and the
//! table of h2 has the entries of the client's table at the same indices: everything else in the block passes unchanged.

use std::ops::Range;

use http::uri::Authority;

use super::huffman;

const AUTHORITY: &[u8] = b":authority";

/// `:authority`, Huffman-coded.
const CODED_AUTHORITY: &[u8] = b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f";

/// The index of `:authority` in the static table; its value there is empty.
const STATIC_AUTHORITY: usize = 1;

/// The first index of the dynamic table.
const FIRST_DYNAMIC: usize = 62;

/// The most bytes of an integer, as h2 has it.
const MAX_INTEGER: usize = 5;

/// A block that h2 can't decode either.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The entries of the client's dynamic table that have the name `:authority`: a bit each, the newest entry lowest.
///
/// An entry takes 32 bytes at least, and the table 4,096 bytes at most, since the gateway does not announce another size.
/// Evictions need no bookkeeping: nothing refers to an evicted entry. Neither do entries larger than the table, which
/// evict all others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Names(u128);

impl Names {
    fn insert(&mut self, is_authority: bool) {
        self.0 = (self.0 << 1) | u128::from(is_authority);
    }

    fn is_authority(self, index: usize) -> bool {
        let at = index.checked_sub(FIRST_DYNAMIC).and_then(|at| u32::try_from(at).ok());
        index == STATIC_AUTHORITY || at.and_then(|at| self.0.checked_shr(at)).is_some_and(|names| names & 1 == 1)
    }
}

/// Returns the block with every unusable `:authority` replaced; `None` if it has none.
pub(super) fn rewrite(block: &[u8], names: &mut Names) -> Result<Option<Vec<u8>>, Malformed> {
    let mut edits: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
    let mut reader = Reader { block, at: 0 };
    while let Some(first) = reader.peek() {
        let start = reader.at;
        if first & 0x80 != 0 {
            // An indexed field. Those of the dynamic table were made usable when they came.
            if reader.integer(7)? == STATIC_AUTHORITY {
                edits.push((start..reader.at, Vec::new()));
            }
            continue;
        }
        if first & 0xe0 == 0x20 {
            // A size update.
            reader.integer(5)?;
            continue;
        }
        let is_inserted = first & 0x40 != 0;
        let index = reader.integer(if is_inserted { 6 } else { 4 })?;
        let is_authority = if index == 0 { reader.string()?.is_authority() } else { names.is_authority(index) };
        let value_at = reader.at;
        let value = reader.string()?;
        if is_inserted {
            names.insert(is_authority);
        }
        if !is_authority {
            continue;
        }
        let decoded;
        let text = if value.is_coded {
            decoded = huffman::decode(value.bytes).ok_or(Malformed)?;
            &decoded
        } else {
            value.bytes
        };
        if Authority::try_from(text).is_ok() {
            continue;
        }
        if !text.is_empty() {
            edits.push((value_at..reader.at, replacement(text.len())));
        } else if !is_inserted {
            // No authority at all is usable.
            edits.push((start..reader.at, Vec::new()));
        }
        // An empty one that is inserted has no replacement of its length; encoders use the static table's entry for it.
    }
    Ok(edited(block, &edits))
}

fn edited(block: &[u8], edits: &[(Range<usize>, Vec<u8>)]) -> Option<Vec<u8>> {
    let (last, _) = edits.last()?;
    let mut new = Vec::with_capacity(block.len());
    let mut copied = 0;
    for (range, replacement) in edits {
        new.extend_from_slice(block.get(copied..range.start)?);
        new.extend_from_slice(replacement);
        copied = range.end;
    }
    new.extend_from_slice(block.get(last.end..)?);
    Some(new)
}

/// A string literal of this many characters that is an authority.
fn replacement(length: usize) -> Vec<u8> {
    let mut literal = integer(length, 7);
    literal.resize(literal.len() + length, b'a');
    literal
}

/// An integer, with zeros before its prefix.
#[expect(clippy::cast_possible_truncation, reason = "seven bits, or less than the prefix")]
fn integer(value: usize, prefix: u32) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    let Some(mut rest) = value.checked_sub(most) else { return vec![value as u8] };
    let mut bytes = vec![most as u8];
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Reads the representations of a block.
#[derive(Debug)]
struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

/// A string as it is in the block.
#[derive(Debug)]
struct Literal<'a> {
    bytes: &'a [u8],
    is_coded: bool,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn integer(&mut self, prefix: u32) -> Result<usize, Malformed> {
        let most = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for at in 0..MAX_INTEGER - 1 {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn string(&mut self) -> Result<Literal<'a>, Malformed> {
        let is_coded = self.peek().ok_or(Malformed)? & 0x80 != 0;
        let length = self.integer(7)?;
        let bytes = self.block.get(self.at..).and_then(|rest| rest.get(..length)).ok_or(Malformed)?;
        self.at += length;
        Ok(Literal { bytes, is_coded })
    }
}

impl Literal<'_> {
    fn is_authority(&self) -> bool {
        self.bytes == if self.is_coded { CODED_AUTHORITY } else { AUTHORITY }
    }
}

#[cfg(test)]
mod tests;
