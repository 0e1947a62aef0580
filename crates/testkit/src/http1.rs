//! Requests of HTTP/1.1 as a scripted upstream reads them.

use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A request as it reached an upstream.
#[derive(Debug, Clone)]
pub struct Request {
    /// Verb and target; the version too if it is not HTTP/1.1.
    pub line: String,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: String,
    /// The time at which the last byte was read.
    pub at: Instant,
    /// The number of its connection at the scripted cloud, from 1; 0 elsewhere.
    pub connection: usize,
}

impl Request {
    /// The first header with this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one request. `bytes` holds the beginning of the next request between two calls. Returns `None` after the peer has
/// closed the connection.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        read_more(stream, bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers = lines.map(|line| line.split_once(": ").expect("a header has a name and a value"));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().expect("a length is a number"));
    let whole = end + 4 + length;
    while bytes.len() < whole {
        read_more(stream, bytes).await?;
    }
    let body = String::from_utf8_lossy(&bytes[end + 4..whole]).into_owned();
    bytes.drain(..whole);
    Some(Request { line, headers, body, at: Instant::now(), connection: 0 })
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Option<()> {
    let mut block = [0; 4_096];
    match stream.read(&mut block).await {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            bytes.extend_from_slice(&block[..read]);
            Some(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_that_arrive_together_are_read_one_by_one() {
        let mut stream = &b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nX-Id: 7\r\n\r\nabcGET /b HTTP/1.0\r\n\r\nGET"[..];
        let mut bytes = Vec::new();
        let first = read_request(&mut stream, &mut bytes).await.unwrap();
        assert_eq!((first.line.as_str(), first.body.as_str(), first.header("x-id")), ("POST /a", "abc", Some("7")));
        let second = read_request(&mut stream, &mut bytes).await.unwrap();
        assert_eq!((second.line.as_str(), second.body.as_str()), ("GET /b HTTP/1.0", ""));
        assert!(read_request(&mut stream, &mut bytes).await.is_none(), "half a request is none");
    }
}
