//! The audit log: a line for each call that may change something, with its end.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;
use tonic::{Code, Request};

use crate::support::{
    ATTACH, Cloud, Gateway, Plan, Reply, documented, failed, frame, on_certificate, send_bytes, soon,
};

struct Log {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        Self { _folder: folder, path }
    }

    fn of(&self, plan: Plan) -> Plan {
        plan.with("audit", self.path.to_str().unwrap())
    }

    /// Waits until there are so many lines.
    async fn lines(&self, number: usize) -> Vec<Value> {
        let lines = async {
            loop {
                let text = fs::read_to_string(&self.path).unwrap();
                let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                if text.ends_with('\n') && lines.len() >= number {
                    break lines;
                }
                tokio::task::yield_now().await;
            }
        };
        let lines = soon(lines).await;
        assert_eq!(lines.len(), number, "{lines:?}");
        lines
    }
}

#[tokio::test]
async fn a_call_that_was_done_says_who_what_and_how_it_ended() {
    let log = Log::new();
    let cloud = Cloud::answering([Reply::with(503, &[("Retry-After", "0")], b""), Reply::attached()]).await;
    let gateway = log.of(Gateway::facing(cloud.address)).start().await;
    let mut request = Request::new(documented());
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    request.metadata_mut().insert("x-auth-token", "canary".parse().unwrap());
    gateway.caller().await.send(request).await.unwrap();
    let lines = log.lines(1).await;
    let line = &lines[0];
    for (key, value) in [
        ("caller", "nobody"),
        ("method", "huaweicloud.apic.v2.CertificateService/AttachDomains"),
        ("project_id", &documented().project_id),
        ("certificate_id", &documented().certificate_id),
        ("outcome", "applied"),
        ("code", "OK"),
        ("request_id", "mine"),
        ("apig_request_id", "cloud-1"),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert_eq!(line["domains"][0], documented().domains[0].domain);
    assert_eq!((&line["attempts"], &line["reason"]), (&2.into(), &Value::Null));
    humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(!line.to_string().contains("canary"));
}

#[tokio::test]
async fn every_end_has_its_outcome() {
    let refused = |code: &str| Reply::refused(404, code, "m");
    for (reply, outcome, code, reason, attempts) in [
        (refused("APIG.3020"), "refused", "NOT_FOUND", "APIG_3020", 1),
        (Reply::close(), "unknown", "UNAVAILABLE", "UPSTREAM_CONNECTION_LOST", 1),
        (Reply::json(500, "{}"), "unknown", "INTERNAL", "HTTP_500", 1),
        (Reply::hang(), "unknown", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 1),
    ] {
        let log = Log::new();
        let cloud = Cloud::answering([reply]).await;
        let gateway = log.of(Gateway::facing(cloud.address)).with("timeout", "300ms").start().await;
        failed(gateway.caller().await.attach(documented()).await);
        let line = log.lines(1).await.remove(0);
        assert_eq!((&line["outcome"], &line["code"]), (&outcome.into(), &code.into()));
        assert_eq!((&line["reason"], &line["attempts"]), (&reason.into(), &attempts.into()));
    }
}

#[tokio::test]
async fn what_the_gateway_refuses_was_not_sent() {
    let log = Log::new();
    let cloud = Cloud::answering([Reply::attached()]).await;
    let rules = "[[policy]]\nidentity = 'anyone'\nprojects = ['another']\n";
    let gateway = log.of(Gateway::facing(cloud.address)).file(rules).start().await;
    failed(gateway.caller().await.attach(documented()).await);
    let line = log.lines(1).await.remove(0);
    assert_eq!((&line["outcome"], &line["reason"]), (&"not_sent".into(), &"CALLER_NOT_ALLOWED".into()));
    assert_eq!(line["attempts"], 0);
    assert_eq!(cloud.seen().len(), 0);
}

#[tokio::test]
async fn a_call_that_ends_before_its_message_is_valid_is_noted_too() {
    let log = Log::new();
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = log.of(Gateway::facing(cloud.address)).with("max-message-size", "1KiB").start().await;
    let id = |id: &'static str| ("x-request-id", id);
    let bytes = |body: Vec<u8>, headers: Vec<(&'static str, &'static str)>| {
        let gateway = &gateway;
        async move { send_bytes(gateway, ATTACH, &headers, body).await }
    };
    let no_message = bytes(frame(0, b"\xff\xff"), vec![id("no-message")]).await;
    let too_large = bytes(frame(0, &[b'x'; 2048]), vec![id("too-large")]).await;
    let invalid = bytes(frame(0, b""), vec![id("invalid")]).await;
    let deadline = bytes(frame(0, b""), vec![id("no-time"), ("grpc-timeout", "0S")]).await;
    let odd_deadline = bytes(frame(0, b""), vec![id("odd-time"), ("grpc-timeout", "soon")]).await;
    // Not ours, or not there: no line.
    assert!(crate::discovery::is_serving(&gateway, "").await);
    send_bytes(&gateway, "/some.Service/Method", &[], frame(0, b"")).await;
    send_bytes(&gateway, "/huaweicloud.apic.v2.CertificateService/Nope", &[], frame(0, b"")).await;
    gateway.caller().await.attach(documented()).await.unwrap();

    let lines = log.lines(6).await;
    for (failure, id, code) in [
        (no_message, "no-message", "INVALID_ARGUMENT"),
        (too_large, "too-large", "RESOURCE_EXHAUSTED"),
        (invalid, "invalid", "INVALID_ARGUMENT"),
        (deadline, "no-time", "DEADLINE_EXCEEDED"),
        (odd_deadline, "odd-time", "INVALID_ARGUMENT"),
    ] {
        let line = lines.iter().find(|line| line["request_id"] == id).unwrap();
        assert_eq!((&line["code"], &line["reason"]), (&code.into(), &failure.verdict().1.into()), "{id}");
        assert_eq!((&line["outcome"], &line["caller"]), (&"not_sent".into(), &"nobody".into()));
        assert_eq!((&line["attempts"], &line["method"]), (&0.into(), &ATTACH[1..].into()));
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        for member in ["project_id", "certificate_id", "domains", "suppressed"] {
            assert!(line.get(member).is_none(), "{line}");
        }
    }
    assert_eq!(lines[5]["outcome"], "applied");
    assert_eq!(cloud.seen().len(), 1);
}

/// Its message is valid, so its lines are not limited, however many there are.
#[tokio::test]
async fn a_change_whose_default_project_is_not_found_names_its_subject() {
    const CALLS: usize = 150;
    let log = Log::new();
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([Reply::json(200, r#"{"projects":[]}"#)]).await;
    let plan = crate::held_credentials::with_keys(&cloud).with("iam-endpoint", format!("http://{}", iam.address));
    let gateway = log.of(plan.with("region", "cn-north-4")).start().await;
    let caller = gateway.caller().await;
    let mut request = documented();
    request.project_id.clear();
    let mut reasons = Vec::new();
    for _ in 0..CALLS {
        reasons.push(failed(caller.attach(request.clone()).await).verdict().1.to_owned());
    }
    let lines = log.lines(CALLS).await;
    for (line, reason) in lines.iter().zip(reasons) {
        assert_eq!((&line["outcome"], &line["reason"]), (&"not_sent".into(), &reason.into()), "{line}");
        assert_eq!(line["certificate_id"], documented().certificate_id, "{line}");
        assert_eq!(line["domains"][0], documented().domains[0].domain, "{line}");
        assert_eq!((&line["attempts"], &line["caller"]), (&0.into(), &"nobody".into()), "{line}");
        assert!(line.get("suppressed").is_none(), "{line}");
    }
    assert_eq!(cloud.seen().len(), 0);
}

#[tokio::test]
async fn a_flood_of_refused_calls_does_not_fill_the_disk() {
    let log = Log::new();
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = log.of(Gateway::facing(cloud.address)).start().await;
    let caller = gateway.caller().await;
    let mut invalid = documented();
    invalid.domains.clear();
    for _ in 0..1_000 {
        failed(caller.attach(invalid.clone()).await);
    }
    for number in 0..200 {
        caller.attach(on_certificate(number)).await.unwrap();
    }
    let (_, metrics) = gateway.admin("/metrics").await;
    let suppressed = metrics.lines().find_map(|line| line.strip_prefix("apig_gateway_audit_lines_suppressed_total "));
    let suppressed: usize = suppressed.unwrap().parse().unwrap();
    assert!(suppressed > 0);
    let lines = log.lines(1_200 - suppressed).await;
    assert_eq!(lines.iter().filter(|line| line["outcome"] == "applied").count(), 200, "no other call is left out");
    let reported: u64 = lines.iter().filter_map(|line| line["suppressed"].as_u64()).sum();
    assert_eq!(reported, suppressed as u64);
}

#[tokio::test]
async fn a_caller_that_leaves_before_its_message_is_there_is_noted_too() {
    let log = Log::new();
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = log.of(Gateway::facing(cloud.address)).start().await;
    crate::support::SilentCall::begin(&gateway).await.leave();
    let line = log.lines(1).await.remove(0);
    assert_eq!((&line["outcome"], &line["code"]), (&"not_sent".into(), &"CANCELLED".into()));
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn a_caller_that_leaves_is_noted_too() {
    let log = Log::new();
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = log.of(Gateway::facing(cloud.address)).start().await;
    let caller = gateway.caller().await;
    let call = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    call.abort();
    let line = log.lines(1).await.remove(0);
    assert_eq!((&line["outcome"], &line["code"]), (&"unknown".into(), &"CANCELLED".into()));
}

#[tokio::test]
async fn the_lines_reconcile_with_what_the_cloud_saw() {
    let log = Log::new();
    let script = (0..200).map(|number| match number % 5 {
        0 => Reply::refused(404, "APIG.3020", "m"),
        1 => Reply::with(503, &[("Retry-After", "0")], b""),
        2 => Reply::close(),
        _ => Reply::attached(),
    });
    let cloud = Cloud::answering(script).await;
    let plan = log.of(Gateway::facing(cloud.address)).with("breaker-threshold", "0").with("workers", "2");
    let gateway = plan.start().await;
    let mut calls = Vec::new();
    for number in 0..120 {
        let caller = gateway.caller().await;
        calls.push(tokio::spawn(async move {
            let mut request = Request::new(on_certificate(number));
            request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
            request.metadata_mut().insert("x-request-id", format!("call-{number}").parse().unwrap());
            request.set_timeout(Duration::from_secs(10));
            (number, caller.send(request).await.map(drop))
        }));
    }
    let mut ends = Vec::new();
    for call in calls {
        ends.push(soon(call).await.unwrap());
    }
    let lines = log.lines(ends.len()).await;
    let seen = cloud.seen();
    for (number, end) in ends {
        let id = format!("call-{number}");
        let line = lines.iter().find(|line| line["request_id"] == *id).unwrap();
        let requests = seen.iter().filter(|seen| seen.header("x-request-id") == Some(&id)).count();
        assert_eq!(line["attempts"], requests, "{line}");
        assert_eq!(line["outcome"] == "applied", end.is_ok(), "{line}");
        if let Err(status) = end {
            let failure = failed::<()>(Err(status));
            let expected = failure.fact("outcome").unwrap_or("refused");
            assert_eq!(line["outcome"], expected, "{line}");
            assert_ne!(failure.status.code(), Code::Ok);
        }
    }
    let attempts: u64 = lines.iter().map(|line| line["attempts"].as_u64().unwrap()).sum();
    assert_eq!(attempts, seen.len() as u64);
}
