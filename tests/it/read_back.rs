//! Unknown outcomes that are looked up: the result for the caller, and the requests that reached the cloud.

mod limits;
mod pages;

use std::time::Duration;

use apig_grpc_gateway::pb::{
    AttachDomainsRequest, AttachOrDetachDomainInfo, DetachDomainsRequest, UpdateCertificateRequest,
};
use tonic::{Code, Request, Response, Status};

use crate::support::{Cloud, Failed, Gateway, Plan, Program, Reply, domain, failed, head, soon};

const PROJECT: &str = "73d69ae0cfcf460190522d06b60f05ad";

/// A gateway as it comes.
fn gateway(cloud: &Cloud) -> Plan {
    Gateway::facing(cloud.address).with("read-back", "true")
}

fn on_instance(name: &str) -> AttachOrDetachDomainInfo {
    AttachOrDetachDomainInfo { instance_ids: vec!["i".into()], ..domain(name) }
}

fn request(domains: &[AttachOrDetachDomainInfo]) -> AttachDomainsRequest {
    AttachDomainsRequest { project_id: PROJECT.into(), certificate_id: "c".into(), domains: domains.into() }
}

/// A page of the list, with a row for each name.
fn page(total: usize, names: &[&str]) -> Reply {
    let row = |name: &&str| serde_json::json!({"url_domain": name, "instance_id": "i", "id": name, "status": 1});
    let rows: Vec<_> = names.iter().map(row).collect();
    let page = serde_json::json!({"size": rows.len(), "total": total, "bound_domains": rows});
    Reply::json(200, &page.to_string())
}

fn list(names: &[&str]) -> Reply {
    page(names.len(), names)
}

async fn attach(
    gateway: &Gateway,
    domains: &[AttachOrDetachDomainInfo],
    timeout: Option<Duration>,
) -> Result<Response<()>, Status> {
    let mut request = Request::new(request(domains));
    request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let done = gateway.caller().await.send(request).await?;
    Ok(done.map(|_| ()))
}

async fn detach(gateway: &Gateway, name: &str) -> Result<Response<()>, Status> {
    let message = DetachDomainsRequest {
        project_id: PROJECT.into(),
        certificate_id: "c".into(),
        domains: vec![on_instance(name)],
    };
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    let done = soon(gateway.caller().await.client().detach_domains(request)).await?;
    Ok(done.map(|_| ()))
}

fn outcome(done: &Response<()>) -> Option<&str> {
    done.metadata().get("apig-outcome").map(|value| value.to_str().unwrap())
}

fn assert_unconfirmed(failure: &Failed, reason: &str, observed: Option<&str>) {
    assert_eq!(failure.verdict().1, reason);
    assert_eq!(failure.fact("outcome"), Some("unknown"));
    assert_eq!(failure.fact("observed"), observed, "{failure:?}");
}

/// Lines of the requests that reached the cloud.
fn lines(cloud: &Cloud) -> Vec<String> {
    cloud.seen().into_iter().map(|seen| seen.line).collect()
}

const POST: &str = "POST /v2/73d69ae0cfcf460190522d06b60f05ad/apic/certificates/c/domains/attach";
const READ: &str = "GET /v2/73d69ae0cfcf460190522d06b60f05ad/apic/certificates/c/attached-domains?limit=500&offset=0";

#[tokio::test]
async fn an_attach_that_the_list_shows_is_confirmed() {
    let cloud = Cloud::answering([Reply::close(), list(&["other.com", "a.com"])]).await;
    let gateway = gateway(&cloud).start().await;
    let done = attach(&gateway, &[on_instance("a.com")], None).await.unwrap();
    assert_eq!(outcome(&done), Some("confirmed"));
    assert_eq!(lines(&cloud), [POST, READ]);
    let seen = cloud.seen();
    assert_eq!(seen[0].header("x-request-id"), seen[1].header("x-request-id"));
    assert_eq!(seen[1].header("x-auth-token"), Some("t"));
    assert_eq!((seen[1].header("content-type"), seen[1].body.as_str()), (None, ""));
    gateway.shows(r#"apig_gateway_read_backs_total{result="confirmed"} 1"#).await;
    gateway.shows("apig_gateway_retries_total 0").await;
}

#[tokio::test]
async fn a_detach_whose_rows_are_gone_is_confirmed() {
    let cloud = Cloud::answering([Reply::close(), list(&["other.com"])]).await;
    let gateway = gateway(&cloud).start().await;
    assert_eq!(outcome(&detach(&gateway, "a.com").await.unwrap()), Some("confirmed"));

    let cloud = Cloud::answering([Reply::close(), Reply::json(200, r#"{"size":0,"total":0,"bound_domains":null}"#)]);
    let cloud = cloud.await;
    let gateway = self::gateway(&cloud).start().await;
    assert_eq!(outcome(&detach(&gateway, "a.com").await.unwrap()), Some("confirmed"));
}

#[tokio::test]
async fn every_answer_that_leaves_the_outcome_unknown_is_looked_up() {
    for answer in [
        Reply::with(500, &[], b""),
        Reply::refused(500, "APIG.9999", "System error"),
        Reply::with(504, &[], b""),
        Reply::with(302, &[("Location", "http://localhost/login")], b""),
        Reply::with(200, &[("Content-Type", "text/html")], b"<html>"),
        Reply::Bytes(b"no HTTP\r\n\r\n".to_vec()),
        Reply::ThenClose(b"HTTP/1.1 2".to_vec()),
    ] {
        let cloud = Cloud::answering([answer.clone(), list(&["a.com"])]).await;
        let gateway = gateway(&cloud).start().await;
        let done = attach(&gateway, &[on_instance("a.com")], None).await.unwrap();
        assert_eq!(outcome(&done), Some("confirmed"), "{answer:?}");
        assert_eq!(lines(&cloud), [POST, READ], "{answer:?}");
    }
}

#[tokio::test]
async fn a_confirmed_answer_carries_the_clouds_request_id() {
    let cloud = Cloud::answering([Reply::refused(500, "APIG.9999", "System error"), list(&["a.com"])]).await;
    let gateway = gateway(&cloud).start().await;
    let done = attach(&gateway, &[on_instance("a.com")], None).await.unwrap();
    assert_eq!(done.metadata().get("apig-request-id").unwrap(), "cloud-1");
}

#[tokio::test]
async fn a_known_outcome_is_not_looked_up() {
    for answer in [
        Reply::attached(),
        Reply::refused(404, "APIG.3020", "m"),
        Reply::refused(401, "APIG.0301", "m"),
        Reply::refused(429, "APIG.0308", "m"),
        Reply::with(409, &[], b""),
    ] {
        let cloud = Cloud::answering([answer.clone()]).await;
        let gateway = gateway(&cloud).with("max-attempts", "1").start().await;
        let _ = attach(&gateway, &[on_instance("a.com")], None).await;
        assert_eq!(lines(&cloud), [POST], "{answer:?}");
    }
}

#[tokio::test]
async fn other_changes_are_not_looked_up() {
    let cloud = Cloud::answering([Reply::close()]).await;
    let gateway = gateway(&cloud).start().await;
    let mut message = Request::new(UpdateCertificateRequest {
        project_id: PROJECT.into(),
        certificate_id: "c".into(),
        name: "name".into(),
        cert_content: "pem".into(),
        private_key: "key".into(),
        ..Default::default()
    });
    message.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    let failure = failed(soon(gateway.caller().await.client().update_certificate(message)).await);
    assert_unconfirmed(&failure, "UPSTREAM_CONNECTION_LOST", None);
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test]
async fn a_change_that_shows_late_is_confirmed_when_it_shows() {
    let cloud = [Reply::close(), list(&[]), list(&["b.com"]), list(&["b.com", "a.com"])];
    let cloud = Cloud::answering(cloud).await;
    let gateway = gateway(&cloud).start().await;
    let done = attach(&gateway, &[on_instance("a.com"), on_instance("b.com")], None).await.unwrap();
    assert_eq!(outcome(&done), Some("confirmed"));
    assert_eq!(lines(&cloud), [POST, READ, READ, READ], "the change is not repeated");
}

#[tokio::test]
async fn an_unconfirmed_change_keeps_its_error_and_tells_the_state() {
    let (a, b) = (on_instance("a.com"), on_instance("b.com"));
    for (rows, observed) in [(&[][..], "none"), (&["b.com"], "some")] {
        let cloud = Cloud::answering([Reply::close(), list(rows)]).await;
        let gateway = gateway(&cloud).start().await;
        let result = attach(&gateway, &[a.clone(), b.clone()], Some(Duration::from_millis(2_200))).await;
        let failure = failed(result);
        assert_unconfirmed(&failure, "UPSTREAM_CONNECTION_LOST", Some(observed));
        assert_eq!(failure.status.code(), Code::Unavailable);
        assert_eq!(failure.status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
        assert_eq!(lines(&cloud)[..2], [POST, READ]);
        assert!(lines(&cloud)[1..].iter().all(|line| line == READ), "nothing is repeated but the reading");
        gateway.shows(&format!(r#"apig_gateway_read_backs_total{{result="{observed}"}} 1"#)).await;
    }
    let cloud = Cloud::answering([Reply::refused(500, "APIG.9999", "System error"), list(&["a.com"])]).await;
    let gateway = gateway(&cloud).start().await;
    let failure = failed(attach(&gateway, &[domain("a.com")], None).await);
    assert_unconfirmed(&failure, "APIG_9999", Some("all"));
    assert_eq!((failure.status.code(), failure.status.message()), (Code::Internal, "System error"));
    assert_eq!(lines(&cloud), [POST, READ], "what can't be confirmed is not read again");
}

#[tokio::test]
async fn a_failed_reading_ends_the_look_up() {
    for answer in [
        Reply::refused(403, "APIG.1005", "m"),
        Reply::refused(429, "APIG.0308", "m"),
        Reply::with(503, &[("Retry-After", "0")], b""),
        Reply::with(204, &[], b""),
        Reply::json(200, "{}"),
        Reply::json(200, "[]"),
        Reply::json(200, r#"{"size":0,"total":null,"bound_domains":[]}"#),
        Reply::json(200, r#"{"size":1,"total":1,"bound_domains":[{"url_domain":"b.com"}]}"#),
        Reply::json(200, r#"{"size":1,"total":1,"bound_domains":[{"instance_id":"i"}]}"#),
        Reply::ThenClose(head(200, [("Content-Length", "900")])),
        Reply::close(),
    ] {
        let cloud = Cloud::answering([Reply::with(504, &[], b""), answer.clone()]).await;
        let gateway = gateway(&cloud).start().await;
        let failure = failed(detach(&gateway, "a.com").await);
        assert_unconfirmed(&failure, "HTTP_504", None);
        assert_eq!(cloud.seen().len(), 2, "{answer:?}");
    }
}

#[tokio::test]
async fn the_setting_switches_it_off() {
    let cloud = Cloud::answering([Reply::close(), list(&["a.com"])]).await;
    let gateway = gateway(&cloud).with("read-back", "false").start().await;
    let failure = failed(attach(&gateway, &[on_instance("a.com")], None).await);
    assert_unconfirmed(&failure, "UPSTREAM_CONNECTION_LOST", None);
    assert_eq!(lines(&cloud), [POST]);
}

#[tokio::test]
async fn log_and_audit_tell_the_result() {
    let cloud = Cloud::answering([Reply::close(), list(&["a.com"]), Reply::close(), list(&["a.com"])]).await;
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let upstream = format!("http://{}", cloud.address);
    let flags = ["--upstream", &upstream, "--audit", audit.to_str().unwrap()];
    let (mut program, address) = Program::serve(&flags, &[]).await;
    let caller = crate::support::Caller::of(&address).await;
    caller.attach(request(&[on_instance("a.com")])).await.unwrap();
    failed(caller.attach(request(&[domain("a.com")])).await);
    program.log_line(r#""outcome":"confirmed""#).await;
    program.log_line(r#""outcome":"unknown","observed":"all""#).await;
    let lines = soon(async {
        loop {
            let text = std::fs::read_to_string(&audit).unwrap_or_default();
            if text.lines().count() == 2 {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut outcomes = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let first = outcomes.next().unwrap();
    assert_eq!((&first["outcome"], &first["attempts"]), (&"confirmed".into(), &1.into()), "readings are no attempts");
    assert_eq!(outcomes.next().unwrap()["outcome"], "unknown");
}
