//! The `google.rpc` details of a status, each encoded when it is made.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost_types::Any;
use tonic::Code;
use tonic_types::pb::{self, bad_request, help, precondition_failure, quota_failure};

/// One detail.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Detail(Any);

/// `google.rpc.ErrorInfo` with its metadata in a list, which encodes as the published type's hash map does. To hash the
/// names, and to seed the hash, took more instructions than all else of a detail.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Entry>,
}

/// An entry of a protobuf map.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

impl Detail {
    pub(super) fn error_info(reason: &str, domain: &str, metadata: Vec<(&'static str, String)>) -> Self {
        let metadata = metadata.into_iter().map(|(key, value)| Entry { key: key.to_owned(), value }).collect();
        let info = ErrorInfo { reason: reason.to_owned(), domain: domain.to_owned(), metadata };
        Self::of("type.googleapis.com/google.rpc.ErrorInfo", &info)
    }

    pub(super) fn retry_info(wait: Duration) -> Self {
        let retry_delay = prost_types::Duration::try_from(wait).ok();
        Self::of("type.googleapis.com/google.rpc.RetryInfo", &pb::RetryInfo { retry_delay })
    }

    pub(super) fn resource_info(type_: &str, name: &str, owner: String, description: &str) -> Self {
        let info = pb::ResourceInfo {
            resource_type: type_.to_owned(),
            resource_name: name.to_owned(),
            owner,
            description: description.to_owned(),
        };
        Self::of("type.googleapis.com/google.rpc.ResourceInfo", &info)
    }

    pub(super) fn quota_failure(subject: String, description: String) -> Self {
        let violation = quota_failure::Violation { subject, description, ..Default::default() };
        Self::of("type.googleapis.com/google.rpc.QuotaFailure", &pb::QuotaFailure { violations: vec![violation] })
    }

    pub(super) fn precondition_failure(type_: &str, subject: String, description: &str) -> Self {
        let violation =
            precondition_failure::Violation { r#type: type_.to_owned(), subject, description: description.to_owned() };
        let failure = pb::PreconditionFailure { violations: vec![violation] };
        Self::of("type.googleapis.com/google.rpc.PreconditionFailure", &failure)
    }

    /// Of fields and descriptions.
    pub(super) fn bad_request<'a>(violations: impl IntoIterator<Item = (String, &'a str)>) -> Self {
        let violation = |(field, description): (_, &str)| bad_request::FieldViolation {
            field,
            description: description.to_owned(),
            ..Default::default()
        };
        let request = pb::BadRequest { field_violations: violations.into_iter().map(violation).collect() };
        Self::of("type.googleapis.com/google.rpc.BadRequest", &request)
    }

    pub(super) fn request_info(id: &str) -> Self {
        let info = pb::RequestInfo { request_id: id.to_owned(), serving_data: String::new() };
        Self::of("type.googleapis.com/google.rpc.RequestInfo", &info)
    }

    pub(super) fn help(description: &str, url: &str) -> Self {
        let link = help::Link { description: description.to_owned(), url: url.to_owned() };
        Self::of("type.googleapis.com/google.rpc.Help", &pb::Help { links: vec![link] })
    }

    fn of(type_url: &str, message: &impl Message) -> Self {
        Self(Any { type_url: type_url.to_owned(), value: message.encode_to_vec() })
    }
}

/// The `google.rpc.Status` of the details.
pub(super) fn encode(code: Code, message: &str, details: &[Detail]) -> Bytes {
    let details = details.iter().map(|detail| detail.0.clone()).collect();
    pb::Status { code: code.into(), message: message.to_owned(), details }.encode_to_vec().into()
}
