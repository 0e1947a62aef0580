//! The pure parts of a call, for benches, fuzzing and tests: from a message's bytes to the request for the cloud, its
//! signature, and from an answer of the cloud to the caller's status; and the filter of a Unix
//! socket. No socket, no clock but for dates in `Retry-After`.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use prost::Message as _;
use tonic::Status;

use crate::{
    cloud,
    credentials::{Credential, Keys, SigningInput},
    mask::Masker,
    pb::AttachDomainsRequest,
    resources::Describe as _,
    server, status,
    upstream::Response,
    validate::{Rules, Validate as _},
};

/// The path and the JSON that a message becomes: decoded, validated, and written.
///
/// # Errors
///
/// The status for a message that can't be read or breaks a rule.
pub fn request(message: &[u8]) -> Result<(String, Bytes), Status> {
    let request = AttachDomainsRequest::decode(message)
        .map_err(|fault| status::unreadable_message(&fault.to_string()).status(true))?;
    let violations = request.violations(Rules { has_default_project: false, require_instance_ids: false });
    if violations.total > 0 {
        return Err(status::invalid_request(&violations).status(true));
    }
    let rest_request = cloud::rest_request(&request, &request.resources(), "apic")
        .map_err(|_| Status::internal("validation let an unsafe segment through"))?;
    Ok((rest_request.path, rest_request.body.unwrap_or_default()))
}

/// The same for the body of a call: read as the server reads it, counted, and then as [`request`].
///
/// # Errors
///
/// The status for a body or a message that can't be read, is too large, has too many entries, or breaks a rule.
pub fn request_body(body: &[u8], is_gzip: bool) -> Result<(String, Bytes), Status> {
    request(&server::read_message(METHOD, Bytes::copy_from_slice(body), is_gzip)?)
}

/// Signs requests with a key pair that is nobody's: path, body and date to the headers that go with them.
pub fn signer() -> impl Fn(&str, &[u8], SystemTime) -> HeaderMap {
    let keys = Keys::new("NOBODYSKEYIDNOBODYSK", "nobodyssecretnobodyssecretnobodyssecretn", None);
    let credential = Credential::keys(keys.expect("an id and a secret"));
    move |path, body, now| {
        let mut headers = cloud::headers(true);
        let input = SigningInput { verb: "POST", authority: "apic.example.com", path, query: "", body };
        credential.authorize(&mut headers, input, Some("73d69ae0cfcf460190522d06b60f05ad"), now);
        headers
    }
}

/// The caller's result when the cloud answers its request so. As much of the body is looked at as the gateway reads.
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
    let body = body.get(..crate::upstream::MOST_BODY).unwrap_or(body);
    let answer = Response { status, headers, body: Bytes::copy_from_slice(body) };
    match cloud::read::<AttachDomainsRequest>(&answer, &Masker::default()) {
        Ok(_) => Ok(()),
        Err(error) => Err(status::from_cloud(&error, None, &request.resources())),
    }
}

/// The bytes that h2 reads on a Unix socket when a client's bytes arrive in these pieces, and the most that waited for others
/// at once.
pub fn filter_authority<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, usize) {
    let (mut frames, mut read, mut waiting) = (server::Frames::default(), Vec::new(), 0);
    for piece in pieces {
        let passed = frames.receive(piece);
        read.extend_from_slice(piece.get(..passed).unwrap_or_default());
        read.extend_from_slice(&frames.take_ready(usize::MAX));
        waiting = waiting.max(frames.waiting());
    }
    frames.finish();
    read.extend_from_slice(&frames.take_ready(usize::MAX));
    (read, waiting)
}

/// The most bytes that [`filter_authority`] lets wait.
pub const MAX_WAITING: usize = server::MAX_BLOCK;

/// The method of these requests and answers.
pub const METHOD: &str = AttachDomainsRequest::METHOD.name;
