//! Unary calls: with the generated client, and with bytes.

use std::{future::Future, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};
use tonic::{
    Request, Response, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::{Failure, Order, output};

/// The code that the .proto makes.
mod pb {
    tonic::include_proto!("huaweicloud.apic.v2");
}

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const SERVICE: &str = "huaweicloud.apic.v2.CertificateService";

pub(crate) async fn unary(order: &Order, channel: Channel) -> Result<Value, Failure> {
    let (service, name) = order.method.split_once('/').ok_or("a method is SERVICE/NAME")?;
    let pool = DescriptorPool::decode(DESCRIPTORS)?;
    let method = pool.get_service_by_name(service).and_then(|service| {
        let mut methods = service.methods();
        methods.find(|method| method.name() == name)
    });
    let outcome = match (&method, &order.request_bytes) {
        (Some(method), None) if service == SERVICE => generated(order, channel, method).await?,
        (method, _) => raw(order, channel, method.as_ref()).await?,
    };
    match outcome {
        Ok(response) => {
            let mut report = output::ok(response.metadata());
            report["response"] = json!(response.into_inner());
            Ok(report)
        }
        Err(status) => output::error(&status),
    }
}

/// A request with the metadata and the deadline of the order.
pub(crate) fn request<T>(order: &Order, message: T) -> Result<Request<T>, Failure> {
    let mut request = Request::new(message);
    *request.metadata_mut() = output::metadata_map(&order.metadata)?;
    if let Some(timeout) = order.timeout_ms {
        request.set_timeout(Duration::from_millis(timeout));
    }
    Ok(request)
}

fn compression(order: &Order) -> Result<Option<CompressionEncoding>, Failure> {
    match order.compression.as_deref() {
        None => Ok(None),
        Some("gzip") => Ok(Some(CompressionEncoding::Gzip)),
        Some("deflate") => Ok(Some(CompressionEncoding::Deflate)),
        Some(name) => Err(format!("no such compression: {name}").into()),
    }
}

/// A call is cancelled by dropping its future, which gives no status.
async fn cancelled<T>(order: &Order, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match order.cancel_after_ms {
        Some(delay) => tokio::time::timeout(Duration::from_millis(delay), call)
            .await
            .unwrap_or_else(|_| Err(Status::cancelled("the program dropped the call"))),
        None => call.await,
    }
}

type Outcome = Result<Response<Option<DynamicMessage>>, Status>;

async fn generated(order: &Order, channel: Channel, method: &MethodDescriptor) -> Result<Outcome, Failure> {
    let mut client = pb::certificate_service_client::CertificateServiceClient::new(channel);
    if let Some(encoding) = compression(order)? {
        client = client.send_compressed(encoding).accept_compressed(encoding);
    }
    let message = DynamicMessage::deserialize(method.input(), order.request.as_ref().unwrap_or(&json!({})))?;
    macro_rules! call {
        ($($name:literal => $function:ident,)*) => {
            match method.name() {
                $($name => {
                    let request = request(order, message.transcode_to()?)?;
                    match cancelled(order, client.$function(request)).await {
                        Ok(response) => {
                            let mut message = DynamicMessage::new(method.output());
                            message.transcode_from(response.get_ref())?;
                            Ok(Ok(response.map(|_| Some(message))))
                        }
                        Err(status) => Ok(Err(status)),
                    }
                })*
                name => Err(format!("the client does not know the method {name}").into()),
            }
        };
    }
    call! {
        "AttachDomains" => attach_domains,
        "DetachDomains" => detach_domains,
        "ListAttachedDomains" => list_attached_domains,
        "ListCertificates" => list_certificates,
        "GetCertificate" => get_certificate,
        "CreateCertificate" => create_certificate,
        "UpdateCertificate" => update_certificate,
        "DeleteCertificate" => delete_certificate,
        "AttachCertificates" => attach_certificates,
        "DetachCertificates" => detach_certificates,
    }
}

async fn raw(order: &Order, channel: Channel, method: Option<&MethodDescriptor>) -> Result<Outcome, Failure> {
    let mut client = Grpc::new(channel);
    if let Some(encoding) = compression(order)? {
        client = client.send_compressed(encoding).accept_compressed(encoding);
    }
    let message = output::bytes(order.request_bytes.as_deref().unwrap_or_default())?;
    let request = request(order, Bytes::from(message))?;
    let path = format!("/{}", order.method).parse()?;
    let call = async {
        client.ready().await.map_err(|fault| Status::unavailable(fault.to_string()))?;
        client.unary(request, path, BytesCodec).await
    };
    match (cancelled(order, call).await, method) {
        (Ok(response), Some(method)) => {
            let message = DynamicMessage::decode(method.output(), response.get_ref().clone())?;
            Ok(Ok(response.map(|_| Some(message))))
        }
        (Ok(response), None) => Ok(Ok(response.map(|_| None))),
        (Err(status), _) => Ok(Err(status)),
    }
}

/// Messages are bytes.
#[derive(Clone, Copy)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
