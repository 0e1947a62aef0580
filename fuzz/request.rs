//! The invariants of every request message. Shared by the fuzz target and the tests.

use apig_grpc_gateway::{bench_support, pb::AttachDomainsRequest};
use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Domains and instance ids in one call.
const MOST_ENTRIES: usize = 100_000;

/// Checks the request for the cloud, or the refusal, that these bytes become as a message and as a body.
pub(crate) fn check(input: &[u8]) {
    let decoded = AttachDomainsRequest::decode(input).ok();
    check_answer(bench_support::request(input), decoded.as_ref());
    let length = u32::try_from(input.len()).expect("a short input").to_be_bytes();
    let framed = [&[0], &length[..], input].concat();
    let answer = bench_support::request_body(&framed, false);
    if let Ok((path, body)) = &answer {
        let message = decoded.as_ref().expect("a request out of bytes that are a message");
        check_request(message, path, body);
        assert!(entries(message) <= MOST_ENTRIES, "{} entries", entries(message));
    }
    check_answer(answer, decoded.as_ref());
    // The fuzzer's own frame, compressed or not.
    for is_gzip in [false, true] {
        if let Err(status) = bench_support::request_body(input, is_gzip) {
            check_refusal(None, &status);
        }
    }
}

fn check_answer(answer: Result<(String, Bytes), Status>, message: Option<&AttachDomainsRequest>) {
    match answer {
        Ok((path, body)) => {
            check_request(message.expect("a request out of bytes that are a message"), &path, &body);
        }
        Err(status) => check_refusal(message, &status),
    }
}

fn check_request(message: &AttachDomainsRequest, path: &str, body: &[u8]) {
    let segments: Vec<&str> = path.split('/').collect();
    let ids = [message.project_id.as_str(), message.certificate_id.as_str()];
    assert_eq!(segments, ["", "v2", ids[0], "apic", "certificates", ids[1], "domains", "attach"]);
    for id in ids {
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        assert!((1..=128).contains(&id.len()) && id.bytes().all(is_safe) && id != "." && id != "..", "{id}");
    }
    let body: serde_json::Value = serde_json::from_slice(body).expect("the body is JSON");
    let body = body.as_object().expect("the body is an object");
    assert_eq!(body.keys().collect::<Vec<_>>(), ["domains"]);
    let domains = body.get("domains").and_then(|domains| domains.as_array()).expect("a list");
    assert_eq!(domains.len(), message.domains.len());
    for (sent, asked) in domains.iter().zip(&message.domains) {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).expect("a string");
        assert_eq!(sent.get("domain").map(text).as_deref(), Some(asked.domain.as_str()));
        let instances = sent.get("instance_ids").map(|ids| ids.as_array().expect("a list").iter().map(text).collect());
        assert_eq!(instances, Some(asked.instance_ids.clone()).filter(|ids| !ids.is_empty()));
        let flag = sent.get("verified_client_certificate_enabled").map(|flag| flag.as_bool().expect("a boolean"));
        assert_eq!(flag, asked.verified_client_certificate_enabled);
    }
}

fn check_refusal(message: Option<&AttachDomainsRequest>, status: &Status) {
    if status.code() == Code::ResourceExhausted {
        // Announced as larger than a message may be.
        return;
    }
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    assert!(status.message().len() <= 1_024, "{}", status.message().len());
    let details = status.get_error_details();
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("INVALID_REQUEST"));
    for violation in details.bad_request().into_iter().flat_map(|bad| &bad.field_violations) {
        assert!(message.is_none_or(|message| exists(message, &violation.field)), "no field {}", violation.field);
    }
    let (parts, ()) = status.clone().into_http::<()>().into_parts();
    let space: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(space < 8_000, "{space}");
}

/// Whether the message has the field that a path such as `domains[1].instance_ids[0]` names.
fn exists(message: &AttachDomainsRequest, path: &str) -> bool {
    if matches!(path, "project_id" | "certificate_id" | "domains") {
        return true;
    }
    let Some((at, field)) = path.strip_prefix("domains[").and_then(|rest| rest.split_once("].")) else { return false };
    let Some(domain) = at.parse::<usize>().ok().and_then(|at| message.domains.get(at)) else { return false };
    let of_instance = field.strip_prefix("instance_ids[").and_then(|rest| rest.strip_suffix(']'));
    match of_instance {
        Some(at) => at.parse::<usize>().is_ok_and(|at| at < domain.instance_ids.len()),
        None => matches!(field, "domain" | "instance_ids"),
    }
}

fn entries(message: &AttachDomainsRequest) -> usize {
    message.domains.len() + message.domains.iter().map(|domain| domain.instance_ids.len()).sum::<usize>()
}
