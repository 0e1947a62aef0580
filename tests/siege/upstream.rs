//! The cloud, as short as it can be: every request is answered with 204, after a time that can be set.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use testkit::{http1::read_request, thread::on_a_thread};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
};

#[derive(Debug, Default)]
struct State {
    /// The shortest time to a response and how much longer it can take, in milliseconds.
    least: AtomicU64,
    more: AtomicU64,
    requests: AtomicU64,
    /// Requests that are being answered, and the most at once.
    at_once: AtomicU64,
    peak: AtomicU64,
    /// Ids of our own callers' requests; attackers send none.
    reached: Mutex<HashSet<String>>,
}

/// The cloud, on a thread of its own, for as long as the program lives.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let state = Arc::new(State::default());
        let (bound, address) = std::sync::mpsc::channel();
        let serving = Arc::clone(&state);
        on_a_thread("upstream", async move {
            let listener = listen().expect("loopback has a free port");
            bound.send(listener.local_addr().expect("it is bound")).expect("the starter waits");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&serving)));
            }
        });
        Self { address: address.recv().expect("the thread listens"), state }
    }

    /// From now on a response takes from `least` to `most` milliseconds.
    pub(crate) fn takes(&self, least: u64, most: u64) {
        self.state.least.store(least, Ordering::Relaxed);
        self.state.more.store(most - least, Ordering::Relaxed);
    }

    /// Whether a request with this id has come.
    pub(crate) fn saw(&self, id: &str) -> bool {
        self.state.reached.lock().expect("nobody panics with it").contains(id)
    }

    /// The most requests at once since this was last asked.
    pub(crate) fn peak(&self) -> u64 {
        self.state.peak.swap(0, Ordering::Relaxed)
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }
}

/// With a long queue: when it is full the system drops connections, and a call then waits a second for its next attempt.
fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    socket.listen(1 << 15)
}

async fn converse(mut stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut bytes).await {
        let number = state.requests.fetch_add(1, Ordering::Relaxed);
        let id = request.header("x-request-id").unwrap_or_default();
        if id.starts_with("siege-") {
            state.reached.lock().expect("nobody panics with it").insert(id.to_owned());
        }
        let more = state.more.load(Ordering::Relaxed);
        // 37 walks through every time there is without a pattern that callers could fall in step with.
        let time = state.least.load(Ordering::Relaxed) + number.wrapping_mul(37) % (more + 1);
        let at_once = state.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        state.peak.fetch_max(at_once, Ordering::Relaxed);
        if time > 0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(time)) => {}
                () = closed(&stream) => {}
            }
        }
        state.at_once.fetch_sub(1, Ordering::Relaxed);
        if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
            return;
        }
    }
}

/// Waits until the gateway has closed the connection. Gateways of earlier checks must not count in later ones.
async fn closed(stream: &TcpStream) {
    if matches!(stream.peek(&mut [0]).await, Ok(1)) {
        // Another request came ahead of the response.
        std::future::pending::<()>().await;
    }
}
