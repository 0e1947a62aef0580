//! A text as it came, and as it reads after each step of decoding, with the way back from every byte to its place in the text.

use std::ops::Range;

/// Between two views. No byte of UTF-8 is one, so that nothing is found across.
pub(super) const SEPARATOR: u8 = 0xff;

/// Steps of decoding: an escaped text in an escaped text in a log line, and a secret with escapes of its own.
const MOST_STEPS: usize = 6;

/// Shorter runs of base64 hold too little of a secret.
const SHORTEST_BASE64: usize = 11;

/// The longest entity of HTML, with its ends.
const LONGEST_ENTITY: usize = 12;

/// All views of a text, one behind the other.
#[derive(Debug)]
pub(super) struct Views {
    bytes: Vec<u8>,
    /// Where each view begins, and how its places lead back. An answer may be large, and nearly all views need no table.
    origins: Vec<(usize, Origin)>,
    /// Where the decoded views begin, and those out of base64.
    decoded: usize,
    opaque: usize,
}

/// The way back from a view.
#[derive(Debug)]
enum Origin {
    /// It is the text.
    Text,
    /// The place of each byte, in the text.
    Table(Vec<(u32, u32)>),
    /// Groups of base64, from this place of another view on.
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
        for _ in 0..MOST_STEPS {
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

    /// Whether there is any view but the text itself.
    pub(super) fn has_decoded(&self) -> bool {
        self.bytes.len() > self.decoded
    }

    /// Whether a place is in another view than the text itself.
    pub(super) fn is_decoded(&self, at: usize) -> bool {
        at >= self.decoded
    }

    /// Whether a place is in decoded base64, which may be any bytes.
    pub(super) fn is_opaque(&self, at: usize) -> bool {
        at >= self.opaque
    }

    /// The place in the text of a part of a view that is not empty.
    pub(super) fn source(&self, range: Range<usize>) -> Range<usize> {
        self.place(range.start).0..self.place(range.end.saturating_sub(1)).1
    }

    /// The place in the text of one byte.
    fn place(&self, at: usize) -> (usize, usize) {
        let view = self.origins.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        match self.origins.get(view) {
            None | Some((_, Origin::Text)) => (at, at + 1),
            Some((start, Origin::Table(places))) => {
                places.get(at - start).map_or((0, 0), |(start, end)| (*start as usize, *end as usize))
            }
            Some((start, Origin::Base64(from))) => {
                let number = at - start;
                let first = from + number / 3 * 4 + number % 3;
                (self.place(first).0, self.place(first + 1).1)
            }
        }
    }

    /// Adds a view: another one without its escapes. `None` if it has none.
    fn unescape(&mut self, from: Range<usize>) -> Option<Range<usize>> {
        let before = self.bytes.get(from.clone()).filter(|bytes| may_have_escapes(bytes))?.to_vec();
        let mut after = Vec::with_capacity(before.len());
        let mut places = Vec::with_capacity(before.len());
        let note = |escape: Range<usize>, letters| {
            let (start, end) = (self.place(from.start + escape.start).0, self.place(from.start + escape.end - 1).1);
            let place = (u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(end).unwrap_or(u32::MAX));
            places.extend(std::iter::repeat_n(place, letters));
        };
        if !decode(&before, &mut after, note) {
            return None;
        }
        let start = self.bytes.len();
        self.origins.push((start, Origin::Table(places)));
        self.bytes.extend_from_slice(&after);
        self.bytes.push(SEPARATOR);
        Some(start..start + after.len())
    }

    /// Adds a view for each run of base64, and each way in which its groups may lie.
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

/// Bytes without their escapes, however often they are escaped. `None` if they have none.
pub(super) fn unescaped(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut last = None;
    for _ in 0..MOST_STEPS {
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

/// Decodes one step. `note` hears of each piece, with the number of bytes that it became. Says whether there was an escape.
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

/// Decodes the escape at the beginning, if there is one, and gives its length.
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

/// A number in hexadecimal digits alone.
fn hex(digits: &[u8]) -> Option<u32> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    (1..=6).contains(&digits.len()).then_some(())?;
    digits.iter().try_fold(0, |number, byte| Some((number << 4) | digit(byte)?))
}

/// The value of a digit of base64, in either of its alphabets.
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
