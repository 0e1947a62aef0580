//! Detaching: the second change, made of the same parts as the first.

use apig_grpc_gateway::pb::{AttachOrDetachDomainInfo, DetachDomainsRequest, DetachDomainsResponse};
use emulator::{Emulator, World};
use tonic::{Code, Request, Response, Status};

use crate::support::{Caller, Cloud, Gateway, Reply, documented, domain, failed, soon};

fn documented_detach() -> DetachDomainsRequest {
    let attach = documented();
    DetachDomainsRequest {
        project_id: attach.project_id,
        certificate_id: attach.certificate_id,
        domains: attach.domains,
    }
}

async fn detach(caller: &Caller, message: DetachDomainsRequest) -> Result<Response<DetachDomainsResponse>, Status> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-auth-token", "demo-operator-token".parse().unwrap());
    soon(caller.client().detach_domains(request)).await
}

#[tokio::test]
async fn the_request_reaches_the_cloud_as_documented() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let response = detach(&caller, documented_detach()).await.unwrap();
    assert_eq!(response.metadata().get("apig-request-id").unwrap(), "cloud-1");
    let request = cloud.only_request();
    assert_eq!(
        request.line,
        "POST /v2/73d69ae0cfcf460190522d06b60f05ad/apic/certificates/a27be832f2e9441c8127fe48e3b5ac67/domains/detach"
    );
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let expected = r#"{"domains":[{"domain":"apigtest.xxx.com",
        "instance_ids":["f0fa1789-3b76-433b-a787-9892951c620e","7d39549681c54d968ec2910da9da95cd"]}]}"#;
    assert_eq!(json(&request.body), json(expected));

    for (given, expected) in [
        (Some(true), r#"{"domains":[{"domain":"d","verified_client_certificate_enabled":true}]}"#),
        (Some(false), r#"{"domains":[{"domain":"d","verified_client_certificate_enabled":false}]}"#),
    ] {
        let domains = vec![AttachOrDetachDomainInfo { verified_client_certificate_enabled: given, ..domain("d") }];
        detach(&caller, DetachDomainsRequest { domains, ..documented_detach() }).await.unwrap();
        assert_eq!(cloud.last_request().body, expected);
    }
}

#[tokio::test]
async fn the_emulator_shows_the_bindings_that_are_left() {
    let emulator = Emulator::bind("127.0.0.1:0".parse().unwrap(), World::documented()).await.unwrap();
    let address = emulator.local_addr();
    tokio::spawn(emulator.run(std::future::pending()));
    let gateway = Gateway::facing(address).start().await;
    let caller = gateway.caller().await;
    caller.attach(documented()).await.unwrap();
    let mut message = documented_detach();
    message.domains[0].instance_ids.truncate(1);
    detach(&caller, message).await.unwrap();
    let list = format!(
        "http://{address}/v2/{}/apic/certificates/{}/attached-domains",
        documented().project_id,
        documented().certificate_id
    );
    let request = reqwest::Client::new().get(list).header("X-Auth-Token", "demo-operator-token").send();
    let body: serde_json::Value =
        serde_json::from_str(&soon(soon(request).await.unwrap().text()).await.unwrap()).unwrap();
    assert_eq!(
        (&body["total"], &body["bound_domains"][0]["instance_id"]),
        (&1.into(), &"7d39549681c54d968ec2910da9da95cd".into())
    );

    detach(&caller, documented_detach()).await.unwrap();
    let failure = failed(detach(&caller, documented_detach()).await);
    assert_eq!(failure.verdict(), (Code::InvalidArgument, "APIG_2000"));
    assert_eq!(failure.status.message(), "no valid domain name");
}

#[tokio::test]
async fn refusals_and_unknown_outcomes_are_those_of_a_change() {
    for (script, code, reason, outcome) in [
        (Reply::refused(400, "APIG.2012", "text"), Code::InvalidArgument, "APIG_2012", None),
        (Reply::refused(401, "APIG.1002", "text"), Code::Unauthenticated, "APIG_1002", None),
        (Reply::refused(403, "APIG.1005", "text"), Code::PermissionDenied, "APIG_1005", None),
        (Reply::refused(404, "APIG.3097", "text"), Code::NotFound, "APIG_3097", None),
        (Reply::refused(500, "APIG.9999", "text"), Code::Internal, "APIG_9999", Some("unknown")),
        (Reply::json(200, "{}"), Code::Internal, "UPSTREAM_PROTOCOL_ERROR", Some("unknown")),
        (Reply::close(), Code::Unavailable, "UPSTREAM_CONNECTION_LOST", Some("unknown")),
    ] {
        let cloud = Cloud::answering([script.clone()]).await;
        let gateway = Gateway::facing(cloud.address).start().await;
        let failure = failed(detach(&gateway.caller().await, documented_detach()).await);
        assert_eq!((failure.verdict(), failure.fact("outcome")), ((code, reason), outcome), "{script:?}");
        assert_eq!(cloud.seen().len(), 1, "{script:?}");
    }
}

#[tokio::test]
async fn every_violation_is_named_and_nothing_is_sent() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("require-instance-ids", "true").start().await;
    let caller = gateway.caller().await;
    let message = DetachDomainsRequest {
        project_id: "..".into(),
        certificate_id: String::new(),
        domains: vec![domain("a b"), AttachOrDetachDomainInfo { instance_ids: vec!["a/b".into()], ..domain("") }],
    };
    let failure = failed(detach(&caller, message).await);
    assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"));
    let mut fields = failure.fields();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "certificate_id",
            "domains[0].domain",
            "domains[0].instance_ids",
            "domains[1].domain",
            "domains[1].instance_ids[0]",
            "project_id"
        ]
    );
    let none = DetachDomainsRequest { domains: Vec::new(), ..documented_detach() };
    assert_eq!(failed(detach(&caller, none).await).fields(), ["domains"]);
    assert_eq!(cloud.seen().len(), 0);
}

#[tokio::test]
async fn attach_and_detach_of_a_certificate_go_one_after_the_other() {
    let cloud = Cloud::answering([Reply::hang(), Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let (caller, other) = (gateway.caller().await, gateway.caller().await);
    let first = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    let mut second = Box::pin(detach(&other, documented_detach()));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(200), &mut second).await;
    assert!(waited.is_err(), "it waits for the lock");
    assert_eq!(cloud.seen().len(), 1);
    first.abort();
    second.await.unwrap();
    assert!(cloud.last_request().line.ends_with("/detach"));
}
