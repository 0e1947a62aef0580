//! Counts the bytes of the messages that calls in progress hold, in the whole process. It looks at no byte.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::{Shared, inbound::Incoming};
use crate::status;

/// What one call holds; given back when the call ends.
#[derive(Debug)]
pub(super) struct Held {
    shared: Arc<Shared>,
    bytes: AtomicUsize,
}

impl Held {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, bytes: AtomicUsize::new(0) }
    }

    /// Counts more; says whether they may stay.
    fn add(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let all = self.shared.buffered.fetch_add(bytes, Ordering::Relaxed) + bytes;
        all <= self.shared.max_buffered_bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.buffered.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// A request's body whose bytes are counted. Past the limit it ends in the status that its caller gets.
#[derive(Debug)]
pub(super) struct Metered<B> {
    pub(super) body: B,
    pub(super) held: Arc<Held>,
}

impl<B: Incoming + Unpin> Body for Metered<B> {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.held.add(data.remaining())
        {
            let full = status::buffers_full(self.held.shared.max_buffered_bytes);
            return Poll::Ready(Some(Err(full.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
