//! Policy, locks and audit, for every method.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;

use super::{Sample, call, samples};
use crate::support::{Cloud, Gateway, Reply, failed, in_progress, soon};

/// A kind of rule, a list that allows the samples and one that does not, and the type of the resources that it is about.
const RULES: [(&str, &str, &str, &str); 3] = [
    ("certificates", "c1", "c2", "certificate"),
    ("domains", "example.com", "example.org", "domain"),
    ("instances", "i1", "i2", "instance"),
];

/// A cloud that answers every sample with its success.
async fn agreeing() -> Cloud {
    Cloud::answering([Reply::made(|seen| {
        // Reads and those that return a certificate.
        let has_answer =
            seen.line.starts_with("GET") || seen.line.starts_with("PUT") || seen.line.ends_with("/certificates");
        let reply = if has_answer { Reply::json(200, "{}") } else { Reply::attached() };
        match reply {
            Reply::Bytes(bytes) => bytes,
            other => unreachable!("{other:?}"),
        }
    })])
    .await
}

async fn denied(gateway: &Gateway, sample: &Sample, message: &[u8]) -> Option<String> {
    match call(&gateway.channel().await, sample, message).await {
        Ok(_) => None,
        Err(status) => {
            let failure = failed::<()>(Err(status));
            assert_eq!(failure.verdict(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"), "{}", sample.name);
            assert_eq!(failure.fact("outcome"), sample.is_change.then_some("not_sent"), "{}", sample.name);
            assert_eq!(failure.fact("method"), Some(&sample.path()[1..]), "{}", sample.name);
            failure.fact("denied").map(str::to_owned)
        }
    }
}

#[tokio::test]
async fn every_kind_of_rule_judges_every_method() {
    let cloud = agreeing().await;
    let with_rule = async |rule: String| {
        let rule = format!("[[policy]]\nidentity = 'anyone'\n{rule}\n");
        Gateway::facing(cloud.address).file(rule).start().await
    };
    let mut allowed = 0;
    for (key, right, wrong, kind) in RULES {
        let (allows, refuses) =
            (with_rule(format!("{key} = ['{right}']")).await, with_rule(format!("{key} = ['{wrong}']")).await);
        for sample in samples() {
            // A domain by its id has no name that a rule could know.
            let names = sample.resource(kind).is_some_and(|name| name != "d1");
            let expected = (!names).then(|| kind.to_owned());
            assert_eq!(denied(&allows, &sample, &sample.full).await, expected, "{} {key}", sample.name);
            assert_eq!(denied(&refuses, &sample, &sample.full).await.as_deref(), Some(kind), "{} {key}", sample.name);
            allowed += usize::from(names);
        }
        assert_eq!(cloud.seen().len(), allowed, "{key}");
    }
    let (ours, theirs) = (with_rule("projects = ['p1']".into()).await, with_rule("projects = ['p2']".into()).await);
    for sample in samples() {
        assert_eq!(denied(&ours, &sample, &sample.full).await, None, "{}", sample.name);
        assert_eq!(denied(&theirs, &sample, &sample.full).await.as_deref(), Some("project"), "{}", sample.name);
    }
    for one in samples() {
        let gateway = with_rule(format!("methods = ['{}']", one.name)).await;
        for sample in samples() {
            let expected = (sample.name != one.name).then(|| "method".to_owned());
            assert_eq!(denied(&gateway, &sample, &sample.full).await, expected, "{} {}", one.name, sample.name);
        }
    }
}

/// A resource that a request may leave out is denied when it does.
#[tokio::test]
async fn a_request_that_names_none_of_the_restricted_kind_is_denied() {
    let cloud = agreeing().await;
    let gateway =
        Gateway::facing(cloud.address).file("[[policy]]\nidentity = 'anyone'\ninstances = ['i1']").start().await;
    for sample in samples() {
        let must_name = ["ListCertificates", "AttachCertificates", "DetachCertificates"].contains(&sample.name);
        let expected = (!must_name).then_some("instance");
        assert_eq!(denied(&gateway, &sample, &sample.least).await.as_deref(), expected, "{}", sample.name);
    }
    assert_eq!(cloud.seen().len(), 3);
}

#[tokio::test]
async fn one_of_several_certificates_that_is_not_allowed_is_enough() {
    use apig_grpc_gateway::pb::AttachCertificatesRequest;
    use prost::Message as _;

    let cloud = agreeing().await;
    let rule = "[[policy]]\nidentity = 'anyone'\ncertificates = ['c1', 'c2']";
    let gateway = Gateway::facing(cloud.address).file(rule).start().await;
    for sample in samples().iter().filter(|sample| sample.name.ends_with("tachCertificates")) {
        for (ids, expected) in [(&["c2", "c1"][..], None), (&["c1", "c3"], Some("certificate"))] {
            let mut message = AttachCertificatesRequest::decode(&*sample.full).unwrap();
            message.certificate_ids = ids.iter().map(|id| (*id).to_owned()).collect();
            assert_eq!(denied(&gateway, sample, &message.encode_to_vec()).await.as_deref(), expected, "{ids:?}");
        }
    }
}

fn changes_a_certificate(sample: &Sample) -> bool {
    sample.is_change && sample.resource("certificate").is_some()
}

/// Starts `first`, which the cloud leaves without an answer, and then `second`, which must not be sent meanwhile.
async fn assert_waits(first: &Sample, second: &Sample) {
    let about = format!("{} before {}", first.name, second.name);
    let answer = match &second.answer {
        Some((body, _)) => Reply::json(200, body),
        None => Reply::attached(),
    };
    let cloud = Cloud::answering([Reply::hang(), answer]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    let start = |sample: &Sample| {
        let (channel, sample) = (channel.clone(), sample.clone());
        tokio::spawn(async move { call(&channel, &sample, &sample.full).await.map(drop) })
    };
    let first_call = start(first);
    cloud.requests(1).await;
    let second_call = start(second);
    in_progress(&gateway, 2).await;
    let too_early = tokio::time::timeout(Duration::from_millis(100), cloud.requests(2)).await;
    assert!(too_early.is_err(), "{about}");
    first_call.abort();
    soon(second_call).await.unwrap().unwrap();
    assert!(cloud.last_request().line.starts_with(second.line), "{about}");
}

#[tokio::test]
async fn changes_of_one_certificate_go_one_after_the_other_from_both_sides() {
    for first in samples().iter().filter(|sample| changes_a_certificate(sample)) {
        for second in samples().iter().filter(|sample| changes_a_certificate(sample)) {
            assert_waits(first, second).await;
        }
    }
}

/// In one order that all calls share, so that no two wait for each other; a certificate that is named twice is locked once.
#[tokio::test]
async fn changes_of_several_certificates_never_wait_for_each_other_without_end() {
    use apig_grpc_gateway::pb::AttachCertificatesRequest;
    use prost::Message as _;

    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    let sample = samples().into_iter().find(|sample| sample.name == "AttachCertificates").unwrap();
    let mut calls = Vec::new();
    for number in 0..60 {
        let mut message = AttachCertificatesRequest::decode(&*sample.full).unwrap();
        let ids = [["c1", "c2", "c3"], ["c3", "c2", "c1"], ["c2", "c2", "c2"]][number % 3];
        message.certificate_ids = ids.map(str::to_owned).into();
        let (channel, sample) = (channel.clone(), sample.clone());
        calls.push(tokio::spawn(async move { call(&channel, &sample, &message.encode_to_vec()).await.map(drop) }));
    }
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    assert_eq!(cloud.seen().len(), 60);
    assert_eq!(cloud.connections(), 1, "all name c2: a second connection would mean two requests at once");
}

#[tokio::test]
async fn reads_and_new_certificates_wait_for_no_change() {
    for second in samples().iter().filter(|sample| !changes_a_certificate(sample)) {
        let answer = second.answer.as_ref().map_or("{}", |(body, _)| *body);
        let cloud = Cloud::answering([Reply::hang(), Reply::json(200, answer)]).await;
        let gateway = Gateway::facing(cloud.address).start().await;
        let (channel, other) = (gateway.channel().await, gateway.channel().await);
        let update = samples().into_iter().find(|sample| sample.name == "UpdateCertificate").unwrap();
        let holding = tokio::spawn(async move { call(&channel, &update, &update.full).await.map(drop) });
        cloud.requests(1).await;
        call(&other, second, &second.full).await.unwrap();
        assert!(!holding.is_finished(), "{}", second.name);
        holding.abort();
    }
}

#[tokio::test]
async fn each_change_has_an_audit_line_with_all_that_it_names_and_reads_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let cloud = agreeing().await;
    let gateway = Gateway::facing(cloud.address).with("audit", path.to_str().unwrap()).start().await;
    let channel = gateway.channel().await;
    for sample in samples() {
        call(&channel, &sample, &sample.full).await.unwrap();
    }
    let changes: Vec<Sample> = samples().into_iter().filter(|sample| sample.is_change).collect();
    let lines = async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.lines().count() >= changes.len() && text.ends_with('\n') {
                break text;
            }
            tokio::task::yield_now().await;
        }
    };
    let text = soon(lines).await;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), changes.len(), "{text}");
    for (line, sample) in lines.iter().zip(&changes) {
        assert_eq!(line["method"], sample.path()[1..], "{line}");
        assert_eq!((&line["outcome"], &line["project_id"]), (&"applied".into(), &"p1".into()), "{line}");
        let by_id = sample.resource("domain") == Some("d1");
        let named = |kind: &str| sample.resource(kind).map(Value::from).unwrap_or_default();
        let many = |kind: &str| sample.resource(kind).map_or(Value::Null, |name| json!([name]));
        assert_eq!(line["certificate_id"], named("certificate"), "{line}");
        assert_eq!(line["api_group_ids"], many("api-group"), "{line}");
        assert_eq!(line["domain_ids"], if by_id { json!(["d1"]) } else { Value::Null }, "{line}");
        assert_eq!(
            line["domains"],
            if by_id || named("domain").is_null() { json!([]) } else { many("domain") },
            "{line}"
        );
        let beside_a_domain = named("domain").is_string() && !by_id;
        assert_eq!(line["instance_ids"], if beside_a_domain { Value::Null } else { many("instance") }, "{line}");
        for secret in ["PRIVATE", "MIG+", "MII+", "K\\n", "CA\\n"] {
            assert!(!line.to_string().contains(secret), "{line}");
        }
    }
}
