//! Metadata on its way in, upstream and back.

use tonic::{Code, Request};

use crate::support::{Caller, Cloud, Gateway, Program, Reply, documented, failed};

fn with(pairs: &[(&'static str, &str)]) -> Request<apig_grpc_gateway::pb::AttachDomainsRequest> {
    let mut request = Request::new(documented());
    for (name, value) in pairs {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_callers_request_id_is_kept_everywhere() {
    let cloud = Cloud::answering([Reply::attached(), Reply::refused(404, "APIG.3020", "m")]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let request = || with(&[("x-auth-token", "t"), ("x-request-id", "mine-7")]);
    let answer = caller.send(request()).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine-7");
    let failure = failed(caller.send(request()).await);
    assert_eq!(failure.status.metadata().get("x-request-id").unwrap(), "mine-7");
    assert_eq!(failure.status.metadata().get("apig-request-id").unwrap(), "cloud-1");
    assert!(cloud.seen().iter().all(|request| request.header("x-request-id") == Some("mine-7")));
}

#[tokio::test]
async fn a_missing_or_insane_request_id_is_replaced() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let long = "x".repeat(129);
    let requests = [
        with(&[("x-auth-token", "t")]),
        with(&[("x-auth-token", "t"), ("x-request-id", "a b")]),
        with(&[("x-auth-token", "t"), ("x-request-id", &long)]),
    ];
    for request in requests {
        let answer = caller.send(request).await.unwrap();
        let id = answer.metadata().get("x-request-id").unwrap().to_str().unwrap();
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
        assert_eq!(cloud.seen().last().unwrap().header("x-request-id"), Some(id));
    }
}

#[tokio::test]
async fn nothing_goes_upstream_that_is_not_named() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = with(&[
        ("x-auth-token", "t"),
        ("traceparent", traceparent),
        ("tracestate", "a=1"),
        ("authorization", "Bearer mine"),
        ("cookie", "c=1"),
        ("x-project-id", "other"),
        ("x-sdk-date", "20250101T000000Z"),
        ("x-forwarded-for", "10.0.0.1"),
        ("user-agent", "me"),
    ]);
    request.metadata_mut().insert_bin("custom-bin", tonic::metadata::MetadataValue::from_bytes(b"bytes"));
    gateway.caller().await.send(request).await.unwrap();
    let request = cloud.only_request();
    let mut names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "content-length",
            "content-type",
            "host",
            "traceparent",
            "tracestate",
            "user-agent",
            "x-auth-token",
            "x-request-id"
        ]
    );
    assert_eq!(request.header("traceparent"), Some(traceparent));
    assert_eq!(request.header("user-agent"), Some(concat!("apig-grpc-gateway/", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn a_call_without_a_token_goes_nowhere() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    for request in [with(&[]), with(&[("x-auth-token", "")])] {
        let failure = failed(caller.send(request).await);
        assert_eq!(failure.verdict(), (Code::Unauthenticated, "TOKEN_MISSING"));
        assert_eq!(failure.details.error_info().unwrap().domain, "apig-grpc-gateway");
    }
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn a_token_of_40_kib_passes() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let token = "t".repeat(40 * 1024);
    gateway.caller().await.send(with(&[("x-auth-token", &token)])).await.unwrap();
    assert_eq!(cloud.only_request().header("x-auth-token"), Some(token.as_str()));
}

#[tokio::test]
async fn a_log_line_has_both_ids_and_the_reason() {
    let cloud = Cloud::answering([Reply::attached(), Reply::refused(404, "APIG.3020", "m")]).await;
    let (mut program, address) = Program::serve(&["--upstream", &format!("http://{}", cloud.address)], &[]).await;
    let caller = Caller::of(&address).await;
    for (code, reason) in [("OK", None), ("NOT_FOUND", Some("APIG_3020"))] {
        let _ = caller.send(with(&[("x-auth-token", "t"), ("x-request-id", "mine-7")])).await;
        let line: serde_json::Value = serde_json::from_str(&program.log_line("call ended").await).unwrap();
        assert_eq!((line["code"].as_str(), line["reason"].as_str()), (Some(code), reason), "{line}");
        assert_eq!(line["apig_request_id"], "cloud-1", "{line}");
        assert_eq!(line["span"]["request_id"], "mine-7", "{line}");
        assert_eq!(line["span"]["certificate_id"], "a27be832f2e9441c8127fe48e3b5ac67", "{line}");
    }
}
