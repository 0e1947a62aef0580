//! The upstream: a listener on a thread of its own that plays the script of each call, and records it.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use testkit::{
    http1::{Request, read_request},
    rng::Rng,
    tcp::free_port,
    thread::on_a_thread,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::{
    clock::Lag,
    fault::Fault,
    request::{certificate, number},
    scene::Scene,
    wire::{After, Script},
};

/// The time for which a closed connection is read for requests that crossed its end on the wire.
const CROSSING: Duration = Duration::from_secs(5);

/// The fault of an attempt, by the number of its call and its index.
pub(crate) type Faults = Arc<dyn Fn(u64, usize) -> Fault + Send + Sync>;

/// The running upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) scene: Arc<Scene>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Starts it; with `closures`, its listener closes for a moment now and then.
    pub(crate) fn start(faults: Faults, closures: Option<u64>, lag: &Arc<Lag>) -> Self {
        let scene = Arc::new(Scene::default());
        let stop = CancellationToken::new();
        let (bound, address) = std::sync::mpsc::channel();
        let (scene_, stop_, lag) = (Arc::clone(&scene), stop.clone(), Arc::clone(lag));
        let thread = on_a_thread("upstream", async move {
            let listener = TcpListener::bind(("127.0.0.1", free_port())).await.unwrap();
            bound.send(listener.local_addr().unwrap()).unwrap();
            tokio::spawn(lag.watch());
            let shared = Arc::new(Shared { faults, scene: scene_ });
            tokio::select! {
                () = serve(listener, closures.map(|seed| Rng::of(seed, 0)), shared) => {}
                () = stop_.cancelled() => {}
            }
        });
        Self { address: address.recv().unwrap(), scene, stop, thread: Some(thread) }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Shared {
    faults: Faults,
    scene: Arc<Scene>,
}

async fn serve(mut listener: TcpListener, mut closures: Option<Rng>, shared: Arc<Shared>) {
    loop {
        let open_for = closures.as_mut().map_or(Duration::from_secs(86_400), |rng| rng.millis(300, 1_200));
        let closing = tokio::time::sleep(open_for);
        tokio::pin!(closing);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let _ = stream.set_nodelay(true);
                    shared.scene.open.fetch_add(1, Ordering::Relaxed);
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        converse(stream, &shared).await;
                        shared.scene.open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                () = &mut closing => break,
            }
        }
        let address = listener.local_addr().unwrap();
        shared.scene.closes();
        drop(listener);
        let delay = closures.as_mut().map_or(Duration::ZERO, |rng| rng.millis(20, 150));
        tokio::time::sleep(delay).await;
        listener = loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            match socket.bind(address).and_then(|()| socket.listen(1_024)) {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        shared.scene.opens();
    }
}

/// Serves one connection to its end.
async fn converse(mut stream: TcpStream, shared: &Shared) {
    let mut bytes = Vec::new();
    let mut poisoned = false;
    while let Some(request) = next(&mut stream, &mut bytes, shared).await {
        if poisoned {
            shared.scene.stray(format!("{request:?} came on a connection on which bytes of no response had been sent"));
        }
        let Some((number, index)) = begin(&request, shared) else { return };
        match respond(&mut stream, number, index, shared).await {
            After::Keep => {}
            After::Poisoned => poisoned = true,
            After::Close => return close(stream, bytes, shared).await,
            After::CloseWhenIdle(delay) => {
                if bytes.is_empty() && tokio::time::timeout(delay, stream.readable()).await.is_err() {
                    return close(stream, bytes, shared).await;
                }
            }
            After::Reset => {
                let _ = stream.set_zero_linger();
                return;
            }
            After::Hold => {
                while stream.read(&mut [0; 1_024]).await.is_ok_and(|read| read > 0) {}
                shared.scene.amend(number, index, |attempt| attempt.released = Some(Instant::now()));
                return;
            }
        }
    }
}

/// Reads the next request; `None` at the end of the connection, also if the scene ends it while it waits.
async fn next(stream: &mut TcpStream, bytes: &mut Vec<u8>, shared: &Shared) -> Option<Request> {
    tokio::select! {
        biased;
        request = read_request(stream, bytes) => request,
        // Only after all calls: there is no part of a request to lose.
        () = shared.scene.idle.notified() => None,
    }
}

/// Notes a request and its fault; `None` when it is no request of a call.
fn begin(request: &Request, shared: &Shared) -> Option<(u64, usize)> {
    let number = match number(request) {
        Ok(number) => number,
        Err(fault) => {
            shared.scene.stray(format!("{fault}: {request:?}"));
            return None;
        }
    };
    let certificate = certificate(request);
    Some((number, shared.scene.attempt(number, certificate, |index| (shared.faults)(number, index))))
}

/// Plays the script.
async fn respond(stream: &mut TcpStream, number: u64, index: usize, shared: &Shared) -> After {
    let fault = shared.scene.fault(number, index);
    let Script { pieces, after } = Script::of(&fault);
    // Before the last piece, since the peer may be quicker to read it than we are to look at the clock.
    let note = || shared.scene.amend(number, index, |attempt| attempt.answered = Some(Instant::now()));
    let last = pieces.len().saturating_sub(1);
    if pieces.is_empty() && after != After::Hold {
        note();
    }
    for (number, (delay, piece)) in pieces.into_iter().enumerate() {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // Also before a body that stalls: its head is a response.
        if number == last {
            note();
        }
        if stream.write_all(&piece).await.is_err() {
            return After::Reset;
        }
    }
    after
}

/// Closes, and notes the requests that crossed the closing: their callers will hear of a lost connection.
async fn close(mut stream: TcpStream, mut bytes: Vec<u8>, shared: &Shared) {
    let _ = stream.shutdown().await;
    let crossed = async {
        while let Some(request) = read_request(&mut stream, &mut bytes).await {
            if let Ok(number) = number(&request) {
                let certificate = certificate(&request);
                let index = shared.scene.attempt(number, certificate, |_| Fault::Crossed);
                shared.scene.amend(number, index, |attempt| attempt.answered = Some(attempt.read));
            }
        }
    };
    let _ = tokio::time::timeout(CROSSING, crossed).await;
}
