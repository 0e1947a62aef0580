//! The first read: pages of the domains that a certificate is bound to.

use std::fmt::Write as _;

use apig_grpc_gateway::pb::{BoundDomain, CnameStatus, ListAttachedDomainsRequest, ListAttachedDomainsResponse};
use emulator::{Emulator, World};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::support::{Cloud, Failed, Gateway, Reply, documented, domain, failed, head, soon};

fn documented_list() -> ListAttachedDomainsRequest {
    let attach = documented();
    ListAttachedDomainsRequest {
        project_id: attach.project_id,
        certificate_id: attach.certificate_id,
        ..ListAttachedDomainsRequest::default()
    }
}

async fn list(
    gateway: &Gateway,
    message: ListAttachedDomainsRequest,
) -> Result<ListAttachedDomainsResponse, tonic::Status> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-auth-token", "demo-operator-token".parse().unwrap());
    soon(gateway.caller().await.client().list_attached_domains(request)).await.map(tonic::Response::into_inner)
}

async fn listed(script: impl IntoIterator<Item = Reply>) -> (Result<ListAttachedDomainsResponse, Failed>, Cloud) {
    let cloud = Cloud::answering(script).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let result = list(&gateway, documented_list()).await;
    (result.map_err(|status| failed::<()>(Err(status))), cloud)
}

const EMPTY: &str = r#"{"size":0,"total":0,"bound_domains":[]}"#;

#[tokio::test]
async fn path_and_query_reach_the_cloud_as_the_vendors_sdk_writes_them() {
    let cloud = Cloud::answering([Reply::json(200, EMPTY)]).await;
    let gateway = Gateway::facing(cloud.address).with("api-family", "apigw").start().await;
    let path =
        "GET /v2/73d69ae0cfcf460190522d06b60f05ad/apigw/certificates/a27be832f2e9441c8127fe48e3b5ac67/attached-domains";
    for (offset, limit, url_domain, query) in [
        (None, None, "", ""),
        (Some(0), Some(1), "", "?offset=0&limit=1"),
        (
            Some(i64::MAX),
            Some(500),
            "*.ü /?&=+~",
            "?offset=9223372036854775807&limit=500&url_domain=%2A.%C3%BC%20%2F%3F%26%3D%2B~",
        ),
    ] {
        let message = ListAttachedDomainsRequest { offset, limit, url_domain: url_domain.into(), ..documented_list() };
        list(&gateway, message).await.unwrap();
        let request = cloud.last_request();
        let mut expected: Vec<&str> = query.trim_start_matches('?').split('&').collect();
        let (line, query) = request.line.split_once('?').unwrap_or((&request.line, ""));
        let mut pairs: Vec<&str> = query.split('&').collect();
        // The SDK's server sees a set of parameters: their order means nothing.
        expected.sort_unstable();
        pairs.sort_unstable();
        assert_eq!((line, pairs), (path, expected));
        assert_eq!(request.body, "");
    }
}

#[tokio::test]
async fn every_field_of_the_answer_is_returned() {
    let body = json!({
        "size": 1, "total": 7_000_000_000_i64, "unknown": {"a": [1]},
        "bound_domains": [{
            "url_domain": "www.example.com", "id": "d1", "status": 3, "min_ssl_version": "TLSv1.2",
            "is_http_redirect_to_https": false, "verified_client_certificate_enabled": true,
            "ingress_http_port": -1, "ingress_https_port": 1024, "ssl_id": "c", "ssl_name": "n",
            "api_group_id": "g", "api_group_name": "gn", "instance_id": "i", "unknown": null,
        }],
    });
    let (result, cloud) = listed([Reply::json(200, &body.to_string())]).await;
    let row = BoundDomain {
        url_domain: "www.example.com".into(),
        id: "d1".into(),
        status: CnameStatus::Resolved.into(),
        min_ssl_version: "TLSv1.2".into(),
        is_http_redirect_to_https: Some(false),
        verified_client_certificate_enabled: Some(true),
        ingress_http_port: Some(-1),
        ingress_https_port: Some(1024),
        ssl_id: "c".into(),
        ssl_name: "n".into(),
        api_group_id: "g".into(),
        api_group_name: "gn".into(),
        instance_id: "i".into(),
    };
    let expected = ListAttachedDomainsResponse { size: 1, total: 7_000_000_000, bound_domains: vec![row] };
    assert_eq!(result.unwrap(), expected);
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test]
async fn absent_null_and_empty_members_are_absent_and_unknown_numbers_survive() {
    let body = r#"{"size":1,"total":1,"bound_domains":[{"url_domain":"d","status":99,"is_http_redirect_to_https":null,
        "verified_client_certificate_enabled":"","ingress_http_port":"","ssl_id":null,"ssl_name":""}]}"#;
    let (result, _cloud) = listed([Reply::json(200, body)]).await;
    let row = BoundDomain { url_domain: "d".into(), status: 99, ..BoundDomain::default() };
    assert_eq!(result.unwrap().bound_domains, [row]);
    for body in ["{}", r#"{"size":null,"total":null,"bound_domains":null}"#] {
        let (result, _cloud) = listed([Reply::json(200, body)]).await;
        assert_eq!(result.unwrap(), ListAttachedDomainsResponse::default(), "{body}");
    }
}

#[tokio::test]
async fn a_list_of_500_domains_is_what_the_emulator_has() {
    let attach = documented();
    let mut world = format!(
        "[[projects]]\nid = '{0}'\nname = 'p'\n[[users]]\nname = 'u'\npassword = 'w'\naccount = 'a'\nprojects = ['{0}']\nmay_attach = true\n\
         [[tokens]]\nvalue = 'demo-operator-token'\nuser = 'u'\nproject = '{0}'\n[[instances]]\nid = 'i1'\nproject = '{0}'\n\
         [[certificates]]\nid = '{1}'\nname = 'c'\nproject = '{0}'\nhas_trusted_root_ca = true\n",
        attach.project_id, attach.certificate_id
    );
    for number in 0..500 {
        let _ = write!(
            world,
            "[[domains]]\nid = 'd{number}'\nname = 'd{number}.example.com'\nproject = '{}'\ngroup_id = 'g'\ngroup_name = 'G'\ninstances = ['i1']\n",
            attach.project_id
        );
    }
    let emulator = Emulator::bind("127.0.0.1:0".parse().unwrap(), World::from_toml(&world).unwrap()).await.unwrap();
    let address = emulator.local_addr();
    tokio::spawn(emulator.run(std::future::pending()));
    let gateway = Gateway::facing(address).start().await;
    let domains = (0..500).map(|number| domain(&format!("d{number}.example.com"))).collect();
    gateway.caller().await.attach(apig_grpc_gateway::pb::AttachDomainsRequest { domains, ..attach }).await.unwrap();

    let mut rows = Vec::new();
    while rows.len() < 500 {
        let (offset, limit) = (i64::try_from(rows.len()).ok(), Some(137));
        let page = list(&gateway, ListAttachedDomainsRequest { offset, limit, ..documented_list() }).await.unwrap();
        assert_eq!((page.total, usize::try_from(page.size)), (500, Ok(page.bound_domains.len())));
        assert!(!page.bound_domains.is_empty());
        rows.extend(page.bound_domains);
    }
    let whole = format!(
        "http://{address}/v2/{}/apic/certificates/{}/attached-domains?limit=500",
        documented().project_id,
        documented().certificate_id
    );
    let request = reqwest::Client::new().get(whole).header("X-Auth-Token", "demo-operator-token").send();
    let body: Value = serde_json::from_str(&soon(soon(request).await.unwrap().text()).await.unwrap()).unwrap();
    let as_json = |row: &BoundDomain| {
        json!({
            "url_domain": row.url_domain, "id": row.id, "status": row.status, "min_ssl_version": row.min_ssl_version,
            "is_http_redirect_to_https": row.is_http_redirect_to_https,
            "verified_client_certificate_enabled": row.verified_client_certificate_enabled,
            "ssl_id": row.ssl_id, "ssl_name": row.ssl_name, "api_group_id": row.api_group_id,
            "api_group_name": row.api_group_name, "instance_id": row.instance_id,
        })
    };
    assert_eq!(Value::Array(rows.iter().map(as_json).collect()), body["bound_domains"]);
    assert!(rows.iter().all(|row| row.ingress_http_port.is_none() && row.ingress_https_port.is_none()));
}

#[tokio::test]
async fn a_read_is_repeated_after_a_lost_connection() {
    let (result, cloud) = listed([Reply::close(), Reply::close(), Reply::json(200, EMPTY)]).await;
    assert_eq!(result.unwrap(), ListAttachedDomainsResponse::default());
    assert_eq!(cloud.seen().len(), 3);

    let (result, cloud) = listed([Reply::close()]).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_CONNECTION_LOST"));
    assert_eq!(failure.fact("outcome"), None);
    assert_eq!(cloud.seen().len(), 3, "attempts end");
}

#[tokio::test]
async fn a_refused_connection_is_unreachable_and_repeated() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::facing(port).start().await;
    let failure = failed(list(&gateway, documented_list()).await);
    assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
    assert_eq!(failure.fact("outcome"), None);
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains("apig_gateway_retries_total 2\n"), "{metrics}");
}

#[tokio::test]
async fn a_success_that_is_no_list_is_a_protocol_error() {
    let cut = [head(200, [("Content-Length", "100")]), br#"{"size":1"#.to_vec()].concat();
    let scripts = [
        Reply::json(200, ""),
        Reply::json(200, "<html>"),
        Reply::json(200, "[]"),
        Reply::json(200, "null"),
        Reply::json(200, r#"{"size":"one"}"#),
        Reply::json(200, r#"{"bound_domains":[[]]}"#),
        Reply::json(200, r#"{"size":1"#),
        Reply::json(200, r#"{"size":2147483648}"#),
        Reply::json(204, ""),
        Reply::json(201, EMPTY),
        Reply::ThenClose(cut),
        // Over 4 MiB, announced or not.
        Reply::ThenFlood(head(200, [("Content-Length", "4194305")]), 65),
        Reply::ThenFlood(head(200, [("Connection", "close")]), 1_024),
    ];
    for script in scripts {
        let (result, cloud) = listed([script.clone()]).await;
        let failure = result.expect_err(&format!("{script:?}"));
        assert_eq!(failure.verdict(), (Code::Internal, "UPSTREAM_PROTOCOL_ERROR"), "{script:?}");
        assert_eq!(failure.fact("outcome"), None, "{script:?}");
        assert_eq!(cloud.seen().len(), 1, "{script:?}");
    }
}

#[tokio::test]
async fn refusals_have_the_codes_of_the_catalogue_and_no_outcome() {
    for (status, code, expected) in [
        (400, "APIG.2001", Code::InvalidArgument),
        (401, "APIG.1002", Code::Unauthenticated),
        (403, "APIG.1005", Code::PermissionDenied),
        (404, "APIG.3025", Code::NotFound),
        (500, "APIG.9999", Code::Internal),
    ] {
        let (result, cloud) = listed([Reply::refused(status, code, "text")]).await;
        let failure = result.unwrap_err();
        assert_eq!(failure.verdict(), (expected, &*code.replace('.', "_")));
        assert_eq!(failure.fact("outcome"), None);
        assert_eq!(cloud.seen().len(), 1);
    }
}

#[tokio::test]
async fn every_violation_is_named_and_nothing_is_sent() {
    let cloud = Cloud::answering([Reply::json(200, EMPTY)]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    for (offset, limit) in [(Some(-1), Some(0)), (Some(i64::MIN), Some(501)), (Some(-1), Some(-1))] {
        let message = ListAttachedDomainsRequest {
            project_id: "..".into(),
            certificate_id: "a/b".into(),
            offset,
            limit,
            ..documented_list()
        };
        let failure = failed(list(&gateway, message).await);
        assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"));
        assert_eq!(failure.fields(), ["project_id", "certificate_id", "offset", "limit"]);
        assert_eq!(failure.fact("outcome"), None);
    }
    assert_eq!(cloud.seen().len(), 0);
}

#[tokio::test]
async fn a_read_waits_for_no_change_and_leaves_no_audit_line() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let cloud = Cloud::answering([Reply::either("attached-domains", &Reply::json(200, EMPTY), &Reply::hang())]).await;
    let gateway = Gateway::facing(cloud.address).with("audit", audit.to_str().unwrap()).start().await;
    let caller = gateway.caller().await;
    let change = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    list(&gateway, documented_list()).await.unwrap();
    change.abort();
    let _ = change.await;
    gateway.stop();
    let written = async {
        while std::fs::read_to_string(&audit).unwrap_or_default().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon(written).await;
    let lines = std::fs::read_to_string(&audit).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains("/AttachDomains"), "{lines}");
}
