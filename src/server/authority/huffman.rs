//! The Huffman code of HPACK (RFC 7541, appendix B).

/// The symbols of each code length. The code is canonical: within a length, codes ascend in this order. Its last code, 30 bits
/// that are all ones, is the end of the string, which may not occur.
const SYMBOLS: [(u32, &[u8]); 21] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (22, b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9"),
    (
        23,
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\
          \xef",
    ),
    (24, b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (
        28,
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\
          \xf9",
    ),
    (30, b"\n\r\x16"),
];

/// The length of the longest code.
const LONGEST: u32 = 30;

/// Decodes a string; `None` if it is malformed.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len());
    // The bits that were taken from `rest` and are not decoded yet.
    let (mut bits, mut count) = (0_u64, 0);
    let mut rest = bytes.iter();
    loop {
        while count < LONGEST
            && let Some(byte) = rest.next()
        {
            bits = (bits << 8) | u64::from(*byte);
            count += 8;
        }
        let next = match count.checked_sub(LONGEST) {
            Some(more) => bits >> more,
            // Filled with ones, as padding is.
            None => ((bits + 1) << (LONGEST - count)) - 1,
        };
        match symbol(next) {
            Some((symbol, length)) if length <= count => {
                text.push(symbol);
                count -= length;
                bits &= (1 << count) - 1;
            }
            // Padding is shorter than a byte, and all ones.
            _ => return (count < 8 && bits + 1 == 1 << count).then_some(text),
        }
    }
}

/// The symbol whose code begins these bits, [`LONGEST`] of them, and the code's length; `None` for the end of the string.
fn symbol(bits: u64) -> Option<(u8, u32)> {
    // The lowest code of the length.
    let (mut first, mut shorter) = (0, 0);
    for (length, symbols) in SYMBOLS {
        first <<= length - shorter;
        shorter = length;
        let at = usize::try_from((bits >> (LONGEST - length)) - first).ok()?;
        if let Some(symbol) = symbols.get(at) {
            return Some((*symbol, length));
        }
        first += symbols.len() as u64;
    }
    None
}

/// Encodes a string.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut bits: Vec<u64> = Vec::new();
    for byte in text {
        let (mut first, mut shorter) = (0, 0);
        for (length, symbols) in SYMBOLS {
            first <<= length - shorter;
            shorter = length;
            if let Some(at) = symbols.iter().position(|symbol| symbol == byte) {
                bits.extend((0..length).rev().map(|bit| ((first + at as u64) >> bit) & 1));
                break;
            }
            first += symbols.len() as u64;
        }
    }
    // The padding is all ones.
    let byte = |bits: &[u64]| (0..8).fold(0, |byte, at| (byte << 1) | u8::from(bits.get(at) != Some(&0)));
    bits.chunks(8).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 7541, appendix C.
    const VECTORS: [(&str, &[u8]); 5] = [
        ("www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]),
        ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
        ("custom-value", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]),
        (
            "Mon, 21 Oct 2013 20:13:21 GMT",
            &[
                0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0,
                0x82, 0xa6, 0x2d, 0x1b, 0xff,
            ],
        ),
        (
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            &[
                0x94, 0xe7, 0x82, 0x1d, 0xd7, 0xf2, 0xe6, 0xc7, 0xb3, 0x35, 0xdf, 0xdf, 0xcd, 0x5b, 0x39, 0x60, 0xd5,
                0xaf, 0x27, 0x08, 0x7f, 0x36, 0x72, 0xc1, 0xab, 0x27, 0x0f, 0xb5, 0x29, 0x1f, 0x95, 0x87, 0x31, 0x60,
                0x65, 0xc0, 0x03, 0xed, 0x4e, 0xe5, 0xb1, 0x06, 0x3d, 0x50, 0x07,
            ],
        ),
    ];

    #[test]
    fn the_vectors_of_the_standard_decode() {
        for (text, code) in VECTORS {
            assert_eq!(decode(code).as_deref(), Some(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), code);
        }
    }

    #[test]
    fn every_symbol_is_in_the_code_and_the_code_is_complete() {
        let mut all: Vec<u8> = SYMBOLS.iter().flat_map(|(_, symbols)| symbols.iter().copied()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..=255).collect::<Vec<u8>>());
        let codes: u64 = SYMBOLS.iter().map(|(length, symbols)| (symbols.len() as u64) << (LONGEST - length)).sum();
        assert_eq!(codes + 1, 1 << LONGEST, "all but the end of the string");
        assert_eq!(decode(&encode(&all)).as_deref(), Some(&all[..]));
    }

    #[test]
    fn a_malformed_string_is_none() {
        // The end of the string; a byte of padding; padding with a zero; a code that is cut off.
        for malformed in [&[0xff; 4][..], &[0x1f, 0xff], &[0x18], &[0xfe]] {
            assert_eq!(decode(malformed), None, "{malformed:x?}");
        }
        assert_eq!(decode(&[]), Some(Vec::new()));
        assert_eq!(decode(&[0x1f]), Some(b"a".to_vec()));
    }
}
