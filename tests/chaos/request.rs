//! A request as the upstream reads it, and whether it is one that a caller has asked for.

use tokio::{io::AsyncReadExt, net::TcpStream};

use super::plan::PROJECT;

/// How the token of all callers begins, and that of the gateway where it has its own.
pub(crate) const TOKEN: &str = "chaos-token";

/// What was read of a request.
#[derive(Debug)]
pub(crate) struct Request {
    line: String,
    id: String,
    token: String,
    body: String,
    pub(crate) certificate: String,
}

/// The name by which a call's request is known everywhere.
pub(crate) fn id(number: u64) -> String {
    format!("chaos-{number}")
}

/// The domain that the call attaches: it says which one it is.
pub(crate) fn domain(number: u64) -> String {
    format!("n{number}.chaos.example")
}

impl Request {
    /// The number of the call, if the request is all that the call asked for, and nothing else.
    pub(crate) fn number(&self) -> Result<u64, String> {
        let number = self.id.strip_prefix("chaos-").and_then(|text| text.parse().ok()).ok_or("no call's request id")?;
        let path = format!("POST /v2/{PROJECT}/apic/certificates/{}/domains/attach HTTP/1.1", self.certificate);
        if self.line != path {
            return Err("not the operation's path".into());
        }
        if !self.token.starts_with(TOKEN) {
            return Err("not the call's token".into());
        }
        let body: serde_json::Value = serde_json::from_str(&self.body).map_err(|fault| fault.to_string())?;
        if body != serde_json::json!({ "domains": [{ "domain": domain(number) }] }) {
            return Err("not the call's body".into());
        }
        Ok(number)
    }
}

/// Reads one request; `None` when the peer has left.
pub(crate) async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(stream, bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        let value =
            head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name));
        value.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let length: usize = header("content-length").parse().unwrap_or(0);
    while bytes.len() < end + 4 + length {
        more(stream, bytes).await?;
    }
    let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
    bytes.drain(..end + 4 + length);
    let line = head.lines().next().unwrap_or_default().to_owned();
    let certificate = line.split('/').nth(5).unwrap_or_default().to_owned();
    Some(Request { id: header("x-request-id"), token: header("x-auth-token"), body, certificate, line })
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut block = [0; 4_096];
    match stream.read(&mut block).await {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            bytes.extend_from_slice(&block[..read]);
            Some(())
        }
    }
}
