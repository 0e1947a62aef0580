//! One connection: HTTP/2 with limits against floods, an end for peers that never speak, GOAWAY when the gateway drains.
//! It knows no call.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;
use tracing::debug;

use super::{inbound::Inbound, listener::Stream};
use crate::{
    peer::{Identity, Names, Peer},
    tls::Tls,
};

/// The client's first 24 bytes on an HTTP/2 connection.
const PREFACE: usize = 24;

/// As much as one connection may have us read before the others have their turn.
const TURN: usize = 16 * 1024;

/// Room for 48 KiB of metadata: HTTP/2 counts 32 bytes more for each entry.
const MAX_HEADER_LIST: u32 = 56 * 1024;

/// Unsent bytes of one answer that a connection keeps, while its peer does not read: hyper's own bound is 400 KiB.
const SEND_BUFFER: usize = 64 * 1024;

/// Calls at once on one connection.
const MAX_STREAMS: u32 = 256;

/// What one connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The time for a peer to say that it speaks HTTP/2.
    pub(crate) handshake_timeout: Duration,
    /// The age at which a connection is asked to end, give or take a tenth.
    pub(crate) max_age: Option<Duration>,
    /// How long its calls may then take.
    pub(crate) grace: Duration,
    /// How often a silent peer is asked whether it is there.
    pub(crate) keep_alive_interval: Duration,
    /// How long its answer may take.
    pub(crate) keep_alive_timeout: Duration,
}

/// A connection, with TLS or without. In a box, since the state of TLS would make every connection's future large.
type Channel = Either<Stream, Box<TlsStream<Stream>>>;

/// Serves one peer until it leaves, breaks the protocol, or the gateway drains.
pub(super) async fn serve(stream: Stream, mut peer: Peer, tls: Option<Arc<Tls>>, inbound: Inbound, limits: Limits) {
    let _open = inbound.count_connection();
    let closing = inbound.closing().clone();
    let channel = match tls {
        None => Either::Left(stream),
        Some(tls) => {
            // In a box, which goes with the handshake: its state is large, and connections live long.
            let handshake = Box::pin(TlsAcceptor::from(tls.current()).accept(stream));
            let shaken = tokio::select! {
                shaken = tokio::time::timeout(limits.handshake_timeout, handshake) => shaken,
                () = closing.cancelled() => return,
            };
            match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    if let Some([leaf, ..]) = stream.get_ref().1.peer_certificates() {
                        peer.identity = Identity::Certificate(Names::of(leaf));
                    }
                    Either::Right(Box::new(stream))
                }
                Err(fault) => {
                    inbound.handshake_failed();
                    // Scanners must not fill the log; the metric says that there is something to look at.
                    debug!(%fault, address = peer.address.map(tracing::field::display), "TLS handshake failed");
                    return;
                }
            }
        }
    };
    let inbound = Arc::new(inbound.of(peer));
    let greeted = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Watched { channel, greeting: PREFACE, greeted: Arc::clone(&greeted), turn: 0 });
    let service = service_fn(move |request| {
        let inbound = Arc::clone(&inbound);
        async move { Ok::<_, Infallible>(inbound.answer(request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buf_size(SEND_BUFFER)
        // Resets that cost us work (Rapid Reset and its kin): past these, the peer gets GOAWAY. Of those that it has us
        // make, hyper's own bound is right: a caller that was answered early may make some without ill will.
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout)
        .serve_connection(io, service);
    // In a box of its own, so that it has its place once, and not wherever the state of this function is moved through.
    let mut connection = Box::pin(connection);

    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        end = async {
            tokio::select! {
                () = closing.cancelled() => Leave::Drain,
                () = silent(&greeted, limits.handshake_timeout) => Leave::AtOnce,
                () = old(limits.max_age) => Leave::OldAge,
            }
        } => {
            if matches!(end, Leave::AtOnce) || !greeted.load(Ordering::Relaxed) {
                debug!("a peer that has not greeted is dropped");
                return;
            }
            // GOAWAY: the calls in progress end, and the peer opens another connection for the next ones.
            connection.as_mut().graceful_shutdown();
            match end {
                Leave::OldAge => tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = tokio::time::sleep(limits.grace) => return,
                },
                // The drain has its own end.
                Leave::Drain | Leave::AtOnce => connection.await,
            }
        }
    };
    if let Err(fault) = ended {
        debug!(%fault, "connection ended");
    }
}

/// Why a connection shall end.
enum Leave {
    /// The gateway drains.
    Drain,
    /// The peer never greeted.
    AtOnce,
    /// It has lived long enough: balancers in front spread connections, not calls.
    OldAge,
}

/// Resolves for a peer that has not greeted in time: hyper waits for it without end, and so would a drain.
async fn silent(greeted: &AtomicBool, timeout: Duration) {
    tokio::time::sleep(timeout).await;
    if greeted.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Resolves at the age, give or take a tenth, so that connections made together do not end together.
async fn old(max_age: Option<Duration>) {
    match max_age {
        Some(age) => tokio::time::sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await,
        None => std::future::pending().await,
    }
}

/// A peer whose bytes are watched: for the end of its greeting, and for how much it has us read at a stretch.
#[derive(Debug)]
struct Watched {
    channel: Channel,
    /// What is missing of the greeting.
    greeting: usize,
    greeted: Arc<AtomicBool>,
    /// What was read since others last had their turn.
    turn: usize,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A flood of small frames costs far more to handle than to read; its connection must not keep the thread.
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let Poll::Ready(result) = Pin::new(&mut self.channel).poll_read(cx, buffer) else {
            self.turn = 0;
            return Poll::Pending;
        };
        let read = buffer.filled().len() - before;
        self.turn += read;
        if self.greeting > 0 {
            self.greeting = self.greeting.saturating_sub(read);
            self.greeted.store(self.greeting == 0, Ordering::Relaxed);
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.channel).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.channel).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.channel.is_write_vectored()
    }
}
