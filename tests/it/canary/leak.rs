//! Secrets as real ones are, every way in which a server may write them, and the search for parts of them in a text.

use std::{collections::HashMap, fmt::Write as _};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// So many letters of a secret, in any encoding, are a leak.
const PART: usize = 12;

/// As long as an IAM token.
pub(super) const TOKEN_LENGTH: usize = 4_096;

/// A text that a header can carry, different for each name and with no part twice.
pub(super) fn opaque(name: &str, length: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-/=";
    random(name, LETTERS.len()).map(|at| char::from(LETTERS[at])).take(length).collect()
}

/// A password with everything that JSON, HTML and URLs escape.
pub(super) fn password(name: &str) -> String {
    const LETTERS: &[char] = &[
        'a', 'b', 'k', 'n', 't', 'u', 'x', 'E', 'R', '0', '2', '5', '"', '\\', '/', '<', '&', '>', '%', '\'', ' ', 'é',
        'ß', '密', '😀',
    ];
    // The ends are letters: files and variables are trimmed.
    let middle: String = random(name, LETTERS.len()).map(|at| LETTERS[at]).take(90).collect();
    format!("p{middle}d")
}

/// Numbers below `most`, always the same for the same name.
fn random(name: &str, most: usize) -> impl Iterator<Item = usize> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || random.usize(..most))
}

/// A way to write a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Json,
    /// Everything that is no ASCII letter or digit as `\uXXXX`.
    JsonAscii,
    JsonTwice,
    Percent,
    Html,
    /// In base64, at each of the three places in a group.
    Base64(usize),
}

impl Encoding {
    pub(super) const ALL: [Self; 9] = [
        Self::Raw,
        Self::Json,
        Self::JsonAscii,
        Self::JsonTwice,
        Self::Percent,
        Self::Html,
        Self::Base64(0),
        Self::Base64(1),
        Self::Base64(2),
    ];

    pub(super) fn write(self, text: &str) -> String {
        match self {
            Self::Raw => text.to_owned(),
            Self::Json => json(text),
            Self::JsonAscii => text.encode_utf16().fold(String::new(), |mut written, unit| {
                match u8::try_from(unit) {
                    Ok(byte) if byte.is_ascii_alphanumeric() => written.push(byte.into()),
                    Ok(b'/') => written.push_str("\\/"),
                    _ => write!(written, "\\u{unit:04x}").unwrap(),
                }
                written
            }),
            Self::JsonTwice => json(&json(text)),
            Self::Percent => utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
            Self::Html => text.chars().fold(String::new(), |mut written, letter| {
                match letter {
                    '&' => written.push_str("&amp;"),
                    '<' => written.push_str("&lt;"),
                    '>' => written.push_str("&gt;"),
                    '"' => written.push_str("&quot;"),
                    '\'' => written.push_str("&#39;"),
                    '/' => written.push_str("&#x2F;"),
                    letter if letter.is_ascii() => written.push(letter),
                    letter => write!(written, "&#{};", u32::from(letter)).unwrap(),
                }
                written
            }),
            Self::Base64(before) => base64(format!("{}{text}", &"ab"[..before]).as_bytes()),
        }
    }
}

fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0, |bits, byte| (bits << 8) | usize::from(*byte)) << (8 * (3 - group.len()));
        (0..=group.len()).map(move |at| char::from(LETTERS[(bits >> (18 - 6 * at)) & 63])).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// The parts of a secret, written in one way each.
fn parts(secret: &str, encoding: Encoding) -> Vec<Vec<u8>> {
    if matches!(encoding, Encoding::Base64(_)) {
        // The digits at the ends are also of the text beside it.
        let written = encoding.write(secret);
        let inner = &written.as_bytes()[2..written.len() - 2];
        return inner.windows(PART).map(<[u8]>::to_vec).collect();
    }
    let mut written = String::new();
    let mut starts = vec![0];
    for letter in secret.chars() {
        written += &encoding.write(letter.encode_utf8(&mut [0; 4]));
        starts.push(written.len());
    }
    if encoding != Encoding::Raw && written == secret {
        return Vec::new();
    }
    starts.windows(PART + 1).map(|starts| written.as_bytes()[starts[0]..starts[PART]].to_vec()).collect()
}

/// The number of a secret, an encoding, and the rest of the part.
type Written = (usize, Encoding, Vec<u8>);

/// Every part of some secrets, in every encoding.
pub(super) struct Parts {
    names: Vec<String>,
    /// By their first bytes.
    written: HashMap<[u8; PART], Vec<Written>>,
}

impl Parts {
    pub(super) fn of(secrets: &[(&str, String)]) -> Self {
        let mut written: HashMap<_, Vec<_>> = HashMap::new();
        for (number, (_, secret)) in secrets.iter().enumerate() {
            for encoding in Encoding::ALL {
                for part in parts(secret, encoding) {
                    let (start, rest) = part.split_first_chunk().unwrap();
                    let parts: &mut Vec<Written> = written.entry(*start).or_default();
                    if parts.iter().all(|(_, _, other)| other != rest) {
                        parts.push((number, encoding, rest.to_vec()));
                    }
                }
            }
        }
        Self { names: secrets.iter().map(|(name, _)| (*name).to_owned()).collect(), written }
    }

    /// Fails if a text holds one; says which.
    pub(super) fn assert_absent(&self, said: &str, about: &str) {
        let said = said.as_bytes();
        for at in 0..said.len() {
            let Some((start, after)) = said[at..].split_first_chunk() else { break };
            let Some(parts) = self.written.get(start) else { continue };
            if let Some((number, encoding, _)) = parts.iter().find(|(.., rest)| after.starts_with(rest)) {
                let around = &said[at.saturating_sub(400)..(at + 100).min(said.len())];
                let around = String::from_utf8_lossy(around);
                panic!("{about}: {} leaked as {encoding:?} in: {around}", self.names[*number]);
            }
        }
    }
}

#[test]
fn a_part_of_a_secret_is_found_in_every_encoding() {
    let secrets = [("password", password("password")), ("token", opaque("token", TOKEN_LENGTH))];
    let parts = Parts::of(&secrets);
    parts.assert_absent("nothing of it: *** (\\u0020\\u0028) &quot;&lt;", "clean");
    for (name, secret) in &secrets {
        for encoding in Encoding::ALL {
            let part: String = secret.chars().skip(31).take(16).collect();
            let said = format!("before {} after", encoding.write(&part));
            let found = std::panic::catch_unwind(|| parts.assert_absent(&said, "dirty"));
            assert!(found.is_err(), "{name} {encoding:?}");
        }
    }
}
