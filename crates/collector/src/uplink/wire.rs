//! The codec of the stream: messages go out as the spool keeps them, already encoded.

use bytes::{BufMut as _, Bytes};
use prost::Message as _;
use proto::v1;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wire;

impl Codec for Wire {
    type Encode = Bytes;
    type Decode = v1::AggregatorMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Wire {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(message.len());
        out.put(message);
        Ok(())
    }
}

impl Decoder for Wire {
    type Item = v1::AggregatorMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        v1::AggregatorMessage::decode(from).map(Some).map_err(|error| {
            Status::internal(format!("failed to read the aggregator's message: {error}"))
        })
    }
}
