//! Rules: every violation of a request is named, once, and nothing is sent.

use apig_grpc_gateway::pb;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};
use tonic::{Code, transport::Channel};

use super::{Sample, call, sample, samples, service};
use crate::support::{Cloud, Gateway, Reply, failed};

async fn fields(channel: &Channel, sample: &Sample, message: &[u8]) -> Vec<String> {
    let failure = failed(call(channel, sample, message).await);
    assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"), "{}", sample.name);
    assert_eq!(failure.fact("outcome"), sample.is_change.then_some("not_sent"), "{}", sample.name);
    let fields: Vec<String> = failure.fields().into_iter().map(str::to_owned).collect();
    assert_eq!(failure.fact("violations"), Some(&*fields.len().to_string()), "{}", sample.name);
    let described = failure.details.bad_request().unwrap();
    assert!(described.field_violations.iter().all(|violation| !violation.description.is_empty()));
    fields
}

fn of(name: &str) -> Sample {
    samples().into_iter().find(|sample| sample.name == name).unwrap()
}

#[tokio::test]
async fn all_violations_at_once_are_named_and_nothing_is_sent() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    let create = pb::CreateCertificateRequest { r#type: "instance".into(), ..Default::default() };
    let update = pb::UpdateCertificateRequest { r#type: "instance".into(), ..Default::default() };
    let attach = |certificate_ids: &[&str]| pb::AttachCertificatesRequest {
        project_id: "..".into(),
        certificate_ids: certificate_ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    };
    let list = |offset, limit, instance_id: &str| pb::ListCertificatesRequest {
        instance_id: instance_id.into(),
        offset: Some(offset),
        limit: Some(limit),
        ..Default::default()
    };
    let unsafe_instance = |type_: &str| pb::CreateCertificateRequest {
        instance_id: "i/1".into(),
        r#type: type_.into(),
        ..sample::create()
    };
    let of_instance = pb::UpdateCertificateRequest { r#type: "instance".into(), ..sample::update() };
    let ids = ["project_id", "instance_id", "group_id", "domain_id"];
    let cases: Vec<(&str, Vec<u8>, Vec<&str>)> = vec![
        ("ListCertificates", list(-1, 0, "").encode_to_vec(), vec!["project_id", "instance_id", "offset", "limit"]),
        (
            "ListCertificates",
            list(i64::MIN, 501, "a/b").encode_to_vec(),
            vec!["project_id", "instance_id", "offset", "limit"],
        ),
        ("ListCertificates", list(0, -1, "%2e").encode_to_vec(), vec!["project_id", "instance_id", "limit"]),
        ("GetCertificate", Vec::new(), vec!["project_id", "certificate_id"]),
        ("DeleteCertificate", Vec::new(), vec!["project_id", "certificate_id"]),
        (
            "CreateCertificate",
            create.encode_to_vec(),
            vec!["project_id", "name", "cert_content", "private_key", "instance_id"],
        ),
        ("CreateCertificate", unsafe_instance("global").encode_to_vec(), vec!["instance_id"]),
        ("CreateCertificate", unsafe_instance("instance").encode_to_vec(), vec!["instance_id"]),
        (
            "UpdateCertificate",
            update.encode_to_vec(),
            vec!["project_id", "certificate_id", "name", "cert_content", "private_key", "instance_id"],
        ),
        ("UpdateCertificate", of_instance.encode_to_vec(), vec!["instance_id"]),
        ("AttachCertificates", attach(&[]).encode_to_vec(), [&ids[..], &["certificate_ids"]].concat()),
        (
            "AttachCertificates",
            attach(&["", "c1", "a b", ".."]).encode_to_vec(),
            [&ids[..], &["certificate_ids[0]", "certificate_ids[2]", "certificate_ids[3]"]].concat(),
        ),
        // The same fields.
        ("DetachCertificates", attach(&[]).encode_to_vec(), [&ids[..], &["certificate_ids"]].concat()),
        ("DetachCertificates", attach(&["c1", "\u{7f}"]).encode_to_vec(), [&ids[..], &["certificate_ids[1]"]].concat()),
    ];
    for (method, message, expected) in cases {
        assert_eq!(fields(&channel, &of(method), &message).await, expected, "{method}");
    }
    assert_eq!(cloud.connections(), 0);
}

/// Texts that are no id.
fn unsafe_ids() -> Vec<String> {
    let mut ids: Vec<String> =
        [".", "..", "a/b", "/", "a b", " a", "a\n", "é", "%2e%2e", "a?b", "a#b", "a;b", "a\\b", "*", "\u{0}"]
            .map(str::to_owned)
            .into();
    ids.push("x".repeat(129));
    ids
}

/// Every field that is an id, of every method in the .proto.
#[tokio::test]
async fn every_id_of_every_method_is_held_to_the_allow_list() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    let mut checked = 0;
    for method in service().methods() {
        let sample = of(method.name());
        let full = DynamicMessage::decode(method.input(), &*sample.full).unwrap();
        let is_id = |field: &FieldDescriptor| {
            field.kind() == Kind::String && (field.name().ends_with("_id") || field.name().ends_with("_ids"))
        };
        for field in method.input().fields().filter(is_id) {
            for id in unsafe_ids() {
                let mut message = full.clone();
                let expected = if field.is_list() {
                    message.set_field(&field, Value::List(vec![Value::String("c1".into()), Value::String(id.clone())]));
                    format!("{}[1]", field.name())
                } else {
                    message.set_field(&field, Value::String(id.clone()));
                    field.name().to_owned()
                };
                let found = fields(&channel, &sample, &message.encode_to_vec()).await;
                assert_eq!(found, [expected], "{} {id:?}", method.name());
                checked += 1;
            }
        }
    }
    assert!(checked > 400, "{checked}");
    assert_eq!(cloud.connections(), 0);
}

/// Every field that is marked as required, of every method in the .proto.
#[tokio::test]
async fn every_required_field_of_every_method_is_required() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    for method in service().methods() {
        let sample = of(method.name());
        let least = DynamicMessage::decode(method.input(), &*sample.least).unwrap();
        // The least request has no more than those.
        for field in method.input().fields().filter(|field| least.has_field(field)) {
            let mut message = least.clone();
            message.clear_field(&field);
            let found = fields(&channel, &sample, &message.encode_to_vec()).await;
            assert_eq!(found, [field.name()], "{}", method.name());
        }
    }
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn the_cloud_judges_the_rest() {
    let cloud = Cloud::answering([Reply::json(200, "{}")]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    let longest = "~._-".repeat(32);
    let odd = |type_: &str, instance_id: &str| {
        let message = pb::CreateCertificateRequest {
            name: " \u{0}/😀".repeat(100),
            cert_content: "no PEM".into(),
            private_key: " ".into(),
            r#type: type_.into(),
            instance_id: instance_id.into(),
            algorithm_type: "?".into(),
            trusted_root_ca: "\n".into(),
            ..sample::create()
        };
        ("CreateCertificate", message.encode_to_vec())
    };
    let list = pb::ListCertificatesRequest {
        project_id: longest.clone(),
        instance_id: longest.clone(),
        offset: Some(i64::MAX),
        limit: Some(500),
        name: "\n".into(),
        r#type: "??".into(),
        ..Default::default()
    };
    for (method, message) in [
        odd("", ""),
        odd("", &longest),
        odd("global", ""),
        odd("Instance", ""),
        odd("instance", "..."),
        ("ListCertificates", list.encode_to_vec()),
    ] {
        call(&channel, &of(method), &message).await.unwrap();
    }
    assert_eq!(cloud.seen().len(), 6);
}
