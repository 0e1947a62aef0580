//! HTTP/2 as bytes, which no library would send.

pub(crate) mod peer;

use std::io::Error;

use testkit::grpc::{ATTACH, frame};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::caller::attach_message;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// Frames, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Frames(pub(crate) Vec<u8>);

impl Frames {
    /// The client's greeting with settings of its own.
    pub(crate) fn greeting(settings: &[(u16, u32)]) -> Self {
        Self(PREFACE.to_vec()).settings(settings)
    }

    pub(crate) fn add(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
        self.0.extend_from_slice(&length[1..]);
        self.0.extend_from_slice(&[kind, flags]);
        self.0.extend_from_slice(&stream.to_be_bytes());
        self.0.extend_from_slice(payload);
        self
    }

    pub(crate) fn settings(self, settings: &[(u16, u32)]) -> Self {
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        self.add(SETTINGS, 0, 0, &payload)
    }

    /// The head of a call; its message is still to come.
    pub(crate) fn head(self, stream: u32, more: &[(&str, &str)]) -> Self {
        self.add(HEADERS, END_HEADERS, stream, &head_block(ATTACH, more))
    }

    /// The head of a call of another method.
    pub(crate) fn head_of(self, stream: u32, path: &str) -> Self {
        self.add(HEADERS, END_HEADERS, stream, &head_block(path, &[]))
    }

    /// The head of a call with more than the usual fields.
    pub(crate) fn head_with(self, stream: u32, path: &str, more: &[(&str, &str)]) -> Self {
        self.add(HEADERS, END_HEADERS, stream, &head_block(path, more))
    }

    /// Trailers, which end the call's request.
    pub(crate) fn trailers(self, stream: u32) -> Self {
        let mut block = Vec::new();
        literal(&mut block, "x-trailer", "siege");
        self.add(HEADERS, END_HEADERS | END_STREAM, stream, &block)
    }

    /// A message, and the end of the call's request.
    pub(crate) fn message(self, stream: u32, message: &[u8]) -> Self {
        self.add(DATA, END_STREAM, stream, &frame(0, message))
    }

    /// A whole call, which changes a certificate of its own.
    pub(crate) fn call(self, stream: u32) -> Self {
        self.head(stream, &[]).message(stream, &attach_message(&format!("attacked-{stream}")))
    }

    pub(crate) fn reset(self, stream: u32) -> Self {
        const CANCEL: u32 = 8;
        self.add(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
    }

    pub(crate) fn window(self, stream: u32, increment: u32) -> Self {
        self.add(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
    }
}

/// The frames so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    /// How many frames of each kind.
    counts: [usize; 16],
    /// How many calls are over.
    ended: usize,
}

impl Received {
    /// Reads until so many frames of this kind have come.
    pub(crate) async fn wait(&mut self, stream: &mut TcpStream, kind: u8, number: usize) -> Result<(), Error> {
        self.read_until(stream, |received| received.counts[usize::from(kind)] >= number).await
    }

    /// Reads until so many calls are over.
    pub(crate) async fn wait_for_ends(&mut self, stream: &mut TcpStream, number: usize) -> Result<(), Error> {
        self.read_until(stream, |received| received.ended >= number).await
    }

    async fn read_until(&mut self, stream: &mut TcpStream, enough: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let mut block = vec![0; 16_384];
        while !enough(self) {
            match stream.read(&mut block).await? {
                0 => return Err(Error::other("the gateway ended the connection")),
                read => self.bytes.extend_from_slice(&block[..read]),
            }
            self.count();
        }
        Ok(())
    }

    fn count(&mut self) {
        take_frames(&mut self.bytes, |frame| {
            self.counts[usize::from(frame.kind % 16)] += 1;
            // The last headers of a call end its stream.
            self.ended += usize::from(frame.kind == HEADERS && frame.flags & END_STREAM != 0);
        });
    }
}

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

/// Takes all whole frames from the front.
pub(crate) fn take_frames(bytes: &mut Vec<u8>, mut each: impl FnMut(Frame<'_>)) {
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some(payload) = bytes.get(at + 9..at + 9 + length) else { break };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        each(Frame { kind: head[3], flags: head[4], stream, payload });
        at += 9 + length;
    }
    bytes.drain(..at);
}

/// The header fields of a call, HPACK without tables or Huffman.
pub(crate) fn head_block(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-auth-token", "siege"),
    ];
    let mut block = Vec::new();
    for (name, value) in usual.iter().chain(more) {
        literal(&mut block, name, value);
    }
    block
}

/// One header field, literal and not indexed.
pub(crate) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        length(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// RFC 7541, section 5.1, with a prefix of 7 bits.
fn length(block: &mut Vec<u8>, length: usize) {
    const FULL: usize = 127;
    let byte = |value: usize| u8::try_from(value).expect("it fits");
    if length < FULL {
        block.push(byte(length));
        return;
    }
    block.push(byte(FULL));
    let mut rest = length - FULL;
    while rest >= 128 {
        block.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    block.push(byte(rest));
}
