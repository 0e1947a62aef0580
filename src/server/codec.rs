//! Messages to bytes and back, as prost does it, with two differences from tonic's codec: bytes that are no message get a
//! status with details, and buffers fit this service. tonic's own take 8 KiB for each request and 8 KiB for each answer, of
//! which a call fills some hundred bytes.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf},
};
use tonic_prost::ProstCodec;

use crate::{pb, status};

/// Room for a message with a few domains; the buffer of a longer one grows.
const ROOM: usize = 512;

/// As much of an answer as is sent at once.
const FLUSH: usize = 32 * 1024;

/// A codec for answers `T` and requests `U`.
#[derive(Debug, Clone)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + pb::Decoded + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as codec::Codec>::Encoder;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(ROOM, FLUSH))
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder(PhantomData)
    }
}

/// Reads messages.
#[derive(Debug)]
pub(crate) struct Decoder<U>(PhantomData<U>);

impl<U: Message + pb::Decoded + Default> codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let unreadable =
            |fault: prost::DecodeError| status::unreadable_message(&fault.to_string()).status(U::IS_CHANGE);
        U::decode(buffer).map(Some).map_err(unreadable)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ROOM, FLUSH)
    }
}
