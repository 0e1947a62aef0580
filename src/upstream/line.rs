//! The byte stream under a connection to an upstream. It asks the kernel, once for each request on a reused connection,
//! whether the peer has closed, and counts writes.
//!
//! hyper reads from an idle connection before it takes up a request. tokio answers such a read from the last report of its
//! poller, which may be older than the end of the connection. The first read after [`Gate::ask`] goes to the kernel
//! instead: hyper then sees the end of the connection and hands the request back unsent.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use rustix::{io::Errno, net::RecvFlags};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// The state that a stream shares with the requests on it.
#[derive(Debug, Default)]
pub(super) struct Gate {
    asks: AtomicBool,
    writes: AtomicUsize,
}

impl Gate {
    /// Has the next read ask the kernel.
    pub(super) fn ask(&self) {
        self.asks.store(true, Ordering::Relaxed);
    }

    /// The number of writes so far that may have sent something.
    pub(super) fn writes(&self) -> usize {
        self.writes.load(Ordering::Acquire)
    }
}

/// A TCP connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    gate: Arc<Gate>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, gate: &Arc<Gate>) -> Self {
        Self { stream, gate: Arc::clone(gate) }
    }

    /// Reads past tokio's idea of readiness; `None`: there is nothing to read, and the connection is open.
    fn read_now(&self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        // A look first: almost always there is nothing, and a buffer need not be made ready for it.
        match rustix::net::recv(&self.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Some(Ok(())),
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(error) => return Some(Err(error.into())),
        }
        match rustix::net::recv(&self.stream, buffer.initialize_unfilled(), RecvFlags::DONTWAIT) {
            Ok((read, _)) => {
                buffer.advance(read);
                Some(Ok(()))
            }
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(error) => Some(Err(error.into())),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.gate.asks.load(Ordering::Relaxed) {
            this.gate.asks.store(false, Ordering::Relaxed);
            if let Some(result) = this.read_now(buffer) {
                return Poll::Ready(result);
            }
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A connection as HTTP sees it.
#[derive(Debug)]
pub(super) struct Line {
    stream: Stream,
    gate: Arc<Gate>,
}

/// The layers under HTTP.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
    /// TLS with the upstream inside TLS with the proxy.
    Nested(Box<TlsStream<TlsStream<Socket>>>),
}

impl Line {
    pub(super) fn new(stream: Stream, gate: Arc<Gate>) -> Self {
        Self { stream, gate }
    }

    /// Counts a write. One on TCP that fails has sent nothing; one through TLS may have sent a part, and so may one that
    /// waits.
    fn counted(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if !matches!((&self.stream, &result), (Stream::Plain(_), Poll::Ready(Err(_)))) {
            self.gate.writes.fetch_add(1, Ordering::Release);
        }
        result
    }
}

/// Calls a method of the stream that is there.
macro_rules! inner {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(&mut **stream).$method($($argument),*),
            Stream::Nested(stream) => Pin::new(&mut **stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        inner!(&mut self.get_mut().stream, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = inner!(&mut this.stream, poll_write(cx, bytes));
        this.counted(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = inner!(&mut this.stream, poll_write_vectored(cx, parts));
        this.counted(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Nested(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(&mut self.get_mut().stream, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(&mut self.get_mut().stream, poll_shutdown(cx))
    }
}
