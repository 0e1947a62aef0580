//! A scripted upstream: it sends responses byte for byte, and records the requests.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    http1::{Request, read_request},
    tcp::own_address,
    wait::soon,
};

/// The reaction to one request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These bytes; the connection stays.
    Bytes(Vec<u8>),
    /// These bytes, and the end of the connection.
    ThenClose(Vec<u8>),
    /// These bytes, and then blocks of filler until the peer leaves or this many have gone.
    ThenFlood(Vec<u8>, usize),
    /// These bytes, and then nothing.
    ThenHang(Vec<u8>),
    /// Bytes made from the request; the connection stays.
    Made(Made),
}

/// A function that makes a response from a request.
#[derive(Clone)]
pub struct Made(Arc<Make>);

type Make = dyn Fn(&Request) -> Vec<u8> + Send + Sync;

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Made(_)")
    }
}

impl Reply {
    /// The documented success.
    pub fn attached() -> Self {
        Self::Bytes(b"HTTP/1.1 204 No Content\r\nX-Request-Id: cloud-1\r\n\r\n".to_vec())
    }

    /// A status with a JSON body.
    pub fn json(status: u16, body: &str) -> Self {
        Self::with(status, &[("Content-Type", "application/json"), ("X-Request-Id", "cloud-1")], body.as_bytes())
    }

    /// A documented refusal.
    pub fn refused(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &format!(r#"{{"error_code":"{code}","error_msg":"{message}"}}"#))
    }

    /// A status with headers and a body.
    pub fn with(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let length = body.len().to_string();
        let mut bytes = head(status, headers.iter().copied().chain([("Content-Length", length.as_str())]));
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }

    /// No response; the connection stays.
    pub fn hang() -> Self {
        Self::ThenHang(Vec::new())
    }

    /// A response that depends on the request.
    pub fn made(make: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::Made(Made(Arc::new(make)))
    }

    /// One response to requests with this part in their line, another to all others.
    pub fn either(part: &'static str, to_these: &Self, to_others: &Self) -> Self {
        let (to_these, to_others) = (to_these.clone(), to_others.clone());
        Self::made(move |seen| match if seen.line.contains(part) { &to_these } else { &to_others } {
            Self::Bytes(response) => response.clone(),
            Self::Made(Made(make)) => make(seen),
            other => unreachable!("{other:?} is more than bytes"),
        })
    }

    /// The end of the connection without a response.
    pub fn close() -> Self {
        Self::ThenClose(Vec::new())
    }
}

/// The head of a response.
pub fn head<'a>(status: u16, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        text = text + name + ": " + value + "\r\n";
    }
    (text + "\r\n").into_bytes()
}

/// Events so far.
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
    seen: Mutex<Vec<Request>>,
    counts: watch::Sender<Counts>,
}

/// The scripted cloud.
#[derive(Debug)]
pub struct Cloud {
    /// Its address on loopback.
    pub address: SocketAddr,
    state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

impl Cloud {
    /// Responds to requests in their order by the script, and with its last reply to all further ones.
    pub async fn answering(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
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
    pub fn seen(&self) -> Vec<Request> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The last request so far.
    pub fn last_request(&self) -> Request {
        self.state.seen.lock().unwrap().last().cloned().unwrap()
    }

    /// The one request so far.
    pub fn only_request(&self) -> Request {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.state.counts.borrow().opened
    }

    /// Waits until this many requests have come.
    pub async fn requests(&self, number: usize) {
        self.wait(|counts| counts.requests >= number).await;
    }

    /// Waits until the peer has ended this many connections.
    pub async fn closed(&self, number: usize) {
        self.wait(|counts| counts.closed >= number).await;
    }

    /// Waits until the cloud itself has ended this many connections.
    pub async fn ended(&self, number: usize) {
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
                let connection = state.counts.borrow().opened;
                connections.spawn(converse(stream, connection, Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(mut stream: TcpStream, connection: usize, state: Arc<State>) {
    let mut bytes = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut bytes).await {
        let request = Request { connection, ..request };
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
            Reply::Bytes(response) => {
                if stream.write_all(&response).await.is_err() {
                    break;
                }
            }
            Reply::ThenClose(response) => {
                let _ = stream.write_all(&response).await;
                close(stream);
                state.counts.send_modify(|counts| counts.ended += 1);
                return;
            }
            Reply::ThenFlood(response, blocks) => {
                let _ = stream.write_all(&response).await;
                for _ in 0..blocks {
                    if stream.write_all(&vec![b'x'; 65_536]).await.is_err() {
                        break;
                    }
                }
            }
            Reply::ThenHang(response) => {
                let _ = stream.write_all(&response).await;
            }
        }
    }
    state.counts.send_modify(|counts| counts.closed += 1);
}

/// Closes a connection, and returns when the peer's system has the end of it: on a busy machine it may be late, and a peer
/// can't know of an end that has not arrived.
fn close(stream: TcpStream) {
    #[allow(deprecated, reason = "it is to block, and on loopback not for long")]
    let _ = stream.set_linger(Some(Duration::from_secs(10)));
    drop(stream);
}
