//! Answers that send a request's secrets back, in every place and every form.

use serde_json::{Value, json};

use super::leak::Encoding;
use crate::support::{Reply, Seen, head};

/// As much of an answer's body as the gateway reads.
const READ_LIMIT: usize = 65_536;

/// Where an answer has the request's secrets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Echo {
    /// In the message of an error object, in this encoding besides that of the object itself.
    Message(u16, Encoding),
    /// In the message, across the limit of a message's length.
    AcrossTheCut(Encoding),
    /// In the members of an error object that are passed on.
    Members,
    /// In a body that is no error object.
    Page(u16, Encoding),
    /// In such a body, across the limit of the part that is shown.
    PageAcrossTheCut,
    /// In such a body, across the limit of the part that is read.
    AcrossTheEnd,
    /// In headers.
    Headers(u16),
}

impl Echo {
    /// Echoes of the cloud: each leads to an answer for the caller.
    pub(super) fn of_the_cloud() -> Vec<Self> {
        let mut all = vec![
            Self::Members,
            Self::PageAcrossTheCut,
            Self::AcrossTheEnd,
            Self::Message(401, Encoding::Raw),
            Self::Message(500, Encoding::Raw),
            Self::Page(407, Encoding::Html),
            Self::Page(401, Encoding::Raw),
        ];
        all.extend([204, 200, 302, 400, 401, 429].map(Self::Headers));
        all.extend(Encoding::ALL.map(|encoding| Self::Message(400, encoding)));
        all.extend([Encoding::Raw, Encoding::Json, Encoding::Base64(0)].map(Self::AcrossTheCut));
        all.extend([Encoding::Raw, Encoding::Json, Encoding::Html].map(|encoding| Self::Page(403, encoding)));
        all
    }

    /// Echoes of a service that gives credentials: after each of them a gateway pauses.
    pub(super) fn of_a_service() -> Vec<Self> {
        let mut all =
            vec![Self::PageAcrossTheCut, Self::AcrossTheEnd, Self::Headers(302), Self::AcrossTheCut(Encoding::Raw)];
        all.extend(Encoding::ALL.map(|encoding| Self::Message(400, encoding)));
        all
    }

    pub(super) fn reply(self) -> Reply {
        Reply::made(move |seen| self.answer(seen))
    }

    fn answer(self, seen: &Seen) -> Vec<u8> {
        let pieces = pieces(seen);
        let (snippets, longest) = (snippets(&pieces), pieces[0].as_str());
        match self {
            Self::Message(status, encoding) => error(status, &encoding.write(&format!("{snippets} {longest}"))),
            Self::AcrossTheCut(encoding) => {
                error(400, &format!("{} {}", "x".repeat(240), encoding.write(&longest.repeat(2))))
            }
            Self::Members => {
                let body = json!({
                    "error_code": format!("A{}", first(&pieces[pieces.len() - 1], 60).replace(|c: char| !c.is_ascii_alphanumeric(), "")),
                    "error_msg": {"headers": pieces},
                    "request_id": first(longest, 100),
                    "encoded_authorization_message": first(longest, 1_000),
                });
                answer(403, &[("Content-Type", "application/json")], body.to_string().as_bytes())
            }
            Self::Page(status, encoding) => {
                let body = format!("<h1>{}</h1>{}", encoding.write(longest), encoding.write(&snippets));
                answer(status, &[("Content-Type", "text/html")], body.as_bytes())
            }
            Self::PageAcrossTheCut => {
                let body = format!("<h1>{}</h1>{longest}", "no ".repeat(42));
                answer(400, &[("Content-Type", "text/html")], body.as_bytes())
            }
            Self::AcrossTheEnd => {
                let body = format!("{}{longest}{longest}", " ".repeat(READ_LIMIT - 60));
                answer(400, &[], body.as_bytes())
            }
            Self::Headers(status) => {
                let short = first(longest, 100);
                let headers = [
                    ("X-Request-Id", short.clone()),
                    ("Content-Type", format!("text/html; t={}", first(longest, 80))),
                    ("Location", format!("http://127.0.0.1:1/?t={longest}")),
                    ("Retry-After", short),
                    ("WWW-Authenticate", longest.to_owned()),
                ];
                let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
                answer(status, &headers.collect::<Vec<_>>(), b"")
            }
        }
    }
}

/// An error object that the cloud, IAM and clients of both read.
fn error(status: u16, message: &str) -> Vec<u8> {
    let body = json!({"error_code": "APIG.2012", "error_msg": message, "request_id": "r"});
    answer(status, &[("Content-Type", "application/json")], body.to_string().as_bytes())
}

fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let length = (status != 204).then_some(("Content-Length", length.as_str()));
    let mut bytes = head(status, headers.iter().copied().chain(length));
    bytes.extend_from_slice(body);
    bytes
}

/// The secrets of a request, the longest first.
fn pieces(seen: &Seen) -> Vec<String> {
    const HEADERS: [&str; 4] = ["x-auth-token", "x-security-token", "x-metadata-token", "authorization"];
    const MEMBERS: [&str; 3] = ["/auth/identity/password/user/password", "/auth/id_token/id", "/id_token"];
    let body: Value = serde_json::from_str(&seen.body).unwrap_or_default();
    let headers = HEADERS.iter().filter_map(|name| seen.header(name)).map(str::to_owned);
    let members = MEMBERS.iter().filter_map(|place| body.pointer(place)?.as_str()).map(str::to_owned);
    let mut pieces: Vec<String> = headers.chain(members).collect();
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
    if pieces.is_empty() {
        pieces.push("nothing".into());
    }
    pieces
}

/// Beginning and end of each: an echo cut short.
fn snippets(pieces: &[String]) -> String {
    let last = |piece: &str| {
        let letters: Vec<char> = piece.chars().collect();
        letters[letters.len().saturating_sub(70)..].iter().collect::<String>()
    };
    pieces.iter().map(|piece| ["(", &first(piece, 60), ") (", &last(piece), ") "].concat()).collect()
}

fn first(piece: &str, most: usize) -> String {
    piece.chars().take(most).collect()
}
