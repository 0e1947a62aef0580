//! Lets h2 serve the callers of a Unix socket whatever their `:authority` is. There it names no host, and client libraries
//! send the socket's path (`tmp%2Fgw.sock`, `/tmp/gw.sock`), but h2 resets a stream whose `:authority` does not parse as
//! one (hyperium/h2#487).

mod block;
mod frames;
mod huffman;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::frames::{Frames, MAX_BLOCK};

/// A connection from a client, read with every unusable `:authority` replaced.
#[derive(Debug)]
pub(super) struct AuthorityFilter<S> {
    stream: S,
    /// Boxed, because connections of TCP, which have no filter, are of the same type.
    frames: Box<Frames>,
}

impl<S> AuthorityFilter<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frames: Box::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AuthorityFilter<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, frames } = self.get_mut();
        // Otherwise a read of nothing would look like the end of the stream.
        while buffer.remaining() > 0 {
            let ready = frames.take_ready(buffer.remaining());
            if !ready.is_empty() {
                buffer.put_slice(&ready);
                break;
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut *stream).poll_read(cx, buffer))?;
            let arrived = buffer.filled().get(before..).unwrap_or_default();
            if arrived.is_empty() {
                if frames.finish() {
                    continue;
                }
                break;
            }
            let passed = frames.receive(arrived);
            buffer.set_filled(before + passed);
            if passed > 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AuthorityFilter<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
