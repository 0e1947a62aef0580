use std::collections::VecDeque;

use http::HeaderMap;
use proptest::{collection::vec, prelude::*, sample};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{frames::MAX_BLOCK, *};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The bytes that h2 reads when these arrive in pieces, and the most that waited.
fn filtered<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, usize) {
    crate::bench_support::filter_authority(pieces)
}

fn after_preface(frames: &[u8]) -> Vec<u8> {
    let (read, _) = filtered([PREFACE, frames]);
    read.strip_prefix(PREFACE).unwrap().to_vec()
}

/// A block with an unusable authority, and with its replacement.
const UNUSABLE: &[u8] = b"\x83\x41\x08/gw.sock\x86\x44\x02/a";
const USABLE: &[u8] = b"\x83\x41\x08aaaaaaaa\x86\x44\x02/a";

#[test]
fn padding_priority_and_continuations_hide_no_authority() {
    let priority = [0x80, 0, 0, 3, 200];
    let padded = |block: &[u8], more: &[u8]| [&[7], more, block, &[0; 7]].concat();
    let expected = frame(1, 0x5, 1, USABLE);
    assert_eq!(after_preface(&frame(1, 0x5, 1, UNUSABLE)), expected);
    assert_eq!(after_preface(&frame(1, 0xd, 1, &padded(UNUSABLE, &[]))), expected);
    let expected_with_priority = frame(1, 0x25, 1, &[&priority, USABLE].concat());
    assert_eq!(after_preface(&frame(1, 0x2d, 1, &padded(UNUSABLE, &priority))), expected_with_priority);
    assert_eq!(after_preface(&frame(1, 0x25, 1, &[&priority, UNUSABLE].concat())), expected_with_priority);
    for first in 0..=UNUSABLE.len() {
        for second in first..=UNUSABLE.len() {
            let frames = [
                frame(1, 0x29, 1, &padded(&UNUSABLE[..first], &priority)),
                // The reserved bit of a stream's number means nothing.
                frame(9, 0, 1 | 1 << 31, &UNUSABLE[first..second]),
                frame(9, 4, 1, &UNUSABLE[second..]),
            ];
            assert_eq!(after_preface(&frames.concat()), expected_with_priority);
        }
    }
    // One that needs no replacement passes as it is, padding and all.
    let usable = [frame(1, 0x29, 1, &padded(&USABLE[..4], &priority)), frame(9, 4, 1, &USABLE[4..])].concat();
    assert_eq!(after_preface(&usable), usable);
    // A block that is empty without its authority is still a block.
    assert_eq!(after_preface(&frame(1, 5, 1, &[0x81])), frame(1, 5, 1, &[]));
}

#[test]
fn a_block_that_grows_is_cut_into_frames() {
    // Two thirds longer without its Huffman code.
    let mut block = vec![0x41];
    string(&mut block, &[&b"/"[..], &vec![b'0'; 25_604]].concat(), true);
    assert!(block.len() < 16_384);
    let read = after_preface(&frame(1, 5, 1, &block));
    let new = [&[0x41, 0x7f, 0x86, 0xc7, 0x01][..], &vec![b'a'; 25_605]].concat();
    assert!(read == [frame(1, 1, 1, &new[..16_384]), frame(9, 4, 1, &new[16_384..])].concat());
}

#[test]
fn a_violation_passes_and_so_does_everything_after_it() {
    let unusable = frame(1, 5, 1, UNUSABLE);
    let open = frame(1, 1, 1, b"");
    for violation in [
        // Another frame, or another stream, where a CONTINUATION belongs.
        [open.clone(), frame(0, 0, 1, b"")].concat(),
        [open.clone(), frame(9, 4, 3, b"")].concat(),
        // More CONTINUATION than h2 takes.
        [open.clone(), frame(9, 0, 1, b"").repeat(6)].concat(),
        // Too much padding, no priority, and a block that is cut.
        frame(1, 0xd, 1, &[9, 0]),
        frame(1, 0x25, 1, &[0; 4]),
        frame(1, 5, 1, &UNUSABLE[..6]),
        // Too large.
        vec![0, 0x40, 1, 1, 5, 0, 0, 0, 1],
    ] {
        let frames = [&violation[..], &unusable].concat();
        assert_eq!(after_preface(&frames), frames);
    }
    // A CONTINUATION by itself is h2's to refuse.
    let frames = [frame(9, 4, 1, UNUSABLE), frame(1, 5, 1, USABLE)].concat();
    assert_eq!(after_preface(&frames), frames);
}

#[test]
fn no_client_makes_it_hold_more_than_a_block() {
    let largest = [frame(1, 1, 1, &[0; 16_384]), frame(9, 0, 1, &[0; 16_384]).repeat(100)].concat();
    for size in [97, 16_384, 100_000] {
        let (read, waiting) = filtered([PREFACE].into_iter().chain(largest.chunks(size)));
        assert_eq!(read.len(), PREFACE.len() + largest.len());
        assert!((MAX_BLOCK - 2 * 16_393..MAX_BLOCK).contains(&waiting), "{waiting}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_2_pass() {
    for garbage in [&b"GET / HTTP/1.1\r\nhost: /tmp/gw.sock\r\n\r\n"[..], b"\x16\x03\x01", b"", &[0; 100]] {
        let mut read = Vec::new();
        AuthorityFilter::new(garbage).read_to_end(&mut read).await.unwrap();
        assert_eq!(read, garbage);
    }
}

/// A field and the way that an encoder writes it.
#[derive(Debug, Clone)]
struct Field {
    name: String,
    value: String,
    /// As an entry of the dynamic table, if it has one; or inserted, not inserted, or never indexed.
    form: usize,
    has_coded_name: bool,
    has_coded_value: bool,
}

/// The frames of a block.
#[derive(Debug, Clone)]
struct Cut {
    padding: Option<u8>,
    has_priority: bool,
    /// The longest fragment, as a share of the block.
    parts: usize,
}

/// A client's encoder, with a dynamic table of its own.
#[derive(Debug, Default)]
struct Encoder {
    table: VecDeque<(String, String)>,
}

impl Encoder {
    fn size(&self) -> usize {
        self.table.iter().map(|(name, value)| 32 + name.len() + value.len()).sum()
    }

    fn encode(&mut self, block: &mut Vec<u8>, field: &Field) {
        let found = self.table.iter().position(|(name, value)| *name == field.name && *value == field.value);
        if let Some(at) = found.filter(|_| field.form == 0) {
            return number(block, 0x80, 7, 62 + at);
        }
        let (first, prefix) = [(0x40, 6), (0x40, 6), (0, 4), (0x10, 4)][field.form];
        match self.table.iter().position(|(name, _)| *name == field.name) {
            Some(at) if field.has_coded_name => number(block, first, prefix, 62 + at),
            _ if field.name == ":authority" && field.has_coded_value => number(block, first, prefix, 1),
            _ => {
                block.push(first);
                string(block, field.name.as_bytes(), field.has_coded_name);
            }
        }
        string(block, field.value.as_bytes(), field.has_coded_value);
        if first == 0x40 {
            self.table.push_front((field.name.clone(), field.value.clone()));
            while self.size() > 4_096 {
                self.table.pop_back();
            }
        }
    }
}

fn number(block: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        return block.push(first | u8::try_from(value).unwrap());
    }
    block.push(first | u8::try_from(most).unwrap());
    let mut rest = value - most;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

fn string(block: &mut Vec<u8>, text: &[u8], is_coded: bool) {
    let code = if is_coded { super::huffman::encode(text) } else { text.to_vec() };
    number(block, if is_coded { 0x80 } else { 0 }, 7, code.len());
    block.extend(code);
}

/// A request as frames: HEADERS with its CONTINUATIONs, DATA, trailers.
fn request(encoder: &mut Encoder, stream: u32, fields: &[Field], cut: &Cut) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    string_field(&mut block, 0x04, b"/a.b/C");
    for field in fields {
        encoder.encode(&mut block, field);
    }
    let mut fragments = block.chunks(block.len() / cut.parts + 1).peekable();
    let mut flags = if fragments.len() == 1 { 4 } else { 0 };
    let mut payload = Vec::new();
    if let Some(padding) = cut.padding {
        flags |= 8;
        payload.push(padding);
    }
    if cut.has_priority {
        flags |= 0x20;
        payload.extend([0, 0, 0, 0, 9]);
    }
    payload.extend(fragments.next().unwrap());
    payload.resize(payload.len() + usize::from(cut.padding.unwrap_or_default()), 0);
    let mut frames = frame(1, flags, stream, &payload);
    while let Some(fragment) = fragments.next() {
        frames.extend(frame(9, if fragments.peek().is_none() { 4 } else { 0 }, stream, fragment));
    }
    frames.extend(frame(0, 0, stream, &[1; 40]));
    let mut trailers = Vec::new();
    let trailer = Field { name: "x-end".into(), value: stream.to_string(), ..fields[0].clone() };
    encoder.encode(&mut trailers, &trailer);
    frames.extend(frame(1, 5, stream, &trailers));
    frames
}

fn string_field(block: &mut Vec<u8>, first: u8, value: &[u8]) {
    block.push(first);
    string(block, value, true);
}

/// The authority, fields and trailers of each of so many requests that h2 reads from these bytes.
async fn read_by_h2(bytes: &[u8], number: usize, size: usize) -> Vec<(Option<String>, HeaderMap, HeaderMap)> {
    let (client, gateway) = tokio::io::duplex(size);
    let (mut responses, mut sender) = tokio::io::split(client);
    let client = async {
        let mut sink = tokio::io::sink();
        let _ = tokio::join!(sender.write_all(bytes), tokio::io::copy(&mut responses, &mut sink));
    };
    let requests_of_h2 = async {
        let mut builder = h2::server::Builder::new();
        let handshake = builder.max_header_list_size(56 * 1024).handshake(AuthorityFilter::new(gateway));
        let mut connection: h2::server::Connection<_, bytes::Bytes> = handshake.await.unwrap();
        let mut requests = Vec::new();
        while requests.len() < number {
            requests.push(connection.accept().await.unwrap().unwrap());
        }
        let read = async {
            let mut all = Vec::new();
            for (request, _) in &mut requests {
                while let Some(data) = request.body_mut().data().await {
                    data.unwrap();
                }
                let trailers = request.body_mut().trailers().await.unwrap().unwrap();
                let authority = request.uri().authority().map(ToString::to_string);
                all.push((authority, request.headers().clone(), trailers));
            }
            all
        };
        tokio::select! {
            all = read => all,
            _ = connection.accept() => panic!("the connection ended"),
        }
    };
    tokio::select! {
        requests = requests_of_h2 => requests,
        () = client => panic!("the connection ended"),
    }
}

fn field(name: impl Strategy<Value = String>, value: impl Strategy<Value = String>) -> impl Strategy<Value = Field> {
    (name, value, 0..4_usize, any::<bool>(), any::<bool>()).prop_map(
        |(name, value, form, has_coded_name, has_coded_value)| Field {
            name,
            value,
            form,
            has_coded_name,
            has_coded_value,
        },
    )
}

fn requests() -> impl Strategy<Value = Vec<(Vec<Field>, Cut)>> {
    let authority = sample::select(vec![
        "localhost",
        "gw:50051",
        "tmp%2Fgw.sock",
        "/tmp/gw.sock",
        "unix:/x",
        "/r\u{e9}seau",
        "#{\\}",
        "a long one that takes much of the table, with spaces",
    ]);
    let name = sample::select(vec!["x-a", "x-b", "x-long-name", "host", "x-auth-token"]).prop_map(str::to_owned);
    // Some values take half of the table, so that entries are evicted.
    let value = prop_oneof!["[ -~]{0,20}", "[a-d]", "[a-z]{1500,2100}"];
    let fields =
        (field(Just(":authority".to_owned()), authority.prop_map(str::to_owned)), vec(field(name, value), 0..6))
            .prop_map(|(authority, mut fields)| {
                fields.insert(0, authority);
                fields
            });
    let cut = (prop::option::of(0..30_u8), any::<bool>(), 1..5_usize).prop_map(|(padding, has_priority, parts)| Cut {
        padding,
        has_priority,
        parts,
    });
    vec((fields, cut), 1..12)
}

fn connection(requests: &[(Vec<Field>, Cut)]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = [PREFACE, SETTINGS].concat();
    for (at, (fields, cut)) in requests.iter().enumerate() {
        bytes.extend(request(&mut encoder, u32::try_from(at).unwrap() * 2 + 1, fields, cut));
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The client's encoder and the decoder of h2 stay in step, whatever the filter replaces.
    #[test]
    fn h2_reads_every_request_as_the_client_meant_it(requests in requests(), size in 1..5_000_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let requests_read = runtime.block_on(read_by_h2(&connection(&requests), requests.len(), size));
        for (at, ((authority, headers, trailers), (fields, _))) in requests_read.iter().zip(&requests).enumerate() {
            let sent = &fields[0].value;
            let is_usable = http::uri::Authority::try_from(sent.as_str()).is_ok();
            let expected = if is_usable { sent.clone() } else { "a".repeat(sent.len()) };
            prop_assert_eq!(authority.as_ref(), Some(&expected));
            for name in ["x-a", "x-b", "x-long-name", "host", "x-auth-token"] {
                let sent: Vec<_> = fields.iter().filter(|field| field.name == name).map(|field| &field.value[..]).collect();
                let read: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
                prop_assert_eq!(read, sent);
            }
            prop_assert_eq!(trailers.get("x-end").unwrap(), &(2 * at + 1).to_string());
        }
    }

    #[test]
    fn the_cuts_of_the_bytes_change_nothing(requests in requests(), sizes in vec(1..2_000_usize, 1..20), cut in any::<u16>()) {
        let mut bytes = connection(&requests);
        // Sometimes the connection ends early.
        bytes.truncate(bytes.len().saturating_sub(usize::from(cut) % 400));
        let (whole, _) = filtered([&bytes[..]]);
        prop_assert_eq!(&filtered(bytes.chunks(1)).0, &whole);
        let mut rest = &bytes[..];
        let pieces = sizes.iter().cycle().map_while(|size| {
            let (piece, later) = rest.split_at((*size).min(rest.len()));
            rest = later;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(&filtered(pieces).0, &whole);
        prop_assert_eq!(&filtered([&whole[..]]).0, &whole, "nothing is left to replace");
    }
}
