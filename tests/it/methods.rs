//! Every method of the API, from outside: a table of samples, and for each subject a room with its tests. A method without a
//! sample fails `every_method_has_a_sample`.

mod access;
mod answers;
mod errors;
mod local;
mod pages;
mod presence;
mod rules;
mod sample;
mod success;

use apig_grpc_gateway::pb;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use tonic::{
    Request, Response, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use self::sample::{Sample, samples};
use crate::support::soon;

const SERVICE: &str = "huaweicloud.apic.v2.CertificateService";

/// The service as the .proto describes it.
fn service() -> ServiceDescriptor {
    DescriptorPool::decode(pb::DESCRIPTORS).unwrap().get_service_by_name(SERVICE).unwrap()
}

/// Calls a method with a message, both as bytes.
async fn call(channel: &Channel, sample: &Sample, message: &[u8]) -> Result<Response<Vec<u8>>, Status> {
    let mut request = Request::new(message.to_vec());
    request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    let mut client = tonic::client::Grpc::new(channel.clone());
    soon(client.ready()).await.unwrap();
    soon(client.unary(request, sample.path().parse().unwrap(), Bytes)).await
}

/// Messages as they are.
#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; bytes::Buf::remaining(buffer)];
        bytes::Buf::copy_to_slice(buffer, &mut bytes);
        Ok(Some(bytes))
    }
}

#[test]
fn every_method_has_a_sample() {
    let described: Vec<String> = service().methods().map(|method| method.name().to_owned()).collect();
    let sampled: Vec<&str> = samples().iter().map(|sample| sample.name).collect();
    assert_eq!(sampled, described);
}
