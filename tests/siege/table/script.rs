//! The attacks of the table as data: for each stream its head, its bytes, their rhythm, and its end.

use std::{io::Write as _, sync::OnceLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::caller::attach_message;
use testkit::grpc::{ATTACH, frame};

const MIB: usize = 1024 * 1024;

/// The largest message that the gateway takes with its default settings.
const LARGEST: usize = 4 * MIB;

/// A method of the gRPC port.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) name: &'static str,
    /// Paths that are attacked in turn.
    paths: &'static [&'static str],
    /// A valid message for the stream with this number.
    message: fn(u32) -> Vec<u8>,
}

pub(super) const METHODS: [Method; 5] = [
    Method {
        name: "AttachDomains",
        paths: &[ATTACH],
        message: |number| attach_message(&format!("attacked-{}", number % 4_096)),
    },
    Method { name: "Health/Check", paths: &["/grpc.health.v1.Health/Check"], message: |_| Vec::new() },
    Method { name: "Health/Watch", paths: &["/grpc.health.v1.Health/Watch"], message: |_| Vec::new() },
    Method {
        name: "reflection",
        paths: &[
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ],
        message: |_| reflection_message(),
    },
    Method {
        name: "unknown method",
        paths: &["/huaweicloud.apic.v2.CertificateService/Unknown", "/siege.Unknown/Method"],
        message: |_| b"\x0a\x05siege".to_vec(),
    },
];

/// Asks for the service's file: `string file_containing_symbol = 4`.
fn reflection_message() -> Vec<u8> {
    let symbol = b"huaweicloud.apic.v2.CertificateService";
    let length = u8::try_from(symbol.len()).expect("a short name");
    [&[0x22, length], &symbol[..]].concat()
}

/// A kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    HeadOnly,
    HalfMessage,
    Gzip,
    Bomb,
    Trailers,
    Slow,
    Reset,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::HeadOnly, Self::HalfMessage, Self::Gzip, Self::Bomb, Self::Trailers, Self::Slow, Self::Reset];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HeadOnly => "head only",
            Self::HalfMessage => "half message",
            Self::Gzip => "gzip",
            Self::Bomb => "bomb",
            Self::Trailers => "trailers",
            Self::Slow => "slow",
            Self::Reset => "reset",
        }
    }

    /// Streams at once on each connection, at most the 256 that the gateway grants.
    pub(super) fn streams(self) -> u32 {
        match self {
            Self::HeadOnly => 240,
            Self::Gzip | Self::Slow => 200,
            Self::Trailers | Self::Reset => 100,
            Self::HalfMessage => 60,
            // Each is some work for a debug build.
            Self::Bomb => 6,
        }
    }
}

/// When the bytes of a request are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rhythm {
    AtOnce,
    /// After the heads of all streams, and a delay.
    Late,
    /// A byte at a time.
    Slow,
}

/// How a request ends after its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Stream,
    Trailers,
    Reset,
    Never,
}

/// One stream of an attack.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) path: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    pub(super) rhythm: Rhythm,
    pub(super) end: End,
}

impl Script {
    /// The script of a stream of a connection, by their numbers. Where an attack has several forms, they take turns.
    pub(super) fn of(kind: Kind, method: &Method, connection: u32, number: u32) -> Self {
        let path = method.paths[number as usize / 2 % method.paths.len()];
        let plain = Self { path, headers: Vec::new(), body: Bytes::new(), rhythm: Rhythm::AtOnce, end: End::Never };
        let odd = number % 2 == 1;
        let message = || (method.message)(number);
        match kind {
            // Metadata is memory too: one of four heads carries almost as much of it as fits into one frame.
            Kind::HeadOnly if number % 4 == 3 => Self { headers: vec![("x-fat", "f".repeat(15_000))], ..plain },
            Kind::HeadOnly => plain,
            Kind::HalfMessage if odd => Self { body: half(&small()), ..plain },
            Kind::HalfMessage => Self { body: half(&large()), ..plain },
            Kind::Gzip => {
                // Bodies that come late leave room again; the other connections take it.
                let late = odd && connection % 2 == 1;
                let body = if late { compressed(&message()) } else { Bytes::new() };
                let end = if late { End::Stream } else { End::Never };
                Self { headers: gzip_header(), body, rhythm: Rhythm::Late, end, ..plain }
            }
            Kind::Bomb => match number % 3 {
                0 => Self { headers: gzip_header(), body: zeros(), end: End::Stream, ..plain },
                1 => Self { headers: gzip_header(), body: packed_entries(), end: End::Stream, ..plain },
                _ => Self { body: entries(), end: End::Stream, ..plain },
            },
            Kind::Trailers => Self { body: frame(0, &message()).into(), end: End::Trailers, ..plain },
            Kind::Slow => Self { body: large(), rhythm: Rhythm::Slow, ..plain },
            Kind::Reset if odd => Self { body: half(&small()), end: End::Reset, ..plain },
            Kind::Reset => Self { end: End::Reset, ..plain },
        }
    }
}

fn gzip_header() -> Vec<(&'static str, String)> {
    vec![("grpc-encoding", "gzip".into())]
}

fn half(frame: &Bytes) -> Bytes {
    frame.slice(..frame.len() / 2)
}

/// As large as a message of health or reflection may be, or smaller.
fn small() -> Bytes {
    frame(0, &[0; 4_000]).into()
}

/// Just under the largest message.
fn large() -> Bytes {
    static LARGE: OnceLock<Bytes> = OnceLock::new();
    LARGE.get_or_init(|| frame(0, &vec![0; LARGEST - 64]).into()).clone()
}

/// Two million empty `domains`.
fn entries() -> Bytes {
    static ENTRIES: OnceLock<Bytes> = OnceLock::new();
    ENTRIES.get_or_init(|| frame(0, &[0x1a, 0].repeat(LARGEST / 2)).into()).clone()
}

/// The same in some 4 KiB.
fn packed_entries() -> Bytes {
    static PACKED: OnceLock<Bytes> = OnceLock::new();
    PACKED.get_or_init(|| compressed(&[0x1a, 0].repeat(LARGEST / 2))).clone()
}

/// Four times the largest message, in some 16 KiB.
pub(super) fn zeros() -> Bytes {
    static ZEROS: OnceLock<Bytes> = OnceLock::new();
    ZEROS.get_or_init(|| compressed(&vec![0; 4 * LARGEST])).clone()
}

/// A compressed message with its five bytes.
fn compressed(message: &[u8]) -> Bytes {
    let mut packed = frame(0, &gzip(message));
    packed[0] = 1;
    packed.into()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
