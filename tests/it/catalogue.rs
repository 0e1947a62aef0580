//! Every documented error code, under every status that it is documented under, in every shape of body.

use std::collections::BTreeMap;

use apig_grpc_gateway::bench_support;
use http::{HeaderMap, StatusCode};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Program, documented};

/// The catalogue, read a second time: gRPC code by error code and status.
fn catalogue() -> BTreeMap<(&'static str, &'static str), &'static str> {
    include_str!("../../data/error-codes.tsv")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("code\t"))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            ((fields[0], fields[1]), fields[2])
        })
        .collect()
}

/// The documented codes with one of their statuses each; a code without a documented status is tried under two.
fn documented_codes() -> Vec<(&'static str, u16)> {
    let pairs = include_str!("fixtures/documented-codes.tsv").lines().filter(|line| !line.starts_with('#'));
    pairs
        .map(|line| line.split_once('\t').unwrap())
        .flat_map(|(code, status)| match status.parse() {
            // Under a status below 400 no body is looked at: see `answers`.
            Ok(status) if status >= 400 => vec![(code, status)],
            _ => vec![(code, 400), (code, 500)],
        })
        .filter(|(code, _)| *code != "APIG.0000")
        .collect()
}

fn ask(status: u16, body: &[u8]) -> Status {
    bench_support::answer(&documented(), StatusCode::from_u16(status).unwrap(), HeaderMap::new(), body).unwrap_err()
}

/// What the contract gives for a status alone.
fn by_status(status: u16) -> Code {
    match status {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::Aborted,
        412 => Code::FailedPrecondition,
        429 => Code::ResourceExhausted,
        501 => Code::Unimplemented,
        502 | 503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

fn name(code: Code) -> &'static str {
    apig_grpc_gateway::telemetry::code_name(code)
}

#[test]
fn every_documented_code_comes_out_as_the_catalogue_says() {
    let catalogue = catalogue();
    for (code, status) in documented_codes() {
        let text = status.to_string();
        let expected = catalogue.get(&(code, text.as_str())).or_else(|| catalogue.get(&(code, "*"))).unwrap();
        for body in [
            format!(r#"{{"error_code":"{code}","error_msg":"m"}}"#),
            format!(r#"{{"error_msg":"m","error_code":"{code}","request_id":"r"}}"#),
            format!(r#"{{"errorCode":"{code}","errorMsg":"m"}}"#),
            format!(r#"{{"code":"{code}","message":"m"}}"#),
            format!(r#"{{"error":{{"error_code":"{code}","error_msg":"m"}}}}"#),
            format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#),
        ] {
            let answer = ask(status, body.as_bytes());
            assert_eq!(name(answer.code()), *expected, "{status} {body}");
            assert_ne!(answer.code(), Code::Unknown);
            let details = answer.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!(info.reason, code.replace('.', "_"));
            assert_eq!(info.metadata["error_code"], code);
            assert!(info.metadata.contains_key("plane") && info.metadata.contains_key("advice"));
            match answer.code() {
                Code::NotFound | Code::AlreadyExists => assert!(details.resource_info().is_some(), "{code}"),
                Code::ResourceExhausted => assert!(details.quota_failure().is_some(), "{code}"),
                Code::FailedPrecondition => assert!(details.precondition_failure().is_some(), "{code}"),
                Code::Unavailable | Code::Aborted => assert!(details.retry_info().is_some(), "{code}"),
                _ => {}
            }
        }
    }
}

#[test]
fn a_body_that_hides_the_code_leaves_the_status() {
    for (code, status) in documented_codes() {
        let cut = format!(r#"{{"error_code":"{code}","error_m"#);
        let not_utf8 = [b"{\"error_code\":\"\xff\xfe", code.as_bytes()].concat();
        for body in [&b""[..], b"<html><body>Bad Gateway</body></html>", cut.as_bytes(), &not_utf8] {
            let answer = ask(status, body);
            assert_eq!(answer.code(), by_status(status), "{status} {}", String::from_utf8_lossy(body));
            assert_eq!(answer.get_details_error_info().unwrap().reason, format!("HTTP_{status}"));
        }
    }
}

#[test]
fn invalid_bytes_in_the_message_leave_the_code() {
    let catalogue = catalogue();
    for (code, status) in documented_codes() {
        let text = status.to_string();
        let expected = catalogue.get(&(code, text.as_str())).or_else(|| catalogue.get(&(code, "*"))).unwrap();
        let body = [b"{\"error_code\":\"", code.as_bytes(), b"\",\"error_msg\":\"\xff\xfe\"}"].concat();
        assert_eq!(name(ask(status, &body).code()), *expected, "{status} {code}");
    }
}

#[test]
fn the_catalogue_has_the_documented_codes_and_no_others() {
    let mut have: Vec<&str> = catalogue().into_keys().map(|(code, _)| code).collect();
    let mut documented: Vec<&str> = include_str!("fixtures/documented-codes.tsv")
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(code, _)| code)
        .collect();
    have.dedup();
    documented.dedup();
    assert_eq!(documented.len(), 428);
    assert_eq!(have, documented);
}

/// Rows that the contract names.
#[test]
fn what_was_agreed_comes_out() {
    let codes = [
        (404, "APIG.3020", Code::NotFound),
        (404, "APIG.3021", Code::NotFound),
        (404, "APIG.3025", Code::NotFound),
        (404, "APIG.3030", Code::NotFound),
        (409, "APIG.3708", Code::FailedPrecondition),
        (409, "APIG.3709", Code::FailedPrecondition),
        (401, "APIG.1005", Code::PermissionDenied),
        (403, "APIG.1005", Code::PermissionDenied),
        (429, "APIG.0308", Code::ResourceExhausted),
        (429, "APIGW.0308", Code::ResourceExhausted),
        (500, "APIG.9008", Code::ResourceExhausted),
        (500, "APIG.3500", Code::Aborted),
        (403, "APIG.3108", Code::ResourceExhausted),
        (405, "APIG.0501", Code::ResourceExhausted),
        (400, "APIG.0201", Code::InvalidArgument),
        (413, "APIG.0201", Code::InvalidArgument),
        (414, "APIG.0201", Code::InvalidArgument),
        (494, "APIG.0201", Code::InvalidArgument),
        (502, "APIG.0201", Code::Unavailable),
        (504, "APIG.0201", Code::DeadlineExceeded),
    ];
    for (status, code, expected) in codes {
        let answer = ask(status, format!(r#"{{"error_code":"{code}","error_msg":"m"}}"#).as_bytes());
        assert_eq!(answer.code(), expected, "{status} {code}");
    }
    let types = [
        ("APIG.3020", "domain"),
        ("APIG.3021", "certificate"),
        ("APIG.3025", "certificate"),
        ("APIG.3030", "instance"),
    ];
    for (code, resource) in types {
        let answer = ask(404, format!(r#"{{"error_code":"{code}","error_msg":"m"}}"#).as_bytes());
        assert_eq!(answer.get_details_resource_info().unwrap().resource_type, resource, "{code}");
    }
    for (status, code) in [(429, "APIG.0308"), (500, "APIG.9008"), (500, "APIG.3500")] {
        let answer = ask(status, format!(r#"{{"error_code":"{code}","error_msg":"m"}}"#).as_bytes());
        assert!(answer.get_details_retry_info().unwrap().retry_delay.is_some(), "{code}");
    }
}

#[tokio::test]
async fn the_page_is_what_the_program_prints() {
    let ended = Program::run(&["errors", "--output", "markdown"], &[]).await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.out == include_str!("../../docs/errors.md"),
        "docs/errors.md is stale: cargo run -- errors --output markdown > docs/errors.md"
    );
}

#[tokio::test]
async fn errors_prints_one_or_all() {
    let one = Program::run(&["errors", "APIG.2012"], &[]).await;
    assert_eq!(one.code, Some(0));
    assert!(one.out.starts_with("APIG.2012 under any status: INVALID_ARGUMENT\n"), "{}", one.out);
    let by_reason = Program::run(&["errors", "APIG_2012"], &[]).await;
    assert_eq!(by_reason.out, one.out);
    let all = Program::run(&["errors", "--output", "json"], &[]).await;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&all.out).unwrap();
    assert_eq!(rows.len(), catalogue().len());
    let row = rows.iter().find(|row| row["code"] == "APIG.3020").unwrap();
    assert_eq!(
        (&row["grpc_code"], &row["reason"], &row["resource"]),
        (&"NOT_FOUND".into(), &"APIG_3020".into(), &"domain".into())
    );
    let none = Program::run(&["errors", "NOPE.1"], &[]).await;
    assert_eq!(none.code, Some(1));
}
