//! Finds the header blocks (HEADERS and CONTINUATION frames) in the bytes that a client sends, however these are cut, and
//! replaces an unusable `:authority` in them.
//!
//! Everything else passes byte for byte, without a copy. A block waits until it is complete, as it would in h2. Bytes that h2
//! ends the connection for pass unchanged, and so does everything after them: the client gets h2's own error.

use std::borrow::Cow;

use bytes::{Buf as _, Bytes, BytesMut};

use super::block::{self, Names};

/// The client's connection preface, which `connection` checks.
const PREFACE: usize = 24;

/// The length of a frame's head.
const HEAD: usize = 9;

/// The largest payload that h2 takes with the settings of the gateway.
const MAX_PAYLOAD: usize = 16_384;

/// The most frames of a block that h2 takes with the settings of the gateway: it ends the connection at the sixth CONTINUATION
/// that is not the last.
const MAX_FRAMES: usize = 7;

/// The most bytes of a block.
pub(crate) const MAX_BLOCK: usize = MAX_FRAMES * (HEAD + MAX_PAYLOAD);

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// More than any connection sends.
const EVERYTHING: usize = usize::MAX;

/// The state of a connection's frames.
#[derive(Debug)]
pub(crate) struct Frames {
    /// The bytes to come that pass unseen.
    unseen: usize,
    /// The beginning of a frame's head or of a header block.
    held: BytesMut,
    /// Bytes that were held and go on before all others.
    ready: BytesMut,
    names: Names,
}

/// The next bytes, from the beginning of a frame.
#[derive(Debug)]
enum Next {
    /// More of them must be seen.
    Incomplete,
    /// So many pass unchanged.
    Pass(usize, Names),
    /// So many are replaced.
    Replace(usize, Vec<u8>, Names),
}

impl Default for Frames {
    fn default() -> Self {
        Self { unseen: PREFACE, held: BytesMut::new(), ready: BytesMut::new(), names: Names::default() }
    }
}

impl Frames {
    /// Takes bytes that arrive. The first of them, as many as it returns, go on as they are; it keeps a copy of the rest.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> usize {
        let passed = if self.held.is_empty() && self.ready.is_empty() { self.pass(bytes) } else { 0 };
        if let Some(rest) = bytes.get(passed..).filter(|rest| !rest.is_empty()) {
            self.held.extend_from_slice(rest);
            self.release();
        }
        passed
    }

    /// Takes the end of the bytes: those that still wait go on. Returns whether there are any.
    pub(crate) fn finish(&mut self) -> bool {
        self.ready.unsplit(std::mem::take(&mut self.held));
        !self.ready.is_empty()
    }

    /// Takes bytes that go on now.
    pub(crate) fn take_ready(&mut self, most: usize) -> Bytes {
        // To split nothing off would allocate.
        if self.ready.is_empty() {
            return Bytes::new();
        }
        let taken = self.ready.split_to(self.ready.len().min(most));
        if self.ready.is_empty() {
            // Gives the memory back.
            self.ready = BytesMut::new();
        }
        taken.freeze()
    }

    /// The bytes that wait for others.
    pub(crate) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Passes bytes until some have to wait or are replaced, and returns their number.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.unseen == 0 {
                let Next::Pass(length, names) = next(rest, self.names) else { break };
                (self.unseen, self.names) = (length, names);
            }
            let now = self.unseen.min(rest.len());
            self.unseen -= now;
            rest = rest.get(now..).unwrap_or_default();
        }
        bytes.len() - rest.len()
    }

    /// Moves held bytes to those that are ready.
    fn release(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        loop {
            let passed = self.pass(&held);
            self.ready.unsplit(held.split_to(passed));
            let Next::Replace(length, frames, names) = next(&held, self.names) else { break };
            self.names = names;
            self.ready.extend_from_slice(&frames);
            held.advance(length);
        }
        self.held = held;
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    /// `None` if the bytes are too few.
    fn of(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD>()?;
        let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(EVERYTHING);
        // The highest bit is reserved.
        Some(Self { length, kind, flags, stream: u32::from_be_bytes(stream) & !(1 << 31) })
    }

    fn is_last(self) -> bool {
        self.flags & END_HEADERS != 0
    }
}

fn next(bytes: &[u8], mut names: Names) -> Next {
    let Some(head) = Head::of(bytes) else { return Next::Incomplete };
    if head.kind != HEADERS {
        return Next::Pass(HEAD + head.length, names);
    }
    let length = match length(bytes, head) {
        Length::Incomplete => return Next::Incomplete,
        Length::Violation => return Next::Pass(EVERYTHING, names),
        Length::Complete(length) => length,
    };
    let rewritten = bytes.get(..length).and_then(|frames| contents(frames, head)).map(|(priority, block)| {
        let new = block::rewrite(&block, &mut names)?;
        Ok::<_, block::Malformed>(new.map(|new| framed(head, priority, &new)))
    });
    match rewritten {
        Some(Ok(None)) => Next::Pass(length, names),
        Some(Ok(Some(frames))) => Next::Replace(length, frames, names),
        None | Some(Err(block::Malformed)) => Next::Pass(EVERYTHING, names),
    }
}

/// The length of the frames of a header block.
#[derive(Debug)]
enum Length {
    Incomplete,
    /// h2 ends the connection for them.
    Violation,
    Complete(usize),
}

fn length(bytes: &[u8], first: Head) -> Length {
    let mut end = 0;
    for number in 0..MAX_FRAMES {
        let Some(head) = bytes.get(end..).and_then(Head::of) else { return Length::Incomplete };
        let continues = head.kind == CONTINUATION && head.stream == first.stream;
        if head.length > MAX_PAYLOAD || (number > 0 && !continues) {
            return Length::Violation;
        }
        end += HEAD + head.length;
        if bytes.len() < end {
            return Length::Incomplete;
        }
        if head.is_last() {
            return Length::Complete(end);
        }
    }
    Length::Violation
}

/// The priority and the header block in these frames; `None` if they are malformed.
fn contents(frames: &[u8], first: Head) -> Option<(&[u8], Cow<'_, [u8]>)> {
    let (payload, mut rest) = frames.get(HEAD..)?.split_at_checked(first.length)?;
    let (priority, fragment) = unwrapped(first.flags, payload)?;
    let mut block = Cow::Borrowed(fragment);
    while let Some(head) = Head::of(rest) {
        let (payload, later) = rest.get(HEAD..)?.split_at_checked(head.length)?;
        block.to_mut().extend_from_slice(payload);
        rest = later;
    }
    Some((priority, block))
}

/// The priority and the fragment of a header block in the payload of HEADERS.
fn unwrapped(flags: u8, mut payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut padding = 0;
    if flags & PADDED != 0 {
        let (length, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*length), rest);
    }
    let (priority, fragment) = payload.split_at_checked(if flags & PRIORITY != 0 { 5 } else { 0 })?;
    Some((priority, fragment.get(..fragment.len().checked_sub(padding)?)?))
}

/// A header block in as few frames as there can be, without padding.
fn framed(head: Head, priority: &[u8], block: &[u8]) -> Vec<u8> {
    let payload = [priority, block].concat();
    let mut frames = Vec::with_capacity(HEAD + payload.len());
    let (mut kind, mut flags) = (HEADERS, head.flags & !(PADDED | END_HEADERS));
    let mut rest = &payload[..];
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        if later.is_empty() {
            flags |= END_HEADERS;
        }
        let length = u32::try_from(now.len()).unwrap_or_default().to_be_bytes();
        frames.extend(length.iter().skip(1));
        frames.extend([kind, flags]);
        frames.extend(head.stream.to_be_bytes());
        frames.extend(now);
        if later.is_empty() {
            return frames;
        }
        (kind, flags, rest) = (CONTINUATION, 0, later);
    }
}
