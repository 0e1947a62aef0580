use proptest::prelude::*;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::{
    mask::Masker,
    pb::{AttachDomainsRequest, AttachOrDetachDomainInfo},
    resources::{Describe as _, Method},
};

fn domain(domain: &str, instance_ids: &[&str]) -> AttachOrDetachDomainInfo {
    AttachOrDetachDomainInfo {
        domain: domain.into(),
        instance_ids: instance_ids.iter().map(|id| (*id).into()).collect(),
        verified_client_certificate_enabled: None,
    }
}

fn request(domains: &[AttachOrDetachDomainInfo]) -> AttachDomainsRequest {
    AttachDomainsRequest { project_id: "p1".into(), certificate_id: "c1".into(), domains: domains.to_vec() }
}

fn of_change(error: &Error) -> Status {
    from_cloud(error, None, &request(&[]).resources())
}

/// The status for a read of the same.
fn of_read(error: &Error) -> Status {
    static READ: Method = Method { is_change: false, ..*AttachDomainsRequest::METHOD };
    let request = request(&[]);
    from_cloud(error, None, &Resources { method: &READ, ..request.resources() })
}

fn refusal(status: u16, code: &str, message: &str) -> Refusal {
    let body = serde_json::json!({ "error_code": code, "error_msg": message }).to_string();
    Refusal::read(&Masker::default(), status, Some("r1".into()), None, body.as_bytes())
}

fn answered(refusal: Refusal, domains: &[AttachOrDetachDomainInfo]) -> (Status, ErrorDetails) {
    let status = from_cloud(&Error::Refused(Box::new(refusal)), None, &request(domains).resources());
    let details = status.get_error_details();
    (status, details)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

#[test]
fn the_log_has_the_reason_and_the_outcome_that_a_program_reads() {
    let refused = |status, code| answered(refusal(status, code, "m"), &[]).0;
    let rejected = rejected(crate::admission::Rejected::Evicted).status(true);
    let local = [deadline_exceeded(true).status(true), rejected, deadline_exceeded(true).status(false)];
    for status in [refused(404, "APIG.3020"), refused(504, "X.1"), refused(500, "")].into_iter().chain(local) {
        let info = status.get_details_error_info().unwrap();
        let response = status.into_http::<()>();
        let ending = Ending::of(response.extensions().get::<Status>().unwrap()).unwrap();
        assert_eq!(ending.reason, info.reason);
        let outcome = ending.outcome.map(Outcome::as_str);
        assert_eq!(outcome, info.metadata.get("outcome").map(String::as_str), "{}", info.reason);
    }
    assert_eq!(Ending::of(&Status::internal("tonic's own")), None);
}

#[test]
fn a_refusal_carries_what_a_program_needs() {
    let (status, details) = answered(refusal(404, "APIG.3020", "The URL domain does not exist."), &[domain("d1", &[])]);
    assert_eq!((status.code(), status.message()), (Code::NotFound, "The URL domain does not exist."));
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("APIG_3020", "apig.huaweicloud.com"));
    assert_eq!(info.metadata["error_code"], "APIG.3020");
    assert_eq!(info.metadata["http_status"], "404");
    assert_eq!(info.metadata["request_id"], "r1");
    assert_eq!(info.metadata["plane"], "service");
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str(), resource.owner.as_str()),
        ("domain", "d1", "projects/p1")
    );
    assert_eq!(details.request_info().unwrap().request_id, "r1");
    assert_eq!(details.help().unwrap().links.len(), 1);
    assert_eq!(status.metadata().get("apig-request-id").unwrap(), "r1");
}

#[test]
fn a_code_in_no_table_still_reaches_the_caller() {
    let (status, details) = answered(refusal(418, "NEW-Family.12", "odd"), &[]);
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "odd"));
    assert_eq!(details.error_info().unwrap().reason, "NEW_FAMILY_12");
    assert_eq!(details.error_info().unwrap().metadata["error_code"], "NEW-Family.12");
}

#[test]
fn without_a_code_the_status_is_the_reason() {
    let (status, _) = answered(Refusal::read(&Masker::default(), 502, None, None, b"<html>"), &[]);
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "HTTP_502"));
    let (status, details) =
        answered(Refusal::read(&Masker::default(), 401, None, None, br#"{"error":{"code":401,"message":"m"}}"#), &[]);
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "HTTP_401"));
    assert_eq!(details.error_info().unwrap().metadata["error_code"], "401");
}

#[test]
fn a_named_parameter_is_a_field_of_ours_where_one_carries_it() {
    let field = |parameter: &str, domains: &[AttachOrDetachDomainInfo]| {
        let (_, details) =
            answered(refusal(400, "APIG.2012", &format!("Invalid,parameterName:{parameter}. Please")), domains);
        details.bad_request().unwrap().field_violations[0].field.clone()
    };
    let one = [domain("a", &[])];
    let two = [domain("a", &[]), domain("b", &[])];
    assert_eq!(field("domain_id", &one), "domain_id");
    assert_eq!(field("certificate_id", &one), "certificate_id");
    assert_eq!(field("domain", &one), "domains[0].domain");
    assert_eq!(field("instance_id", &one), "domains[0].instance_ids");
    assert_eq!(field("domain", &two), "domains");
}

#[test]
fn a_missing_instance_is_named_when_only_one_can_be_meant() {
    let named = |message: &str, domains: &[AttachOrDetachDomainInfo]| {
        answered(refusal(404, "APIG.3030", message), domains).1.resource_info().unwrap().resource_name.clone()
    };
    assert_eq!(named("The instance does not exist", &[domain("a", &["i1"])]), "i1");
    assert_eq!(named("The instance does not exist", &[domain("a", &["i1", "i2"])]), "");
    assert_eq!(named("The instance does not exist;id:i2", &[domain("a", &["i1", "i2"])]), "i2");
}

#[test]
fn throttling_says_when_to_come_back() {
    let body = br#"{"error_code":"APIG.0308","error_msg":"throttled"}"#;
    let (status, details) =
        answered(Refusal::read(&Masker::default(), 429, None, Some(Duration::from_secs(3)), body), &[]);
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(3)));
    assert_eq!(details.quota_failure().unwrap().violations.len(), 1);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "3000");
}

#[test]
fn a_throttling_text_becomes_a_quota_with_limit_and_window() {
    let text = "The throttling threshold has been reached: policy api over ratelimit,limit:100,time:1 minute";
    let (_, details) = answered(refusal(429, "APIG.0308", text), &[]);
    let violation = &details.quota_failure().unwrap().violations[0];
    assert_eq!((violation.subject.as_str(), violation.description.as_str()), ("requests:api", "100 in 60 s"));
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(60)));
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!(
        (metadata["quota_policy"].as_str(), metadata["quota_limit"].as_str(), metadata["quota_window"].as_str()),
        ("api", "100", "60s")
    );
    assert_eq!(metadata["plane"], "front");
}

#[test]
fn what_is_there_already_and_what_is_not_allowed_are_named() {
    let (status, details) = answered(refusal(400, "APIC.7258", "m"), &[]);
    assert_eq!((status.code(), details.resource_info().unwrap().resource_type.as_str()), (Code::AlreadyExists, "port"));
    let (status, details) = answered(refusal(409, "APIG.3708", "m"), &[]);
    let violation = &details.precondition_failure().unwrap().violations[0];
    assert_eq!((status.code(), violation.subject.as_str()), (Code::FailedPrecondition, "certificates/c1"));
    assert!(violation.r#type.starts_with("CERTIFICATE_"), "{}", violation.r#type);
}

#[test]
fn an_unknown_outcome_is_told_and_never_repeated_by_a_client_on_its_own() {
    for (error, code) in [
        (Error::ConnectionLost("reset".into()), Code::Unavailable),
        (
            Error::Refused(Box::new(Refusal::read(&Masker::default(), 502, None, Some(Duration::from_secs(1)), b""))),
            Code::Unavailable,
        ),
        (Error::Refused(Box::new(refusal(500, "APIG.9999", "System error."))), Code::Internal),
        (Error::Decode("bytes".into()), Code::Internal),
        (Error::Redirected { status: http::StatusCode::FOUND, request_id: None }, Code::Internal),
        (Error::Malformed { status: http::StatusCode::OK, cause: "cut".into(), request_id: None }, Code::Internal),
        (Error::NoMemory, Code::Unavailable),
    ] {
        let status = of_change(&error);
        assert_eq!(status.code(), code);
        assert_eq!(status.get_details_error_info().unwrap().metadata["outcome"], "unknown");
        let pushback = status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap());
        assert_eq!(pushback, (code == Code::Unavailable).then_some("-1"));
    }
}

#[test]
fn a_read_has_no_outcome_and_may_be_repeated() {
    let refused = |status, code| Error::Refused(Box::new(refusal(status, code, "m")));
    for (error, code, reason_) in [
        (Error::ReadInterrupted("reset".into()), Code::Unavailable, "UPSTREAM_CONNECTION_LOST"),
        (Error::Unreachable("refused".into()), Code::Unavailable, "UPSTREAM_UNREACHABLE"),
        (refused(502, ""), Code::Unavailable, "HTTP_502"),
        (refused(500, "APIG.9999"), Code::Internal, "APIG_9999"),
        (Error::Decode("bytes".into()), Code::Internal, "UPSTREAM_PROTOCOL_ERROR"),
        (
            Error::Malformed { status: http::StatusCode::OK, cause: "cut".into(), request_id: None },
            Code::Internal,
            "UPSTREAM_PROTOCOL_ERROR",
        ),
        (Error::NoMemory, Code::Unavailable, "OVERLOADED"),
    ] {
        let status = of_read(&error);
        assert_eq!((status.code(), reason(&status).as_str()), (code, reason_));
        assert!(!status.get_details_error_info().unwrap().metadata.contains_key("outcome"), "{reason_}");
        assert!(!status.message().contains("unknown"), "{}", status.message());
        assert!(status.metadata().get("grpc-retry-pushback-ms").is_none(), "{reason_}");
    }
}

#[test]
fn what_was_not_sent_may_be_repeated() {
    let status = of_change(&Error::Unreachable("refused".into()));
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
    assert_eq!(status.get_details_error_info().unwrap().metadata["outcome"], "not_sent");
    assert!(status.get_details_retry_info().is_some());
    assert!(status.metadata().get("grpc-retry-pushback-ms").is_none());
}

#[test]
fn the_operators_credentials_are_not_the_callers_fault() {
    let error = Error::CredentialsRefused(Box::new(refusal(401, "APIG.1002", "Incorrect token")), None);
    let status = of_change(&error);
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "CREDENTIALS_REFUSED"));
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.metadata["error_code"].as_str()), ("apig-grpc-gateway", "APIG.1002"));
}

#[test]
fn an_opaque_message_is_whole_or_absent() {
    let with = |length: usize| {
        let body = serde_json::json!({
            "error_code": "APIG.1005", "error_msg": "no", "encoded_authorization_message": "e".repeat(length),
        });
        let (_, details) =
            answered(Refusal::read(&Masker::default(), 403, None, None, body.to_string().as_bytes()), &[]);
        details.error_info().unwrap().metadata.get("encoded_authorization_message").map(String::len)
    };
    assert_eq!(with(1_000), Some(1_000));
    assert_eq!(with(5_000), None);
}

/// The header space that a client counts against its 8 KiB: names and values, and 32 for each entry.
fn header_space(status: Status) -> usize {
    let response = status.into_http::<()>();
    response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

#[test]
fn the_largest_answers_fit_a_clients_header_space() {
    for text in ["x", "é", "證", "𝕏", "%", " ", "\u{1}"] {
        let message = text.repeat(5_000);
        for (status, code) in [(400, "APIG.2012"), (404, "APIG.3020"), (429, "APIG.0308"), (400, "APIG.2102")] {
            let body = serde_json::json!({
                "error_code": code,
                "error_msg": format!("parameterName:{0},parameterName:{0},{message}", "p".repeat(128)),
                "encoded_authorization_message": "e".repeat(1_024),
            });
            let refusal = Refusal::read(
                &Masker::default(),
                status,
                Some("r".repeat(128)),
                Some(Duration::from_secs(9)),
                body.to_string().as_bytes(),
            );
            let long = "d".repeat(253);
            let (answer, details) = answered(refusal, &[domain(&long, &[])]);
            assert!(details.error_info().is_some());
            assert!(answer.message().len() <= 1_024 && answer.message().ends_with('…'));
            let space = header_space(answer);
            assert!(space < 7_900, "{text:?} {code}: {space}");
        }
    }
}

#[test]
fn as_many_violations_are_named_as_fit_and_all_are_counted() {
    use crate::validate::{Rules, Validate as _};

    let request = AttachDomainsRequest {
        project_id: String::new(),
        certificate_id: String::new(),
        domains: vec![domain("", &["/"]); 1000],
    };
    let rules = Rules { has_default_project: false, require_instance_ids: false };
    let status = invalid_request(&request.violations(rules)).status(true);
    let named = status.get_details_bad_request().unwrap().field_violations.len();
    assert!(named >= 35, "{named}");
    assert_eq!(status.get_details_error_info().unwrap().metadata["violations"], "2002");
    assert!(header_space(status) < 7_900);
}

proptest! {
    #[test]
    fn every_answer_of_the_cloud_becomes_a_bounded_status(
        status in 400u16..600,
        body in prop::collection::vec(any::<u8>(), 0..4096),
        code in "(APIG|APIC|APIGW|IAM)\\.[0-9]{4}",
        message in ".{0,2000}",
        structured in any::<bool>(),
    ) {
        let json = serde_json::json!({ "error_code": code, "error_msg": message }).to_string();
        let bytes = if structured { json.as_bytes() } else { &body };
        let (answer, details) = answered(Refusal::read(&Masker::default(), status, None, None, bytes), &[]);
        prop_assert_ne!(answer.code(), Code::Ok);
        prop_assert_ne!(answer.code(), Code::Unknown);
        prop_assert!(details.error_info().is_some());
        prop_assert!(header_space(answer) < 7_900);
    }
}
