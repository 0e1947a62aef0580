//! Responses as bytes of HTTP/1.1, in pieces, and the state of the connection after them.

use std::time::Duration;

use super::{
    fault::{Break, Fault, Success},
    refusal::{Body, Refusal},
};

/// The state of the connection after the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It waits for the next request.
    Keep,
    /// It is closed, and requests that still arrive are noted.
    Close,
    /// It is closed if no request comes for so long.
    CloseWhenIdle(Duration),
    Reset,
    /// Nothing more comes, and it stays until the peer ends it.
    Hold,
    /// Bytes that belong to no response have been sent: a peer that sends another request takes them for its response.
    Poisoned,
}

/// A response: pieces, each after a delay, and the state of the connection after them.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) pieces: Vec<(Duration, Vec<u8>)>,
    pub(crate) after: After,
}

impl Script {
    fn at_once(bytes: impl Into<Vec<u8>>, after: After) -> Self {
        Self { pieces: vec![(Duration::ZERO, bytes.into())], after }
    }

    /// The bytes of one fault.
    pub(crate) fn of(fault: &Fault) -> Self {
        match *fault {
            Fault::Attached(form) => attached(form),
            Fault::Refused(refusal, body) => refused(refusal, body),
            Fault::Unexpected { status, html: true, .. } => {
                let page = "<html><body>Please sign in</body></html>";
                let head = head(status, &format!("Content-Type: text/html\r\nContent-Length: {}\r\n", page.len()));
                Self::at_once(head + page, After::Keep)
            }
            Fault::Unexpected { status, .. } => {
                Self::at_once(head(status, "Content-Length: 2\r\n") + "{}", After::Keep)
            }
            Fault::Redirect { status, .. } => {
                Self::at_once(head(status, "Location: /followed\r\nContent-Length: 0\r\n"), After::Keep)
            }
            Fault::Broken { how, .. } => Self { pieces: Vec::new(), after: broken(how) },
            Fault::CutHead { how, .. } => Self::at_once("HTTP/1.1 204 No Content\r\nX-Requ", broken(how)),
            Fault::Garbage { kind, .. } => {
                let garbage: &[u8] = match kind {
                    0 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                    1 => b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
                    2 => b"HTTP/1.1 two hundred and four\r\n\r\n",
                    _ => b"HTTP/1.1 204 No Content\r\nno colon here\r\n\r\n",
                };
                Self::at_once(garbage, After::Close)
            }
            Fault::Stall { .. } => Self { pieces: Vec::new(), after: After::Hold },
            Fault::Crossed => Self { pieces: Vec::new(), after: After::Keep },
        }
    }
}

fn broken(how: Break) -> After {
    match how {
        Break::Reset => After::Reset,
        Break::Close => After::Close,
    }
}

fn head(status: u16, headers: &str) -> String {
    format!("HTTP/1.1 {status} Scripted\r\nX-Request-Id: cloud-1\r\n{headers}\r\n")
}

fn attached(form: Success) -> Script {
    let plain = || head(204, "");
    match form {
        Success::Prompt => Script::at_once(plain(), After::Keep),
        Success::Late(delay) => Script { pieces: vec![(delay, plain().into())], after: After::Keep },
        Success::AfterInterim => {
            let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
            Script::at_once(interim.to_owned() + &plain(), After::Keep)
        }
        Success::Old => Script::at_once("HTTP/1.0 204 No Content\r\n\r\n", After::Close),
        Success::Closing => Script::at_once(head(204, "Connection: close\r\n"), After::Close),
        Success::ThenClosed => Script::at_once(plain(), After::Close),
        Success::ThenClosedIdle(delay) => Script::at_once(plain(), After::CloseWhenIdle(delay)),
        Success::WithLength => Script::at_once(head(204, "Content-Length: 50\r\n"), After::Keep),
        Success::WithBody => {
            Script::at_once(head(204, "Content-Length: 24\r\n") + "HTTP/1.1 200 Not yours\r\n", After::Poisoned)
        }
        Success::InPieces(delay) => {
            let (first, second) = ("HTTP/1.1 204 No Con", "tent\r\nX-Request-Id: cloud-1\r\n\r\n");
            Script { pieces: vec![(Duration::ZERO, first.into()), (delay, second.into())], after: After::Keep }
        }
    }
}

fn refused(refusal: &Refusal, body: Body) -> Script {
    let text = match refusal.error_code {
        Some(code) => format!(r#"{{"error_code":"{code}","error_msg":"{}","request_id":"cloud-1"}}"#, refusal.message),
        None => r#"{"what":"an object without a code"}"#.to_owned(),
    };
    let wait = refusal.retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
    let status = refusal.status;
    let sized =
        |length: usize| head(status, &format!("{wait}Content-Type: application/json\r\nContent-Length: {length}\r\n"));
    let chunked = || head(status, &format!("{wait}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"));
    let (first, second) = text.split_at(text.len() / 2);
    let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
    match body {
        Body::Whole => Script::at_once(sized(text.len()) + &text, After::Keep),
        Body::Chunked => Script::at_once(chunked() + &chunk(first) + &chunk(second) + "0\r\n\r\n", After::Keep),
        Body::Slow(delay) => {
            let parts = [chunked(), chunk(first), chunk(second), "0\r\n\r\n".to_owned()];
            Script { pieces: parts.into_iter().map(|part| (delay, part.into_bytes())).collect(), after: After::Keep }
        }
        Body::None => Script::at_once(sized(0), After::Keep),
        Body::Html => {
            let page = "<html><head><title>Error</title></head></html>";
            Script::at_once(sized(page.len()) + page, After::Keep)
        }
        Body::CutByClose => Script::at_once(sized(text.len()) + first, After::Close),
        Body::CutByReset => Script::at_once(sized(text.len()) + first, After::Reset),
        Body::BadChunk => Script::at_once(chunked() + &chunk(first) + "what?\r\n\r\n", After::Close),
        Body::Short => Script::at_once(sized(text.len() + 300) + &text, After::Close),
        Body::Long => Script::at_once(sized(first.len()) + &text, After::Poisoned),
        Body::Huge => {
            let text = format!(r#"{{"filler":"{}","error_code":"APIG.2012"}}"#, "x".repeat(100_000));
            Script::at_once(sized(text.len()) + &text, After::Keep)
        }
        Body::Stalled => Script::at_once(sized(text.len()) + first, After::Hold),
    }
}
