//! Presence in requests: unset is left out, and a zero that was set is sent.

use apig_grpc_gateway::pb;
use prost::Message as _;
use serde_json::{Value, json};

use super::{call, sample, samples};
use crate::support::{Cloud, Gateway, Reply, Seen};

/// The request that reaches the cloud.
async fn sent(method: &str, message: Vec<u8>) -> Seen {
    let sample = samples().into_iter().find(|sample| sample.name == method).unwrap();
    let reply = if sample.answer.is_some() { Reply::json(200, "{}") } else { Reply::attached() };
    let cloud = Cloud::answering([reply]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    call(&gateway.channel().await, &sample, &message).await.unwrap();
    cloud.only_request()
}

#[tokio::test]
async fn a_boolean_that_is_unset_is_left_out_and_false_is_sent() {
    for (flag, rest) in [
        (None, ""),
        (Some(false), r#","verified_client_certificate_enabled":false"#),
        (Some(true), r#","verified_client_certificate_enabled":true"#),
    ] {
        let attach = pb::AttachCertificatesRequest {
            project_id: "p1".into(),
            instance_id: "i1".into(),
            group_id: "g1".into(),
            domain_id: "d1".into(),
            certificate_ids: vec!["c2".into(), "c1".into(), "c2".into()],
            verified_client_certificate_enabled: flag,
        };
        // Both have the same fields.
        for method in ["AttachCertificates", "DetachCertificates"] {
            let seen = sent(method, attach.encode_to_vec()).await;
            assert_eq!(seen.body, format!(r#"{{"certificate_ids":["c2","c1","c2"]{rest}}}"#), "{method}");
        }
    }
}

#[tokio::test]
async fn a_number_that_is_unset_is_left_out_and_zero_is_sent() {
    for (offset, limit, expected) in [
        (None, None, ""),
        (Some(0), None, "&offset=0"),
        (None, Some(1), "&limit=1"),
        (Some(i64::MAX), Some(500), "&limit=500&offset=9223372036854775807"),
    ] {
        let list = pb::ListCertificatesRequest {
            project_id: "p1".into(),
            instance_id: "i1".into(),
            offset,
            limit,
            ..Default::default()
        };
        let line = sent("ListCertificates", list.encode_to_vec()).await.line;
        let (path, query) = line.split_once('?').unwrap();
        let mut pairs: Vec<&str> = query.split('&').collect();
        pairs.sort_by_key(|pair| (!pair.starts_with("instance_id"), *pair));
        assert_eq!((path, pairs.join("&")), ("GET /v2/p1/apic/certificates", format!("instance_id=i1{expected}")));
    }
}

#[tokio::test]
async fn filters_are_percent_encoded_and_values_that_are_not_known_pass() {
    let list = pb::ListCertificatesRequest {
        project_id: "p1".into(),
        instance_id: "~i_1.-".into(),
        name: "名 +&=?#/%".into(),
        common_name: "*.a.example".into(),
        signature_algorithm: "\u{0}\n".into(),
        r#type: "universal".into(),
        algorithm_type: "ED25519".into(),
        ..Default::default()
    };
    let line = sent("ListCertificates", list.encode_to_vec()).await.line;
    let mut pairs: Vec<&str> = line.split_once('?').unwrap().1.split('&').collect();
    pairs.sort_unstable();
    assert_eq!(
        pairs,
        [
            "algorithm_type=ED25519",
            "common_name=%2A.a.example",
            "instance_id=~i_1.-",
            "name=%E5%90%8D%20%2B%26%3D%3F%23%2F%25",
            "signature_algorithm=%00%0A",
            "type=universal",
        ]
    );
}

#[tokio::test]
async fn texts_of_a_certificate_reach_the_cloud_letter_by_letter() {
    let text = "-----BEGIN X-----\r\n\t\"\\/é\u{1f}\u{7f}\u{2028}😀+=\n-----END X-----\n";
    let create = pb::CreateCertificateRequest {
        name: text.into(),
        cert_content: text.repeat(200),
        private_key: text.repeat(3),
        r#type: "universal".into(),
        trusted_root_ca: text.into(),
        algorithm_type: "ED25519".into(),
        ..sample::create()
    };
    let expected = json!({
        "name": text, "cert_content": text.repeat(200), "private_key": text.repeat(3), "type": "universal",
        "trusted_root_ca": text, "algorithm_type": "ED25519",
    });
    let seen = sent("CreateCertificate", create.encode_to_vec()).await;
    assert_eq!(serde_json::from_str::<Value>(&seen.body).unwrap(), expected);
    let update = pb::UpdateCertificateRequest {
        name: text.into(),
        cert_content: text.into(),
        private_key: text.into(),
        cert_content_sign: text.into(),
        private_key_sign: text.into(),
        ..sample::update()
    };
    let expected = json!({
        "name": text, "cert_content": text, "private_key": text, "cert_content_sign": text, "private_key_sign": text,
    });
    let seen = sent("UpdateCertificate", update.encode_to_vec()).await;
    assert_eq!(serde_json::from_str::<Value>(&seen.body).unwrap(), expected);
}
