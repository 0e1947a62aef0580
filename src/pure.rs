//! The pure way from an answer of the cloud to what a caller gets, for benches, fuzzing and tests: no socket, no clock
//! but for dates in `Retry-After`.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tonic::Status;

use crate::{
    cloud::{self, Operation},
    http::Answer,
    pb::AttachDomainsRequest,
    status,
    validate::Validate as _,
};

/// What a caller gets when the cloud answers its request so. As much of the body is looked at as the gateway reads.
///
/// # Errors
///
/// The status that the caller gets, for every answer but the documented success.
pub fn answer(
    request: &AttachDomainsRequest,
    status: StatusCode,
    headers: HeaderMap,
    body: &[u8],
) -> Result<(), Status> {
    let body = body.get(..crate::http::MOST_BODY).unwrap_or(body);
    let answer = Answer { status, headers, body: Bytes::copy_from_slice(body) };
    match cloud::read::<AttachDomainsRequest>(&answer) {
        Ok(_) => Ok(()),
        Err(error) => Err(status::from_cloud(&error, request.names())),
    }
}

/// The method whose answers these are.
pub const METHOD: &str = AttachDomainsRequest::METHOD;
