//! Attaching domains: every refusal, in the order of the checks, and every effect.

use super::*;

fn row(domain: &str, instance: &str, verified: bool) -> (String, String, bool) {
    (domain.to_owned(), instance.to_owned(), verified)
}

fn www() -> Value {
    json!([{ "domain": "www.example.com" }])
}

#[tokio::test]
async fn the_documented_example_is_answered_with_an_empty_204() {
    let cloud = running().await;
    let domains = json!([{
        "domain": "www.example.com",
        "instance_ids": [FIRST, SECOND],
        "verified_client_certificate_enabled": false,
    }]);
    let answer = cloud.attach(CERTIFICATE, domains).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert!(!answer.headers.contains_key("content-type"));
    assert_id(answer.header("x-request-id"));
    assert_eq!(
        cloud.attached(CERTIFICATE).await,
        [row("www.example.com", FIRST, false), row("www.example.com", SECOND, false)]
    );
}

#[tokio::test]
async fn the_dedicated_gateways_path_leads_to_the_same_certificates() {
    let cloud = running().await;
    let path = format!("/v2/{PROJECT}/apigw/certificates/{CERTIFICATE}/domains/attach");
    let request = cloud
        .request(Method::POST, &path)
        .header("X-Auth-Token", OPERATOR)
        .header("Content-Type", "application/json; charset=utf-8")
        .body(json!({ "domains": www() }).to_string());
    assert_eq!(send(request).await.status, 204);
    assert_eq!(cloud.attached(CERTIFICATE).await.len(), 2);
}

#[tokio::test]
async fn without_a_token_the_front_gateway_refuses() {
    let cloud = running().await;
    let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach");
    let answer = send(cloud.request(Method::POST, &path)).await;
    answer.is_front(401, "APIG.0301", "Incorrect IAM authentication information: x-auth-token not found");
}

#[tokio::test]
async fn unknown_and_malformed_tokens_are_refused_alike() {
    let cloud = running().await;
    let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach");
    for token in [&b"of-another-cloud"[..], b"\xff\xfe", b""] {
        let request = cloud.request(Method::POST, &path).header("X-Auth-Token", token);
        send(request).await.is_service(401, "APIG.1002", "Incorrect token or token resolution failed.");
    }
}

#[tokio::test]
async fn an_expired_token_must_be_updated() {
    let cloud = running().await;
    let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach");
    // It expired 701 ms ago by the test's clock.
    let answer = send(cloud.request(Method::POST, &path).header("X-Auth-Token", "demo-expired-token")).await;
    answer.is_front(401, "APIG.0307", "The token must be updated.");
}

#[tokio::test]
async fn a_user_without_the_permission_may_not_attach() {
    let cloud = running().await;
    let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach");
    let answer = send(cloud.request(Method::POST, &path).header("X-Auth-Token", AUDITOR)).await;
    answer.is_service(403, "APIG.1005", "No permissions to request this method");
}

#[tokio::test]
async fn a_token_of_another_project_opens_nothing_here() {
    let cloud = running().await;
    for project in [OTHER_PROJECT, "no-such-project", "a%2Fb"] {
        let path = format!("/v2/{project}/apic/certificates/{CERTIFICATE}/domains/attach");
        let answer = send(cloud.request(Method::POST, &path).header("X-Auth-Token", OPERATOR)).await;
        answer.is_service(403, "APIG.1005", "No permissions to request this method");
    }
}

#[tokio::test]
async fn a_body_that_is_not_called_json_is_refused() {
    let cloud = running().await;
    let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach");
    let request = || {
        let body = json!({ "domains": www() }).to_string();
        cloud.request(Method::POST, &path).header("X-Auth-Token", OPERATOR).body(body)
    };
    for request in [request(), request().header("Content-Type", "text/plain")] {
        let text = "Parameter error: the content type is not application/json";
        send(request).await.is_service(400, "APIG.2000", text);
    }
}

#[tokio::test]
async fn a_body_that_is_not_the_documented_object_is_refused() {
    let cloud = running().await;
    for body in [
        "",
        "{",
        "null",
        "\"domains\"",
        r#"{"domains":null}"#,
        r#"{"domains":"www.example.com"}"#,
        r#"{"domains":[null]}"#,
        r#"{"domains":["www.example.com"]}"#,
        r#"{"domains":[{"domain":null}]}"#,
        r#"{"domains":[{"domain":"www.example.com","instance_ids":null}]}"#,
        r#"{"domains":[{"domain":"www.example.com","instance_ids":[7]}]}"#,
        r#"{"domains":[{"domain":"www.example.com","verified_client_certificate_enabled":null}]}"#,
        r#"{"domains":[{"domain":"www.example.com","verified_client_certificate_enabled":"true"}]}"#,
    ] {
        let answer = send(cloud.attachment(CERTIFICATE).body(body)).await;
        assert_eq!((answer.status, &answer.json()["error_code"]), (400, &json!("APIG.2000")), "{body}");
        assert!(answer.body.contains("Parameter error: Serialization error: "), "{}", answer.body);
    }
    assert!(cloud.attached(CERTIFICATE).await.is_empty());
}

#[tokio::test]
async fn a_stray_field_is_refused_by_name() {
    let cloud = running().await;
    for body in [
        json!({ "domains": www(), "project_id": PROJECT }),
        json!({ "domains": [{ "domain": "www.example.com", "project_id": PROJECT }] }),
    ] {
        let answer = send(cloud.attachment(CERTIFICATE).body(body.to_string())).await;
        assert_eq!((answer.status, &answer.json()["error_code"]), (400, &json!("APIG.2000")));
        assert!(answer.body.contains("unknown field `project_id`"), "{}", answer.body);
    }
}

#[tokio::test]
async fn domains_must_be_there_and_not_empty() {
    let cloud = running().await;
    for body in ["{}", r#"{"domains":[]}"#] {
        let answer = send(cloud.attachment(CERTIFICATE).body(body)).await;
        let text = parameter("The request parameters must be specified", "domains");
        answer.is_service(400, "APIG.2001", &text);
    }
}

#[tokio::test]
async fn each_entry_must_name_its_domain() {
    let cloud = running().await;
    let answer = cloud.attach(CERTIFICATE, json!([{ "domain": "www.example.com" }, {}])).await;
    answer.is_service(400, "APIG.2001", &parameter("The request parameters must be specified", "domain"));
}

#[tokio::test]
async fn a_domain_of_neither_pattern_is_refused_with_the_documented_text() {
    let cloud = running().await;
    for domain in ["", "localhost", "www.example.com/", "*.com", "-a.example.com"] {
        let answer = cloud.attach("no-such-certificate", json!([{ "domain": domain }])).await;
        let text = "Invalid parameter value,parameterName:domain_id. Please refer to the support documentation";
        answer.is_service(400, "APIG.2012", text);
    }
}

#[tokio::test]
async fn an_empty_list_of_instances_is_refused() {
    let cloud = running().await;
    let answer = cloud.attach(CERTIFICATE, json!([{ "domain": "www.example.com", "instance_ids": [] }])).await;
    answer.is_service(400, "APIG.2011", &parameter("Invalid parameter value", "instance_ids"));
}

#[tokio::test]
async fn a_certificate_that_the_project_does_not_have_is_not_found() {
    let cloud = running().await;
    for certificate in ["0123456789abcdef0123456789abcdef", "a%2Fb"] {
        let domains = json!([{ "domain": "no.such.example.com", "instance_ids": ["no-such-instance"] }]);
        let answer = cloud.attach(certificate, domains).await;
        answer.is_service(404, "APIG.3025", "The certificate does not exist.");
    }
}

#[tokio::test]
async fn a_certificates_fault_comes_before_what_the_request_names() {
    let cloud = running().await;
    let domains = json!([{ "domain": "no.such.example.com", "instance_ids": ["no-such-instance"] }]);
    let answer = cloud.attach("0a5d7e3c1f9b48e2860c4b7a9d2f6e15", domains).await;
    answer.is_service(500, "APIG.9999", "System error.");
    assert_id(answer.header("x-request-id"));
}

#[tokio::test]
async fn a_fault_changes_nothing_and_brings_its_headers() {
    let cloud = running().await;
    let throttled = "6c81f2b04e7d4a39957a3d0e5b8c1f46";
    let answer = cloud.attach(throttled, www()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "2"));
    assert_eq!(answer.json()["error_code"], "APIG.0308");
    assert!(cloud.attached(throttled).await.is_empty());
}

#[tokio::test]
async fn a_fault_after_the_fact_leaves_the_change_made() {
    let cloud = running().await;
    let times_out = "d3f8470b6a5e4c1d92b7e8035fa1c69e";
    let answer = cloud.attach(times_out, json!([{ "domain": "api.example.com" }])).await;
    assert_eq!(answer.status, 504);
    assert_eq!(cloud.attached(times_out).await, [row("api.example.com", FIRST, false)]);
}

#[tokio::test]
async fn an_unknown_instance_is_named_before_an_unknown_domain() {
    let cloud = running().await;
    let domains = json!([
        { "domain": "no.such.example.com" },
        { "domain": "www.example.com", "instance_ids": [FIRST, "no-such-instance"] },
    ]);
    let answer = cloud.attach(CERTIFICATE, domains).await;
    answer.is_service(404, "APIG.3030", "The instance does not exist;id:no-such-instance");
}

#[tokio::test]
async fn a_domain_must_exist_and_be_served_where_it_is_asked_for() {
    let cloud = running().await;
    for domains in [
        json!([{ "domain": "no.such.example.com" }]),
        json!([{ "domain": "api.example.com", "instance_ids": [FIRST, SECOND] }]),
        // An invalid entry keeps the valid one before it from taking effect.
        json!([{ "domain": "www.example.com" }, { "domain": "no.such.example.com" }]),
    ] {
        let answer = cloud.attach(CERTIFICATE, domains).await;
        answer.is_service(404, "APIG.3020", "The URL domain does not exist.");
    }
    assert!(cloud.attached(CERTIFICATE).await.is_empty());
}

#[tokio::test]
async fn a_second_certificate_replaces_the_first_if_the_cloud_is_set_so() {
    let replaces = |emulator: Emulator| emulator.with_second_certificate(SecondCertificate::Replaces);
    let cloud = running_as(World::documented(), replaces).await;
    let domains = |instances: Value| json!([{ "domain": "www.example.com", "instance_ids": instances }]);
    assert_eq!(cloud.attach(CERTIFICATE, domains(json!([FIRST, SECOND]))).await.status, 204);
    assert_eq!(cloud.attach(WITH_CA, domains(json!([SECOND]))).await.status, 204);
    let row = |instance: &str, verifies| vec![("www.example.com".to_owned(), instance.to_owned(), verifies)];
    assert_eq!(cloud.attached(CERTIFICATE).await, row(FIRST, false));
    assert_eq!(cloud.attached(WITH_CA).await, row(SECOND, true));
}

#[tokio::test]
async fn a_domain_takes_no_second_certificate_on_any_instance() {
    let cloud = running().await;
    let on_first = json!([{ "domain": "www.example.com", "instance_ids": [FIRST] }]);
    assert_eq!(cloud.attach(CERTIFICATE, on_first).await.status, 204);
    let on_second = json!([
        { "domain": "api.example.com" },
        { "domain": "www.example.com", "instance_ids": [SECOND] },
    ]);
    let answer = cloud.attach(WITH_CA, on_second).await;
    answer.is_service(400, "APIG.2051", "A domain name cannot be bound with different certificates.");
    assert!(cloud.attached(WITH_CA).await.is_empty());
}

#[tokio::test]
async fn the_same_certificate_again_is_accepted_and_sets_verification_anew() {
    let cloud = running().await;
    for verified in [true, false] {
        let domains = json!([{ "domain": "api.example.com", "verified_client_certificate_enabled": verified }]);
        assert_eq!(cloud.attach(WITH_CA, domains).await.status, 204);
        assert_eq!(cloud.attached(WITH_CA).await, [row("api.example.com", FIRST, verified)]);
    }
}

#[tokio::test]
async fn without_the_flag_clients_are_verified_exactly_if_there_is_a_ca() {
    let cloud = running().await;
    for (certificate, domain, verified) in
        [(CERTIFICATE, "api.example.com", false), (WITH_CA, "*.shop.example.com", true)]
    {
        assert_eq!(cloud.attach(certificate, json!([{ "domain": domain }])).await.status, 204);
        assert_eq!(cloud.attached(certificate).await[0].2, verified);
    }
}

#[tokio::test]
async fn the_flag_set_to_false_is_not_the_flag_left_out() {
    let cloud = running().await;
    let domains = json!([{ "domain": "api.example.com", "verified_client_certificate_enabled": false }]);
    assert_eq!(cloud.attach(WITH_CA, domains).await.status, 204);
    assert_eq!(cloud.attached(WITH_CA).await, [row("api.example.com", FIRST, false)]);
}

#[tokio::test]
async fn the_flag_set_to_true_needs_a_trusted_root_ca() {
    let cloud = running().await;
    let domains = json!([{ "domain": "api.example.com", "verified_client_certificate_enabled": true }]);
    let answer = cloud.attach(CERTIFICATE, domains.clone()).await;
    let text = parameter("Invalid parameter value", "verified_client_certificate_enabled");
    answer.is_service(400, "APIG.2011", &text);
    assert_eq!(cloud.attach(WITH_CA, domains).await.status, 204);
    assert_eq!(cloud.attached(WITH_CA).await, [row("api.example.com", FIRST, true)]);
}

#[tokio::test]
async fn an_instance_certificate_goes_to_its_own_instance_only() {
    let cloud = running().await;
    assert_eq!(cloud.attach(FOR_ONE_INSTANCE, www()).await.status, 204);
    assert_eq!(cloud.attached(FOR_ONE_INSTANCE).await, [row("www.example.com", SECOND, false)]);

    let elsewhere = json!([{ "domain": "www.example.com", "instance_ids": [FIRST] }]);
    let answer = cloud.attach(FOR_ONE_INSTANCE, elsewhere).await;
    answer.is_service(400, "APIG.2011", &parameter("Invalid parameter value", "instance_ids"));
}

#[tokio::test]
async fn of_a_domain_listed_twice_the_last_entry_counts() {
    let cloud = running().await;
    let domains = json!([
        { "domain": "api.example.com", "verified_client_certificate_enabled": true },
        { "domain": "api.example.com", "verified_client_certificate_enabled": false },
    ]);
    assert_eq!(cloud.attach(WITH_CA, domains).await.status, 204);
    assert_eq!(cloud.attached(WITH_CA).await, [row("api.example.com", FIRST, false)]);
}

const BUSY: (u16, &str, &str) = (500, "APIG.3500", "Failed to synchronize data to etcd.");

/// A cloud with changes that take longer than any test.
async fn slow() -> Running {
    running_as(World::documented(), |emulator| emulator.with_change_time(Duration::from_secs(3_600))).await
}

#[tokio::test]
async fn of_two_changes_of_a_certificate_at_once_one_is_refused() {
    let cloud = slow().await;
    let (one, other) = (cloud.attach(CERTIFICATE, www()), cloud.attach(CERTIFICATE, www()));
    let answer = tokio::select! {
        answer = one => answer,
        answer = other => answer,
    };
    answer.is_service(BUSY.0, BUSY.1, BUSY.2);
    assert_eq!(cloud.attached(CERTIFICATE).await.len(), 2, "the other one is at work");
}

#[tokio::test]
async fn a_change_goes_on_when_its_client_has_left() {
    let cloud = slow().await;
    let answer = loop {
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(100), cloud.attach(CERTIFICATE, www())).await {
            break answer;
        }
    };
    answer.is_service(BUSY.0, BUSY.1, BUSY.2);
}

#[tokio::test]
async fn changes_of_different_certificates_do_not_meet_nor_do_those_that_follow_each_other() {
    let cloud = running().await;
    for _ in 0..3 {
        let shop = json!([{ "domain": "*.shop.example.com" }]);
        let (one, other) = tokio::join!(cloud.attach(CERTIFICATE, www()), cloud.attach(WITH_CA, shop));
        assert_eq!((one.status, other.status), (204, 204));
    }
    // A refused change is not in progress any more.
    for _ in 0..2 {
        let answer = cloud.attach(CERTIFICATE, json!([{ "domain": "not.there.example.com" }])).await;
        answer.is_service(404, "APIG.3020", "The URL domain does not exist.");
    }
    assert_eq!(cloud.attach(CERTIFICATE, www()).await.status, 204);
}
