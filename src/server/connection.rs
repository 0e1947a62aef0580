//! Serves one connection: the TLS handshake and HTTP/2 preface with a timeout, HTTP/2 with limits against floods, GOAWAY at
//! its maximum age and when the gateway drains.

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

/// Bytes read from one connection before its task yields to other connections.
const READ_BUDGET: usize = 16 * 1024;

/// Allows 48 KiB of metadata: HTTP/2 adds 32 bytes for each entry.
const MAX_HEADER_LIST: u32 = 56 * 1024;

/// Unsent bytes buffered for each response while the peer does not read. hyper's default is 400 KiB.
const SEND_BUFFER: usize = 64 * 1024;

/// Concurrent calls on one connection.
const MAX_STREAMS: u32 = 256;

/// Timeouts and maximum age of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Timeout for the TLS handshake and the HTTP/2 preface.
    pub(crate) handshake_timeout: Duration,
    /// The age at which GOAWAY is sent, with a jitter of a tenth.
    pub(crate) max_age: Option<Duration>,
    /// Timeout for the calls in progress after GOAWAY.
    pub(crate) grace: Duration,
    /// Interval of HTTP/2 pings on an idle connection.
    pub(crate) keep_alive_interval: Duration,
    /// Timeout for the answer to a ping.
    pub(crate) keep_alive_timeout: Duration,
}

/// A connection with or without TLS. Boxed, because the TLS state would make the future of every connection large.
type Channel = Either<Stream, Box<TlsStream<Stream>>>;

/// Serves a connection until the peer closes it, violates the protocol, or the gateway drains. Before the handshake is
/// complete it may be evicted for a new connection.
pub(super) async fn serve(
    stream: Stream,
    mut peer: Peer,
    ticket: Ticket,
    tls: Option<Arc<Tls>>,
    inbound: Inbound,
    limits: Limits,
    shared: Arc<Shared>,
) {
    let closing = inbound.closing().clone();
    let handshake = {
        let handshake = handshake(stream, &mut peer, tls, &inbound);
        let end = Instant::now() + limits.handshake_timeout;
        tokio::select! {
            channel = handshake => channel.ok_or(None),
            () = ticket.evicted() => Err(Some(Abort::Evicted)),
            () = tokio::time::sleep_until(end) => Err(Some(Abort::Timeout)),
            () = closing.cancelled() => Err(Some(Abort::Drain)),
        }
    };
    let channel = match handshake {
        Ok(channel) => channel,
        Err(None) => return,
        Err(Some(reason)) => {
            // `Evictable` counts evictions.
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
    let Ok(_permit) = shared.connections.try_acquire() else {
        shared.metrics.connections_refused.inc();
        return;
    };
    shared.metrics.connections_accepted.inc();
    let inbound = Arc::new(inbound.of(peer));
    let io = TokioIo::new(Budgeted { channel, preface: PREFACE, read: 0 });
    let calls = Arc::clone(&inbound);
    let service = service_fn(move |request| {
        let inbound = Arc::clone(&calls);
        async move { Ok::<_, Infallible>(inbound.answer(request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buf_size(SEND_BUFFER)
        // GOAWAY after this many streams reset before they were accepted (Rapid Reset). hyper's default bounds the resets
        // that the peer provokes from us: a caller that was answered early causes some legitimately.
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout)
        .serve_connection(io, service);
    // Boxed, so that moving this function's state does not copy it.
    let mut connection = Box::pin(connection);

    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        end = async {
            tokio::select! {
                () = closing.cancelled() => Leave::Drain,
                () = old(limits.max_age) => Leave::OldAge,
            }
        } => {
            // GOAWAY: the calls in progress finish, and the peer opens another connection for new ones.
            connection.as_mut().graceful_shutdown();
            let _draining = inbound.count_draining();
            match end {
                Leave::OldAge => tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = tokio::time::sleep(limits.grace) => return,
                },
                // `drain-timeout` bounds this wait.
                Leave::Drain => connection.await,
            }
        }
    };
    if let Err(fault) = ended {
        debug!(error = %fault, "connection ended");
    }
}

/// The reason for a GOAWAY.
enum Leave {
    /// The gateway drains.
    Drain,
    /// The maximum age: load balancers distribute connections, not calls.
    OldAge,
}

/// Completes the TLS handshake, if any, and reads the HTTP/2 preface before any HTTP/2 state is allocated.
async fn handshake(stream: Stream, peer: &mut Peer, tls: Option<Arc<Tls>>, inbound: &Inbound) -> Option<Channel> {
    let address = peer.address.map(tracing::field::display);
    let mut channel = match tls {
        None => Either::Left(stream),
        // Boxed and freed after the handshake: the state is large, and connections live long.
        Some(tls) => match Box::pin(TlsAcceptor::from(tls.current()).accept(stream)).await {
            Ok(stream) => {
                if let Some([leaf, ..]) = stream.get_ref().1.peer_certificates() {
                    peer.identity = Identity::Certificate(Names::of(leaf));
                }
                Either::Right(Box::new(stream))
            }
            Err(fault) => {
                inbound.handshake_failed();
                // At debug level, because scanners must not fill the log; a metric counts the failures.
                debug!(error = %fault, address, "TLS handshake failed");
                return None;
            }
        },
    };
    let mut preface = [0; PREFACE.len()];
    let mut filled = 0;
    while let Some(rest) = preface.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += channel.read(rest).await.ok().filter(|read| *read > 0)?;
        if preface.get(..filled) != PREFACE.get(..filled) {
            debug!(address, "invalid HTTP/2 preface");
            return None;
        }
    }
    Some(channel)
}

/// Resolves at the maximum age, with a jitter of a tenth, so that connections opened together do not end together.
async fn old(max_age: Option<Duration>) {
    match max_age {
        Some(age) => tokio::time::sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await,
        None => std::future::pending().await,
    }
}

/// A channel with a read budget: after [`READ_BUDGET`] bytes it yields to other tasks.
#[derive(Debug)]
struct Budgeted {
    channel: Channel,
    /// The part of the preface that hyper has not read yet.
    preface: &'static [u8],
    /// Bytes read since the task last yielded.
    read: usize,
}

impl AsyncRead for Budgeted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.preface.is_empty() {
            let (now, later) = self.preface.split_at(self.preface.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.preface = later;
            return Poll::Ready(Ok(()));
        }
        // Handling a flood of small frames costs far more than reading it and must not occupy the thread.
        if self.read >= READ_BUDGET {
            self.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let Poll::Ready(result) = Pin::new(&mut self.channel).poll_read(cx, buffer) else {
            self.read = 0;
            return Poll::Pending;
        };
        self.read += buffer.filled().len() - before;
        Poll::Ready(result)
    }
}

impl AsyncWrite for Budgeted {
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
