//! The main job: against the scripted cloud, and against the emulator.

use apig_grpc_gateway::pb::AttachOrDetachDomainInfo;
use emulator::{Emulator, World};
use tonic::{Code, Request};

use crate::support::{Cloud, Gateway, Reply, documented, domain, failed, soon};

/// The body that the cloud's documents show for this operation.
const DOCUMENTED_BODY: &str = r#"{
  "domains" : [ {
    "domain" : "apigtest.xxx.com",
    "instance_ids" : [ "f0fa1789-3b76-433b-a787-9892951c620e", "7d39549681c54d968ec2910da9da95cd" ]
  } ]
}"#;

#[tokio::test]
async fn the_documented_example_reaches_the_cloud_as_documented() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let answer = gateway.caller().await.attach(documented()).await.unwrap();
    assert_eq!(answer.metadata().get("apig-request-id").unwrap(), "cloud-1");

    let request = cloud.only_request();
    assert_eq!(
        request.line,
        "POST /v2/73d69ae0cfcf460190522d06b60f05ad/apic/certificates/a27be832f2e9441c8127fe48e3b5ac67/domains/attach"
    );
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("x-auth-token"), Some("demo-operator-token"));
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&request.body), json(DOCUMENTED_BODY));
}

#[tokio::test]
async fn the_default_project_and_the_family_fill_the_path() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("project-id", "mine").with("api-family", "apigw").start().await;
    let mut request = documented();
    request.project_id = String::new();
    gateway.caller().await.attach(request).await.unwrap();
    assert_eq!(
        cloud.only_request().line,
        "POST /v2/mine/apigw/certificates/a27be832f2e9441c8127fe48e3b5ac67/domains/attach"
    );
}

#[tokio::test]
async fn an_upstream_with_a_path_keeps_it() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let upstream = format!("http://{}/cloud/", cloud.address);
    let gateway = Gateway::facing(cloud.address).with("upstream", upstream).start().await;
    gateway.caller().await.attach(documented()).await.unwrap();
    assert!(cloud.only_request().line.starts_with("POST /cloud/v2/73d6"), "{:?}", cloud.seen());
}

#[tokio::test]
async fn presence_survives() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    for (given, expected) in [
        (None, r#"{"domains":[{"domain":"a.example.com"}]}"#),
        (Some(true), r#"{"domains":[{"domain":"a.example.com","verified_client_certificate_enabled":true}]}"#),
        (Some(false), r#"{"domains":[{"domain":"a.example.com","verified_client_certificate_enabled":false}]}"#),
    ] {
        let mut request = documented();
        request.domains =
            vec![AttachOrDetachDomainInfo { verified_client_certificate_enabled: given, ..domain("a.example.com") }];
        caller.attach(request).await.unwrap();
        assert_eq!(cloud.seen().last().unwrap().body, expected);
    }
}

/// A gateway before the emulator of the documented world.
async fn emulated() -> (Gateway, std::net::SocketAddr) {
    let emulator = Emulator::bind("127.0.0.1:0".parse().unwrap(), World::documented()).await.unwrap();
    let address = emulator.local_addr();
    tokio::spawn(emulator.run(std::future::pending()));
    (Gateway::facing(address).start().await, address)
}

#[tokio::test]
async fn the_emulator_shows_what_was_attached() {
    let (gateway, cloud) = emulated().await;
    gateway.caller().await.attach(documented()).await.unwrap();
    let list = format!(
        "http://{cloud}/v2/73d69ae0cfcf460190522d06b60f05ad/apic/certificates/a27be832f2e9441c8127fe48e3b5ac67/attached-domains"
    );
    let request = reqwest::Client::new().get(list).header("X-Auth-Token", "demo-operator-token").send();
    let body: serde_json::Value =
        serde_json::from_str(&soon(soon(request).await.unwrap().text()).await.unwrap()).unwrap();
    let bound: Vec<_> = body["bound_domains"].as_array().unwrap().iter().map(|row| &row["url_domain"]).collect();
    assert_eq!(bound, ["apigtest.xxx.com", "apigtest.xxx.com"], "one on each instance: {body}");
}

#[tokio::test]
async fn the_five_documented_errors_become_statuses() {
    let (gateway, _) = emulated().await;
    let caller = gateway.caller().await;
    let attach = async |token: &str, certificate: &str, name: &str| {
        let mut message = documented();
        message.certificate_id = certificate.into();
        message.domains[0].domain = name.into();
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-auth-token", token.parse().unwrap());
        failed(caller.send(request).await)
    };
    let (operator, certificate, name) = ("demo-operator-token", "a27be832f2e9441c8127fe48e3b5ac67", "apigtest.xxx.com");

    let bad_name = attach(operator, certificate, "no-dots").await;
    assert_eq!(bad_name.verdict(), (Code::InvalidArgument, "APIG_2012"));
    assert_eq!(bad_name.fields(), ["domain_id"]);
    let bad_token = attach("wrong", certificate, name).await;
    assert_eq!(bad_token.verdict(), (Code::Unauthenticated, "APIG_1002"));
    let no_right = attach("demo-auditor-token", certificate, name).await;
    assert_eq!(no_right.verdict(), (Code::PermissionDenied, "APIG_1005"));
    let missing = attach(operator, certificate, "nobody.example.com").await;
    assert_eq!(missing.verdict(), (Code::NotFound, "APIG_3020"));
    assert_eq!(missing.details.resource_info().unwrap().resource_name, "nobody.example.com");
    let fault = attach(operator, "0a5d7e3c1f9b48e2860c4b7a9d2f6e15", name).await;
    assert_eq!(fault.verdict(), (Code::Internal, "APIG_9999"));
    assert_eq!(fault.fact("outcome"), Some("unknown"));
    for failure in [bad_name, bad_token, no_right, missing, fault] {
        assert_eq!(failure.details.error_info().unwrap().domain, "apig.huaweicloud.com");
        assert!(failure.status.metadata().contains_key("apig-request-id"));
        assert!(failure.status.metadata().contains_key("x-request-id"));
    }
}
