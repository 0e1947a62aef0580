//! Statuses, metadata and messages as the JSON of a report.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::{
    Status,
    metadata::{AsciiMetadataKey, BinaryMetadataKey, KeyAndValueRef, MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetail, StatusExt as _, pb};

use crate::Failure;

/// Tonic adds the trailers of a unary call to its initial metadata.
pub(crate) fn ok(headers: &MetadataMap) -> Value {
    json!({
        "code": "OK",
        "message": "",
        "details": [],
        "response": null,
        "headers": metadata(headers),
        "trailers": [],
    })
}

pub(crate) fn error(status: &Status) -> Result<Value, Failure> {
    let details: Vec<Value> = match status.check_error_details_vec() {
        Ok(details) => details.into_iter().map(detail).collect::<Result<_, _>>()?,
        Err(_) => Vec::new(),
    };
    Ok(json!({
        "code": code(status),
        "message": status.message(),
        "details": details,
        "response": null,
        "headers": [],
        // Tonic has the initial metadata of an error in the same map.
        "trailers": metadata(status.metadata()),
    }))
}

/// The name of the field's other libraries: `NOT_FOUND`, where tonic has `NotFound`.
fn code(status: &Status) -> String {
    let mut name = String::new();
    for letter in format!("{:?}", status.code()).chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn detail(detail: ErrorDetail) -> Result<Value, Failure> {
    match detail {
        ErrorDetail::RetryInfo(info) => any("RetryInfo", &pb::RetryInfo::from(info)),
        ErrorDetail::DebugInfo(info) => any("DebugInfo", &pb::DebugInfo::from(info)),
        ErrorDetail::QuotaFailure(info) => any("QuotaFailure", &pb::QuotaFailure::from(info)),
        ErrorDetail::ErrorInfo(info) => any("ErrorInfo", &pb::ErrorInfo::from(info)),
        ErrorDetail::PreconditionFailure(info) => any("PreconditionFailure", &pb::PreconditionFailure::from(info)),
        ErrorDetail::BadRequest(info) => any("BadRequest", &pb::BadRequest::from(info)),
        ErrorDetail::RequestInfo(info) => any("RequestInfo", &pb::RequestInfo::from(info)),
        ErrorDetail::ResourceInfo(info) => any("ResourceInfo", &pb::ResourceInfo::from(info)),
        ErrorDetail::Help(info) => any("Help", &pb::Help::from(info)),
        ErrorDetail::LocalizedMessage(info) => any("LocalizedMessage", &pb::LocalizedMessage::from(info)),
        _ => Err("a detail of an unknown type".into()),
    }
}

fn any(name: &str, message: &impl Message) -> Result<Value, Failure> {
    let name = format!("google.rpc.{name}");
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET)?;
    let descriptor = pool.get_message_by_name(&name).ok_or("tonic-types describes its messages")?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message)?;
    let mut value = serde_json::to_value(&dynamic)?;
    value["@type"] = format!("type.googleapis.com/{name}").into();
    Ok(value)
}

fn metadata(map: &MetadataMap) -> Vec<(String, String)> {
    map.iter()
        .map(|entry| match entry {
            KeyAndValueRef::Ascii(key, value) => {
                (key.to_string(), String::from_utf8_lossy(value.as_encoded_bytes()).into_owned())
            }
            KeyAndValueRef::Binary(key, value) => {
                (key.to_string(), STANDARD.encode(value.to_bytes().unwrap_or_default()))
            }
        })
        .collect()
}

pub(crate) fn metadata_map(entries: &[(String, String)]) -> Result<MetadataMap, Failure> {
    let mut map = MetadataMap::new();
    for (key, value) in entries {
        if key.ends_with("-bin") {
            let value = MetadataValue::from_bytes(&STANDARD.decode(value)?);
            map.append_bin(BinaryMetadataKey::from_bytes(key.as_bytes())?, value);
        } else {
            map.append(AsciiMetadataKey::from_bytes(key.as_bytes())?, value.parse()?);
        }
    }
    Ok(map)
}

pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, Failure> {
    Ok(STANDARD.decode(text)?)
}
