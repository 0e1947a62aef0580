//! A request's body whose bytes are counted as they come, and whose end takes the call's place.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::{
    held::{Full, Held, NoPlace},
    status,
};

/// The body of a request: hyper's, or a test's.
pub(super) trait Incoming:
    http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B> Incoming for B where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

/// Past a limit, the body ends in the status that its caller gets.
///
/// The place is taken only when the message is there: calls whose message never comes must not keep others out, and a
/// caller that is turned away has nothing left to send, which its connection would be ended for.
#[derive(Debug)]
pub(super) struct Metered<B> {
    pub(super) body: B,
    pub(super) held: Arc<Held>,
    pub(super) max_concurrency: usize,
}

impl<B: Incoming> Body for Metered<B> {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(Full { most }) = self.held.add(data.remaining())
        {
            return Poll::Ready(Some(Err(status::buffers_full(most).into())));
        }
        if frame.is_none()
            && let Err(NoPlace) = self.held.take_place()
        {
            return Poll::Ready(Some(Err(status::overloaded(self.max_concurrency).into())));
        }
        // A plain error; tonic takes one that says "cancelled" for the end of the message.
        Poll::Ready(frame.map(|frame| frame.map_err(|_| tonic::Status::unknown("the bytes stopped coming").into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
