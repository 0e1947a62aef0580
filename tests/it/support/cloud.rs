//! A cloud that answers by script, byte for byte, and remembers what reached it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use super::soon;

/// What the cloud does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These bytes; the connection stays.
    Bytes(Vec<u8>),
    /// These bytes, and then the end of the connection.
    ThenClose(Vec<u8>),
    /// These bytes, and then blocks of filler until the peer leaves or this many have gone.
    ThenFlood(Vec<u8>, usize),
    /// These bytes, and then nothing.
    ThenHang(Vec<u8>),
    /// Bytes made from the request; the connection stays.
    Made(Made),
}

/// Makes an answer from a request.
#[derive(Clone)]
pub(crate) struct Made(Arc<Make>);

type Make = dyn Fn(&Seen) -> Vec<u8> + Send + Sync;

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Made(_)")
    }
}

impl Reply {
    /// The documented success.
    pub(crate) fn attached() -> Self {
        Self::Bytes(b"HTTP/1.1 204 No Content\r\nX-Request-Id: cloud-1\r\n\r\n".to_vec())
    }

    /// A status with a JSON body.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::with(status, &[("Content-Type", "application/json"), ("X-Request-Id", "cloud-1")], body.as_bytes())
    }

    /// A documented refusal.
    pub(crate) fn refused(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &format!(r#"{{"error_code":"{code}","error_msg":"{message}"}}"#))
    }

    /// A status with headers and a body.
    pub(crate) fn with(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let length = body.len().to_string();
        let mut bytes = head(status, headers.iter().copied().chain([("Content-Length", length.as_str())]));
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }

    /// No answer at all.
    pub(crate) fn hang() -> Self {
        Self::ThenHang(Vec::new())
    }

    /// An answer that depends on the request.
    pub(crate) fn made(make: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::Made(Made(Arc::new(make)))
    }

    /// One answer to requests that have this in their line, another to all others.
    pub(crate) fn either(part: &'static str, to_these: &Self, to_others: &Self) -> Self {
        let (to_these, to_others) = (to_these.clone(), to_others.clone());
        Self::made(move |seen| match if seen.line.contains(part) { &to_these } else { &to_others } {
            Self::Bytes(answer) => answer.clone(),
            Self::Made(Made(make)) => make(seen),
            other => unreachable!("{other:?} is more than bytes"),
        })
    }

    /// The end of the connection in place of an answer.
    pub(crate) fn close() -> Self {
        Self::ThenClose(Vec::new())
    }
}

/// The head of an answer.
pub(crate) fn head<'a>(status: u16, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        text = text + name + ": " + value + "\r\n";
    }
    (text + "\r\n").into_bytes()
}

/// A request as it reached the cloud.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Verb and path.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// When its last byte was read.
    pub(crate) at: Instant,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// How many of each there have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    opened: usize,
    requests: usize,
    /// Connections that the peer ended.
    closed: usize,
    /// Connections that the cloud ended.
    ended: usize,
}

#[derive(Debug)]
struct State {
    script: Vec<Reply>,
    seen: Mutex<Vec<Seen>>,
    counts: watch::Sender<Counts>,
}

/// The scripted cloud.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

impl Cloud {
    /// Answers requests in their order by the script; the last reply goes on for ever.
    pub(crate) async fn answering(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: script.into_iter().collect(),
            seen: Mutex::default(),
            counts: watch::channel(Counts::default()).0,
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { address, state, _serving: AbortOnDropHandle::new(serving) }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The last request so far.
    pub(crate) fn last_request(&self) -> Seen {
        self.state.seen.lock().unwrap().last().cloned().unwrap()
    }

    /// The one request so far.
    pub(crate) fn only_request(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.state.counts.borrow().opened
    }

    /// Waits until this many requests have come.
    pub(crate) async fn requests(&self, number: usize) {
        self.wait(|counts| counts.requests >= number).await;
    }

    /// Waits until the peer has ended this many connections.
    pub(crate) async fn closed(&self, number: usize) {
        self.wait(|counts| counts.closed >= number).await;
    }

    /// Waits until the cloud itself has ended this many connections.
    pub(crate) async fn ended(&self, number: usize) {
        self.wait(|counts| counts.ended >= number).await;
    }

    async fn wait(&self, enough: impl Fn(&Counts) -> bool) {
        let mut counts = self.state.counts.subscribe();
        soon(counts.wait_for(enough)).await.unwrap();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                state.counts.send_modify(|counts| counts.opened += 1);
                connections.spawn(converse(stream, Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(mut stream: TcpStream, state: Arc<State>) {
    let mut bytes = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut bytes).await {
        let number = {
            let mut seen = state.seen.lock().unwrap();
            seen.push(request.clone());
            seen.len()
        };
        let reply = state.script.get(number - 1).or(state.script.last()).cloned().expect("the script has a reply");
        state.counts.send_modify(|counts| counts.requests += 1);
        match reply {
            Reply::Made(Made(make)) => {
                if stream.write_all(&make(&request)).await.is_err() {
                    break;
                }
            }
            Reply::Bytes(answer) => {
                if stream.write_all(&answer).await.is_err() {
                    break;
                }
            }
            Reply::ThenClose(answer) => {
                let _ = stream.write_all(&answer).await;
                // Closing then waits until the peer's system has the end of the connection: a busy one may deliver it late,
                // and a peer can't know of what has not come.
                #[allow(deprecated, reason = "it is to block, and on loopback not for long")]
                let _ = stream.set_linger(Some(Duration::from_secs(10)));
                drop(stream);
                state.counts.send_modify(|counts| counts.ended += 1);
                return;
            }
            Reply::ThenFlood(answer, blocks) => {
                let _ = stream.write_all(&answer).await;
                for _ in 0..blocks {
                    if stream.write_all(&vec![b'x'; 65_536]).await.is_err() {
                        break;
                    }
                }
            }
            Reply::ThenHang(answer) => {
                let _ = stream.write_all(&answer).await;
            }
        }
    }
    state.counts.send_modify(|counts| counts.closed += 1);
}

/// Reads one request; `None` when the peer has left.
async fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(stream, bytes).await?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < end + 4 + length {
        more(stream, bytes).await?;
    }
    let body = String::from_utf8(bytes[end + 4..end + 4 + length].to_vec()).unwrap();
    bytes.drain(..end + 4 + length);
    Some(Seen { line, headers, body, at: Instant::now() })
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
