//! One connection: a handshake that is bounded in time, HTTP/2 with limits against floods, GOAWAY when the gateway drains.
//! It knows no call.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;
use tracing::debug;

use super::{Shared, eviction::Ticket, inbound::Inbound, listener::Stream};
use crate::{
    peer::{Identity, Names, Peer},
    telemetry::Abort,
    tls::Tls,
};

/// The client's connection preface (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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
    /// The time for the TLS handshake and the HTTP/2 preface.
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

/// Serves one peer until it leaves, breaks the protocol, or the gateway drains. Until its handshake is complete, it may be
/// evicted for a newer one.
pub(super) async fn serve(
    stream: Stream,
    mut peer: Peer,
    ticket: Ticket,
    tls: Option<Arc<Tls>>,
    inbound: Inbound,
    limits: Limits,
    shared: Arc<Shared>,
) {
    let _open = inbound.count_connection();
    let closing = inbound.closing().clone();
    let greeted = {
        let greeting = greet(stream, &mut peer, tls, &inbound);
        let end = Instant::now() + limits.handshake_timeout;
        tokio::select! {
            greeted = greeting => greeted.ok_or(None),
            () = ticket.evicted() => Err(Some(Abort::Evicted)),
            () = tokio::time::sleep_until(end) => Err(Some(Abort::Timeout)),
            () = closing.cancelled() => Err(Some(Abort::Drain)),
        }
    };
    let channel = match greeted {
        Ok(channel) => channel,
        Err(None) => return,
        Err(Some(reason)) => {
            // Evictions are counted where they are decided.
            if reason != Abort::Evicted {
                shared.metrics.handshakes_aborted(reason).inc();
            }
            debug!(?reason, "closed before the handshake was complete");
            return;
        }
    };
    if !ticket.leave() {
        return;
    }
    let Ok(_place) = shared.connections.try_acquire() else {
        shared.metrics.connections_refused.inc();
        return;
    };
    shared.metrics.connections_accepted.inc();
    let inbound = Arc::new(inbound.of(peer));
    let io = TokioIo::new(Watched { channel, preface: PREFACE, turn: 0 });
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
                () = old(limits.max_age) => Leave::OldAge,
            }
        } => {
            // GOAWAY: the calls in progress end, and the peer opens another connection for the next ones.
            connection.as_mut().graceful_shutdown();
            match end {
                Leave::OldAge => tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = tokio::time::sleep(limits.grace) => return,
                },
                // The drain has its own end.
                Leave::Drain => connection.await,
            }
        }
    };
    if let Err(fault) = ended {
        debug!(error = %fault, "connection ended");
    }
}

/// Why a connection shall end.
enum Leave {
    /// The gateway drains.
    Drain,
    /// It has lived long enough: balancers in front spread connections, not calls.
    OldAge,
}

/// Waits for the peer to say that it speaks HTTP/2, over TLS or not: until then it costs as little as possible.
async fn greet(stream: Stream, peer: &mut Peer, tls: Option<Arc<Tls>>, inbound: &Inbound) -> Option<Channel> {
    let address = peer.address.map(tracing::field::display);
    let mut channel = match tls {
        None => Either::Left(stream),
        // In a box, which goes with the handshake: its state is large, and connections live long.
        Some(tls) => match Box::pin(TlsAcceptor::from(tls.current()).accept(stream)).await {
            Ok(stream) => {
                if let Some([leaf, ..]) = stream.get_ref().1.peer_certificates() {
                    peer.identity = Identity::Certificate(Names::of(leaf));
                }
                Either::Right(Box::new(stream))
            }
            Err(fault) => {
                inbound.handshake_failed();
                // Scanners must not fill the log; the metric says that there is something to look at.
                debug!(error = %fault, address, "TLS handshake failed");
                return None;
            }
        },
    };
    let mut preface = [0; PREFACE.len()];
    let mut come = 0;
    while let Some(rest) = preface.get_mut(come..).filter(|rest| !rest.is_empty()) {
        come += channel.read(rest).await.ok().filter(|read| *read > 0)?;
        if preface.get(..come) != PREFACE.get(..come) {
            debug!(address, "a peer does not speak HTTP/2");
            return None;
        }
    }
    Some(channel)
}

/// Resolves at the age, give or take a tenth, so that connections made together do not end together.
async fn old(max_age: Option<Duration>) {
    match max_age {
        Some(age) => tokio::time::sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await,
        None => std::future::pending().await,
    }
}

/// A channel that counts the bytes which are read from it at a stretch.
#[derive(Debug)]
struct Watched {
    channel: Channel,
    /// The rest of the preface, which has been read from the channel and is still to be given to hyper.
    preface: &'static [u8],
    /// What was read since others last had their turn.
    turn: usize,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.preface.is_empty() {
            let (now, later) = self.preface.split_at(self.preface.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.preface = later;
            return Poll::Ready(Ok(()));
        }
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
        self.turn += buffer.filled().len() - before;
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
