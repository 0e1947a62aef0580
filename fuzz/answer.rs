//! What must hold for every answer of the cloud. The fuzz target and the tests share it.

use apig_grpc_gateway::{
    bench_support,
    pb::{AttachDomainsRequest, AttachOrDetachDomainInfo},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tonic_types::StatusExt as _;

/// Reads an answer out of bytes: two of status, one of which headers, one line for each header, and the body.
fn read(input: &[u8]) -> Option<(StatusCode, HeaderMap, &[u8])> {
    let ([high, low, which], mut rest) = input.split_first_chunk()?;
    let status = StatusCode::from_u16(100 + u16::from_be_bytes([*high, *low]) % 900).ok()?;
    let names = [header::RETRY_AFTER, HeaderName::from_static("x-request-id"), header::CONTENT_TYPE, header::LOCATION];
    let mut headers = HeaderMap::new();
    for (bit, name) in names.into_iter().enumerate() {
        if which & (1 << bit) != 0 {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let (line, after) = rest.split_at(end);
            rest = after.get(1..)?;
            if let Ok(value) = HeaderValue::from_bytes(line) {
                headers.insert(name, value);
            }
        }
    }
    Some((status, headers, rest))
}

/// Checks the bounds for the answer that these bytes are.
pub(crate) fn check(input: &[u8]) {
    if let Some((status, headers, body)) = read(input) {
        check_answer(status, headers, body);
    }
}

/// Checks the bounds for an answer.
pub(crate) fn check_answer(status: StatusCode, headers: HeaderMap, body: &[u8]) {
    let request = AttachDomainsRequest {
        project_id: "p".into(),
        certificate_id: "c".into(),
        domains: vec![AttachOrDetachDomainInfo {
            domain: "www.example.com".into(),
            instance_ids: vec!["i1".into(), "i2".into()],
            verified_client_certificate_enabled: None,
        }],
    };
    let Err(answer) = bench_support::answer(&request, status, headers, body) else {
        assert_eq!(status, StatusCode::NO_CONTENT);
        return;
    };
    assert_ne!(status, StatusCode::NO_CONTENT);
    assert_ne!(answer.code(), tonic::Code::Ok);
    assert_ne!(answer.code(), tonic::Code::Unknown);
    assert!(answer.message().len() <= 1_024, "{}", answer.message().len());
    assert!(!answer.details().is_empty());
    check_reason(&answer);
    let (parts, ()) = answer.into_http::<()>().into_parts();
    let space: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(space < 8_000, "{space}");
    let message = parts.headers.get("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default();
    assert!(message.iter().all(|byte| (b' '..=b'~').contains(byte)), "grpc-message is percent-encoded");
}

/// Reasons that the gateway may give by itself for an answer of the cloud. All others are the cloud's own codes.
const OWN_REASONS: [&str; 2] = ["UPSTREAM_PROTOCOL_ERROR", "UPSTREAM_REDIRECT"];

fn check_reason(answer: &tonic::Status) {
    let details = answer.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    let is_reason = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    assert!((1..=63).contains(&info.reason.len()) && info.reason.bytes().all(is_reason), "{}", info.reason);
    match info.domain.as_str() {
        "apig.huaweicloud.com" => {}
        "apig-grpc-gateway" => assert!(OWN_REASONS.contains(&info.reason.as_str()), "{}", info.reason),
        other => panic!("the domain {other}"),
    }
}
