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
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use super::{inbound::Inbound, listener::Peer};

/// The client's first 24 bytes on an HTTP/2 connection.
const PREFACE: usize = 24;

/// Room for 48 KiB of metadata: HTTP/2 counts 32 bytes more for each entry.
const MAX_HEADER_LIST: u32 = 56 * 1024;

/// Calls at once on one connection.
const MAX_STREAMS: u32 = 256;

/// What one connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The time for a peer to say that it speaks HTTP/2.
    pub(crate) handshake_timeout: Duration,
    /// How often a silent peer is asked whether it is there.
    pub(crate) keep_alive_interval: Duration,
    /// How long its answer may take.
    pub(crate) keep_alive_timeout: Duration,
}

/// Serves one peer until it leaves, breaks the protocol, or the gateway drains.
pub(super) async fn serve(peer: Peer, inbound: Inbound, limits: Limits) {
    let _open = inbound.count_connection();
    let closing = inbound.closing().clone();
    let greeted = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Greeting { peer, left: PREFACE, greeted: Arc::clone(&greeted) });
    let service = service_fn(move |request| {
        let inbound = inbound.clone();
        async move { Ok::<_, Infallible>(inbound.answer(request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        // Resets that cost us work (Rapid Reset and its kin): past these, the peer gets GOAWAY.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let greeted = || greeted.load(Ordering::Relaxed);

    let first = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = closing.cancelled() => None,
        // hyper waits for the preface without end, and so would a drain.
        () = tokio::time::sleep(limits.handshake_timeout) => {
            if !greeted() {
                debug!("peer did not greet in time");
                return;
            }
            tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = closing.cancelled() => None,
            }
        }
    };
    let ended = match first {
        Some(ended) => ended,
        None if !greeted() => return,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(fault) = ended {
        debug!(%fault, "connection ended");
    }
}

/// Watches for the end of the client's greeting.
#[derive(Debug)]
struct Greeting {
    peer: Peer,
    left: usize,
    greeted: Arc<AtomicBool>,
}

impl AsyncRead for Greeting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.peer).poll_read(cx, buffer))?;
        if self.left > 0 {
            self.left = self.left.saturating_sub(buffer.filled().len() - before);
            self.greeted.store(self.left == 0, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.peer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.peer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.peer).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.peer).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.peer.is_write_vectored()
    }
}
