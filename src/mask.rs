//! Masks secrets in external texts: error bodies and headers of the cloud and of identity services, and transport errors. Mask
//! a text before cutting it.
//!
//! A server may echo parts of a request: raw, escaped for JSON, HTML or a URL, in base64, or truncated. Therefore the text is
//! decoded step by step (`view`), and each step is searched for the secrets and for long substrings of them.

mod view;

use std::{borrow::Cow, collections::HashMap, ops::Range};

use memchr::memmem;
use zeroize::Zeroizing;

use self::view::{SEPARATOR, Views, unescaped};

const MASK: &str = "***";

/// The shortest substring of a secret that is masked in the original text.
const PART: usize = 12;

/// The shortest substring of a secret that is masked in a decoded text, where its encoded form is longer.
const DECODED_PART: usize = 8;

/// Shorter secrets are masked only as whole words.
const SHORT: usize = 6;

/// The length of the indexed windows. A run of [`PART`] bytes contains several at any offset.
const WINDOW: usize = 4;

/// The maximum work for one text, in compared bytes and positions. A text that exceeds it, which takes extreme repetition, is
/// masked as a whole.
const WORK: usize = 1 << 20;

/// The part of a text in bytes that is searched and returned. All users print far less, and the views of a text take many
/// times its memory.
const LONGEST: usize = 17 * 1024;

/// The secrets of one exchange. Cheap to create: it borrows them, and indexes nothing before a text is masked.
#[derive(Default)]
pub(crate) struct Masker<'a> {
    secrets: Vec<&'a [u8]>,
}

impl std::fmt::Debug for Masker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masker(_)")
    }
}

impl<'a> Masker<'a> {
    pub(crate) fn new(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self { secrets: secrets.into_iter().filter(|secret| !secret.is_empty()).collect() }
    }

    /// The same with more secrets.
    pub(crate) fn with(mut self, secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.secrets.extend(secrets.into_iter().filter(|secret| !secret.is_empty()));
        self
    }

    /// The first [`LONGEST`] bytes of the text, with the secrets and their parts masked. Access key ids are masked in any text.
    pub(crate) fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let text = (0..=LONGEST.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default();
        let mut found = access_keys(text);
        if !self.secrets.is_empty() && !text.is_empty() {
            match self.search(text) {
                Some(ranges) => found.extend(ranges),
                None => return Cow::Borrowed(MASK),
            }
        }
        replace(text, found)
    }

    /// The ranges of secrets in the text; `None` if the search exceeds the maximum work.
    fn search(&self, text: &str) -> Option<Vec<Range<usize>>> {
        let mut search = Search::of(Views::of(text));
        for secret in &self.secrets {
            search.secret(secret)?;
            for spelling in spellings(secret) {
                search.secret(&spelling)?;
            }
            for line in short_lines(secret) {
                search.whole(line)?;
            }
        }
        Some(search.found)
    }
}

/// Other forms of a secret in a decoded text: decoded like the text, because the secret may contain escapes itself, and with
/// spaces encoded as in a web form.
fn spellings(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut spellings = Vec::new();
    if secret.contains(&b' ') {
        let form = secret.iter().map(|byte| if *byte == b' ' { b'+' } else { *byte });
        spellings.push(Zeroizing::new(form.collect::<Vec<u8>>()));
    }
    for at in 0..=spellings.len() {
        let spelling = at.checked_sub(1).and_then(|at| spellings.get(at)).map_or(secret, |spelling| spelling);
        spellings.extend(unescaped(spelling).map(Zeroizing::new));
    }
    spellings
}

/// The lines of a secret that are too short for parts, such as the last one of a PEM file: a text may have them with other
/// line ends, or none. Shorter ones than a group of base64 say nothing.
fn short_lines(secret: &[u8]) -> impl Iterator<Item = &[u8]> {
    let has_lines = secret.contains(&b'\n');
    let lines = secret.split(|byte| matches!(byte, b'\r' | b'\n')).filter(move |_| has_lines);
    lines.filter(|line| (4..PART).contains(&line.len()))
}

/// A search of one text for several secrets.
struct Search {
    views: Views,
    /// The positions of each window in the text, counted from 1: the last one by hash, and for each position the previous one.
    last: Vec<u32>,
    before: Vec<u32>,
    /// The shortest run that is masked in any view.
    part: usize,
    work: usize,
    found: Vec<Range<usize>>,
}

impl Search {
    fn of(views: Views) -> Self {
        // Indexes the text instead of the secrets: texts are mostly short, secrets mostly long.
        let length = views.bytes().len();
        let mut last = vec![0; (2 * length).next_power_of_two().clamp(1 << 8, 1 << 19)];
        let mut before = Vec::with_capacity(length);
        for (at, window) in (1..).zip(views.bytes().windows(WINDOW)) {
            let slot = slot(window, last.len());
            before.push(last.get_mut(slot).map_or(0, |last| std::mem::replace(last, at)));
        }
        let part = if views.has_decoded() { DECODED_PART } else { PART };
        Self { views, last, before, part, work: 0, found: Vec::new() }
    }

    /// Records the ranges of a secret and of its parts.
    fn secret(&mut self, secret: &[u8]) -> Option<()> {
        if secret.len() < PART { self.whole(secret) } else { self.parts(secret) }
    }

    /// Searches for a secret that is too short for parts.
    fn whole(&mut self, secret: &[u8]) -> Option<()> {
        let bytes = self.views.bytes();
        let is_word = |start: usize, end: usize| {
            let before = start.checked_sub(1).and_then(|at| bytes.get(at));
            [before, bytes.get(end)].into_iter().flatten().all(|byte| !byte.is_ascii_alphanumeric())
        };
        for start in memmem::find_iter(bytes, secret) {
            let end = start + secret.len();
            self.work += 1;
            let is_one = match secret.len() {
                0..SHORT => !self.views.is_opaque(start) && is_word(start, end),
                _ => true,
            };
            if is_one {
                self.found.push(self.views.source(start..end));
            }
        }
        (self.work <= WORK).then_some(())
    }

    /// Searches for all common runs of text and secret: each contains a window at a multiple of the step.
    fn parts(&mut self, secret: &[u8]) -> Option<()> {
        let step = self.part + 1 - WINDOW;
        let bytes = self.views.bytes();
        // The ends of the runs found so far, by the distance of their positions in text and secret.
        let mut known: HashMap<usize, usize> = HashMap::new();
        for at in (0..=secret.len() - WINDOW).step_by(step) {
            let window = secret.get(at..at + WINDOW).unwrap_or_default();
            let mut next = self.last.get(slot(window, self.last.len())).copied().unwrap_or_default();
            while let Some(start) = (next as usize).checked_sub(1) {
                next = self.before.get(start).copied().unwrap_or_default();
                self.work += 1;
                if self.work > WORK {
                    return None;
                }
                if bytes.get(start..start + WINDOW) != Some(window) {
                    continue;
                }
                let distance = start + secret.len() - at;
                if known.get(&distance).is_some_and(|reached| at < *reached) {
                    continue;
                }
                let (before, after) = (common_end(bytes, start, secret, at), common_start(bytes, start, secret, at));
                self.work += before + after;
                known.insert(distance, at + after);
                let least = if self.views.is_decoded(start) { DECODED_PART } else { PART };
                if before + after >= least {
                    self.found.push(self.views.source(start - before..start + after));
                }
            }
        }
        Some(())
    }
}

/// The number of equal bytes before both positions.
fn common_end(text: &[u8], at: usize, secret: &[u8], in_secret: usize) -> usize {
    let (text, secret) = (text.get(..at).unwrap_or_default(), secret.get(..in_secret).unwrap_or_default());
    let pairs = text.iter().rev().zip(secret.iter().rev());
    pairs.take_while(|(one, other)| one == other && **one != SEPARATOR).count()
}

/// The number of equal bytes from both positions on.
fn common_start(text: &[u8], at: usize, secret: &[u8], in_secret: usize) -> usize {
    let (text, secret) = (text.get(at..).unwrap_or_default(), secret.get(in_secret..).unwrap_or_default());
    text.iter().zip(secret).take_while(|(one, other)| one == other && **one != SEPARATOR).count()
}

/// The slot of a window in a table with a power of two of slots.
fn slot(window: &[u8], slots: usize) -> usize {
    let number = window.iter().fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    let hash = number.wrapping_mul(0x9e37_79b1);
    (hash ^ (hash >> 15)) as usize & (slots - 1)
}

/// The text with the ranges masked.
fn replace(text: &str, mut ranges: Vec<Range<usize>>) -> Cow<'_, str> {
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    ranges.sort_unstable_by_key(|range| range.start);
    let mut masked = String::with_capacity(text.len());
    let mut copied = 0;
    let mut is_open = false;
    for range in ranges {
        // Extends the range to whole characters.
        let start = (0..=range.start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        let end = (range.end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        if start > copied || !is_open {
            masked.push_str(text.get(copied..start).unwrap_or_default());
            masked.push_str(MASK);
            is_open = true;
        }
        copied = copied.max(end);
    }
    masked.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(masked)
}

/// The ranges of access key ids, which the cloud's messages contain as `ak:<id>` and `ak <id> not exist`.
fn access_keys(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for start in memchr::memchr2_iter(b'a', b'A', text.as_bytes()) {
        let Some((word, rest)) = text.get(start..).and_then(|rest| rest.split_at_checked(2)) else { continue };
        let starts_word =
            !text.get(..start).is_some_and(|before| before.ends_with(|c: char| c.is_ascii_alphanumeric()));
        if !starts_word || !word.eq_ignore_ascii_case("ak") {
            continue;
        }
        let separator = rest.len() - rest.trim_start_matches([':', '=', ' ', '"']).len();
        let Some((mark, rest)) = rest.split_at_checked(separator) else { continue };
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let follows = rest.get(length..).unwrap_or_default();
        let is_missing = follows.get(..10).is_some_and(|text| text.eq_ignore_ascii_case(" not exist"));
        // After a space alone, only a long word counts: `ak not exist` has no key id.
        let names_key = length > 0 && separator > 0 && (mark.contains([':', '=']) || is_missing || length >= 16);
        if names_key {
            let begin = start + 2 + separator;
            found.push(begin..begin + length);
        }
    }
    found
}

#[cfg(test)]
mod tests;
