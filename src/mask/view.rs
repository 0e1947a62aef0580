//! Views of a text: the original, and the result of each step of decoding, with a mapping of each byte to its range in the text.

use std::ops::Range;

/// Separates two views. Not a byte of UTF-8, so that no match spans views.
pub(super) const SEPARATOR: u8 = 0xff;

/// The maximum steps of decoding: escaped text in escaped text in a log line, and a secret that contains escapes.
const MAX_STEPS: usize = 6;

/// The shortest decoded run of base64. Shorter runs contain too little of a secret.
const SHORTEST_BASE64: usize = 11;

/// The length of the longest HTML entity, with its delimiters.
const LONGEST_ENTITY: usize = 12;

/// All views of a text, concatenated.
#[derive(Debug)]
pub(super) struct Views {
    bytes: Vec<u8>,
    /// The start of each view, and its mapping to the text. Most views need no table, which would be large.
    origins: Vec<(usize, Origin)>,
    /// The starts of the decoded views, and of the views decoded from base64.
    decoded: usize,
    opaque: usize,
}

/// The mapping of a view to the text.
#[derive(Debug)]
enum Origin {
    /// The view is the text.
    Text,
    /// The range of each byte in the text.
    Table(Vec<(u32, u32)>),
    /// Decoded groups of base64 that start at this position of another view.
    Base64(usize),
}

impl Views {
    pub(super) fn of(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(SEPARATOR);
        let decoded = bytes.len();
        let mut views = Self { bytes, origins: vec![(0, Origin::Text)], decoded, opaque: decoded };
        let mut last = 0..text.len();
        for _ in 0..MAX_STEPS {
            let Some(next) = views.unescape(last.clone()) else { break };
            last = next;
        }
        views.opaque = views.bytes.len();
        views.base64(last);
        views
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there are views besides the text.
    pub(super) fn has_decoded(&self) -> bool {
        self.bytes.len() > self.decoded
    }

    /// Whether a position is in a view other than the text.
    pub(super) fn is_decoded(&self, at: usize) -> bool {
        at >= self.decoded
    }

    /// Whether a position is in decoded base64, which may be arbitrary bytes.
    pub(super) fn is_opaque(&self, at: usize) -> bool {
        at >= self.opaque
    }

    /// The range in the text of a range of the views that is not empty.
    pub(super) fn source(&self, range: Range<usize>) -> Range<usize> {
        self.origin(range.start).0..self.origin(range.end.saturating_sub(1)).1
    }

    /// The range in the text of one byte.
    fn origin(&self, at: usize) -> (usize, usize) {
        let view = self.origins.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        match self.origins.get(view) {
            None | Some((_, Origin::Text)) => (at, at + 1),
            Some((start, Origin::Table(ranges))) => {
                ranges.get(at - start).map_or((0, 0), |(start, end)| (*start as usize, *end as usize))
            }
            Some((start, Origin::Base64(from))) => {
                let number = at - start;
                let first = from + number / 3 * 4 + number % 3;
                (self.origin(first).0, self.origin(first + 1).1)
            }
        }
    }

    /// Adds a view: the given one with its escapes decoded. `None` if it has none.
    fn unescape(&mut self, from: Range<usize>) -> Option<Range<usize>> {
        let before = self.bytes.get(from.clone()).filter(|bytes| may_have_escapes(bytes))?.to_vec();
        let mut after = Vec::with_capacity(before.len());
        let mut ranges = Vec::with_capacity(before.len());
        let note = |escape: Range<usize>, letters| {
            let (start, end) = (self.origin(from.start + escape.start).0, self.origin(from.start + escape.end - 1).1);
            let range = (u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(end).unwrap_or(u32::MAX));
            ranges.extend(std::iter::repeat_n(range, letters));
        };
        if !decode(&before, &mut after, note) {
            return None;
        }
        let start = self.bytes.len();
        self.origins.push((start, Origin::Table(ranges)));
        self.bytes.extend_from_slice(&after);
        self.bytes.push(SEPARATOR);
        Some(start..start + after.len())
    }

    /// Adds a view for each run of base64 and each alignment of its groups.
    fn base64(&mut self, from: Range<usize>) {
        let view = self.bytes.get(from.clone()).unwrap_or_default().to_vec();
        let mut start = 0;
        while let Some(found) = view.get(start..).and_then(|rest| rest.iter().position(|byte| digit(*byte).is_some())) {
            start += found;
            let rest = view.get(start..).unwrap_or_default();
            let length = rest.iter().position(|byte| digit(*byte).is_none()).unwrap_or(rest.len());
            if length >= SHORTEST_BASE64 {
                for phase in 0..4 {
                    let run = rest.get(phase..length).unwrap_or_default();
                    self.origins.push((self.bytes.len(), Origin::Base64(from.start + start + phase)));
                    for group in run.chunks(4) {
                        let digits = group.iter().filter_map(|byte| digit(*byte));
                        let bits = digits.fold(0_u32, |bits, digit| (bits << 6) | digit) << (6 * (4 - group.len()));
                        let [_, bytes @ ..] = bits.to_be_bytes();
                        self.bytes.extend(bytes.into_iter().take(group.len() - 1));
                    }
                    self.bytes.push(SEPARATOR);
                }
            }
            start += length;
        }
    }
}

/// The bytes with all levels of escapes decoded. `None` if they have none.
pub(super) fn unescaped(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut last = None;
    for _ in 0..MAX_STEPS {
        let before = last.as_deref().unwrap_or(bytes);
        let mut after = Vec::with_capacity(before.len());
        if !may_have_escapes(before) || !decode(before, &mut after, |_, _| ()) {
            break;
        }
        last = Some(after);
    }
    last
}

fn may_have_escapes(bytes: &[u8]) -> bool {
    memchr::memchr3(b'\\', b'%', b'&', bytes).is_some()
}

/// Decodes one level of escapes. Calls `note` for each piece with its range and the number of decoded bytes; returns whether
/// there was an escape.
fn decode(bytes: &[u8], to: &mut Vec<u8>, mut note: impl FnMut(Range<usize>, usize)) -> bool {
    let mut is_changed = false;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let before = to.len();
        let length = escape(rest, to);
        is_changed |= length.is_some();
        let length = length.unwrap_or_else(|| {
            to.extend(rest.first());
            1
        });
        note(at..at + length, to.len() - before);
        at += length;
    }
    is_changed
}

/// Decodes the escape at the beginning, if any, and returns its length.
fn escape(bytes: &[u8], to: &mut Vec<u8>) -> Option<usize> {
    let mut letter = |code: u32, length: usize| {
        to.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        Some(length)
    };
    match bytes {
        [b'%' | b'\\', b'u', rest @ ..] => {
            let unit = hex(rest.get(..4)?)?;
            let low = bytes.get(6..).filter(|rest| rest.starts_with(bytes.get(..2).unwrap_or_default()));
            let low = low.and_then(|rest| hex(rest.get(2..6)?)).filter(|low| (0xdc00..0xe000).contains(low));
            match (unit, low) {
                (0xd800..0xdc00, Some(low)) => letter(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00), 12),
                _ => letter(unit, 6),
            }
        }
        [b'%', rest @ ..] => {
            to.push(u8::try_from(hex(rest.get(..2)?)?).ok()?);
            Some(3)
        }
        [b'\\', b'x', rest @ ..] => {
            to.push(u8::try_from(hex(rest.get(..2)?)?).ok()?);
            Some(4)
        }
        [b'\\', letter, ..] => {
            to.push(match letter {
                b'"' | b'\\' | b'/' | b'\'' => *letter,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                _ => return None,
            });
            Some(2)
        }
        [b'&', rest @ ..] => {
            let end = rest.iter().take(LONGEST_ENTITY).position(|byte| *byte == b';')?;
            let code = match rest.get(..end)? {
                b"quot" => 0x22,
                b"amp" => 0x26,
                b"apos" => 0x27,
                b"lt" => 0x3c,
                b"gt" => 0x3e,
                [b'#', b'x' | b'X', digits @ ..] => hex(digits)?,
                [b'#', digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok()?,
                _ => return None,
            };
            letter(code, end + 2)
        }
        _ => None,
    }
}

/// Parses a hexadecimal number.
fn hex(digits: &[u8]) -> Option<u32> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    (1..=6).contains(&digits.len()).then_some(())?;
    digits.iter().try_fold(0, |number, byte| Some((number << 4) | digit(byte)?))
}

/// The value of a base64 digit in either alphabet.
fn digit(byte: u8) -> Option<u32> {
    let (first, value) = match byte {
        b'A'..=b'Z' => (b'A', 0),
        b'a'..=b'z' => (b'a', 26),
        b'0'..=b'9' => (b'0', 52),
        b'+' | b'-' => (byte, 62),
        b'/' | b'_' => (byte, 63),
        _ => return None,
    };
    Some(u32::from(byte - first) + value)
}
