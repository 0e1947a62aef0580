//! Ten thousand ids and domains that mean harm.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tonic::Code;

use crate::support::{Cloud, Gateway, Reply, documented, failed};

/// Pieces that climb, split or confuse, as URL parsers and path routers know them.
const PIECES: &[&str] = &[
    "..", ".", "%2e%2e", "%2E%2E", "%2e.", ".%2e", "..%2f", "%2f", "/", "//", "\\", "..\\..", "%5c", "\t..", "..\n",
    "\r\n", "?", "#", ";", ":", "@", "%", "%00", "\u{0}", " ", "\u{a0}", "\u{2028}", "\u{202e}", "\u{feff}", "．．",
    "。", "é", "𝕏", "e\u{301}", "a", "A0-_~", "c1", "*", "{x}", "\"", "'", "<", ">", "|", "^", "`", "+", "=", "&", "$",
    "!", "(", ")", ",", "[", "]", "\u{7f}", "\u{85}",
];

/// What the contract allows as an id, written a second time.
fn allowed_id(id: &str) -> bool {
    let unreserved = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    !id.is_empty() && id.len() <= 128 && id != "." && id != ".." && id.chars().all(unreserved)
}

/// What the contract refuses as a domain, written a second time.
fn refused_domain(domain: &str) -> bool {
    domain.is_empty() || domain.chars().count() > 253 || domain.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::collection::vec(prop::sample::select(PIECES), 1..8).prop_map(|pieces| pieces.concat()),
        2 => ".{1,40}",
        1 => (129usize..600).prop_map(|length| "a".repeat(length)),
        1 => Just(String::new()),
    ]
}

#[tokio::test]
async fn ten_thousand_hostile_values_are_named_and_never_sent() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = hostile();
    let mut sent = 0;
    while sent < 10_000 {
        let value = strategy.new_tree(&mut runner).unwrap().current();
        let mut request = documented();
        let field = match sent % 4 {
            0 if !value.is_empty() => {
                request.project_id.clone_from(&value);
                "project_id"
            }
            1 => {
                request.certificate_id.clone_from(&value);
                "certificate_id"
            }
            2 => {
                request.domains[0].instance_ids[1].clone_from(&value);
                "domains[0].instance_ids[1]"
            }
            _ => {
                request.domains[0].domain.clone_from(&value);
                "domains[0].domain"
            }
        };
        let harmless = if field == "domains[0].domain" { !refused_domain(&value) } else { allowed_id(&value) };
        if harmless {
            continue;
        }
        let failure = failed(caller.attach(request).await);
        assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"), "{value:?}");
        assert!(failure.fields().iter().all(|named| *named == field), "{value:?}: {:?}", failure.fields());
        assert!(!failure.fields().is_empty());
        sent += 1;
    }
    assert_eq!(cloud.seen().len(), 0);
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn a_megabyte_of_a_field_is_named_and_not_echoed() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    let megabyte = "a".repeat(1024 * 1024);
    let mut request = documented();
    request.project_id.clone_from(&megabyte);
    request.certificate_id.clone_from(&megabyte);
    request.domains[0].domain = megabyte;
    let failure = failed(caller.attach(request).await);
    assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_eq!(failure.fields(), ["project_id", "certificate_id", "domains[0].domain"]);
    assert!(failure.status.message().len() < 300);
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn harmless_values_reach_the_cloud_in_their_own_segment() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    for id in ["a", "...", "a..b", "-", "~", "A.b_C-1~", &"x".repeat(128)] {
        let mut request = documented();
        request.project_id = id.into();
        request.certificate_id = id.into();
        caller.attach(request).await.unwrap();
        let line = cloud.seen().last().unwrap().line.clone();
        assert_eq!(line, format!("POST /v2/{id}/apic/certificates/{id}/domains/attach"));
    }
}

#[tokio::test]
async fn every_violation_is_named_in_one_answer() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("require-instance-ids", "true").start().await;
    let mut request = documented();
    request.project_id = "..".into();
    request.certificate_id = String::new();
    request.domains.push(crate::support::domain("two words"));
    let failure = failed(gateway.caller().await.attach(request).await);
    assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_eq!(failure.fields(), ["project_id", "certificate_id", "domains[1].domain", "domains[1].instance_ids"]);
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert_eq!(cloud.connections(), 0);
}
