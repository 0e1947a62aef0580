//! Answers that are not the documented success: another status, another type, cut, too large.

use apig_grpc_gateway::pb;
use prost::Message as _;
use tonic::Code;

use super::{Sample, call, sample::certificate, samples};
use crate::support::{Cloud, Failed, Gateway, Reply, failed, frame, head, send_bytes};

/// Calls a method once for each reply.
async fn failures(sample: &Sample, script: Vec<Reply>) -> Vec<Failed> {
    let cloud = Cloud::answering(script.clone()).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    let mut failures = Vec::new();
    for (number, reply) in script.iter().enumerate() {
        let result = call(&channel, sample, &sample.full).await;
        assert!(result.is_err(), "{} {reply:?}", sample.name);
        failures.push(failed(result));
        assert_eq!(cloud.seen().len(), number + 1, "{} {reply:?}", sample.name);
    }
    failures
}

fn assert_protocol_error(sample: &Sample, failure: &Failed, about: &str) {
    assert_eq!(failure.verdict(), (Code::Internal, "UPSTREAM_PROTOCOL_ERROR"), "{} {about}", sample.name);
    let outcome = sample.is_change.then_some("unknown");
    assert_eq!(failure.fact("outcome"), outcome, "{} {about}", sample.name);
}

#[tokio::test]
async fn another_status_below_400_is_no_success() {
    for sample in samples() {
        let body = sample.answer.as_ref().map_or("{}", |(body, _)| *body);
        let mut statuses = vec![201, 202, 203, 206];
        statuses.push(if sample.answer.is_some() { 204 } else { 200 });
        let script = statuses.iter().map(|status| match status {
            204 => Reply::attached(),
            _ => Reply::json(*status, body),
        });
        let failures = failures(&sample, script.collect()).await;
        for (failure, status) in failures.iter().zip(statuses) {
            assert_protocol_error(&sample, failure, &status.to_string());
            assert_eq!(failure.fact("http_status"), Some(&*status.to_string()), "{}", sample.name);
            let id = failure.status.metadata().get("apig-request-id");
            assert_eq!(id.unwrap(), "cloud-1", "{} {status}", sample.name);
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_decode_or_end_is_a_protocol_error_with_the_clouds_id() {
    for sample in samples().into_iter().filter(|sample| sample.answer.is_some()) {
        let bodies = ["", "<html>", "[]", "null", "{", r#"{"id":"#, "{}{}", r#""text""#, "7"];
        let mut script: Vec<Reply> = bodies.iter().map(|body| Reply::json(200, body)).collect();
        let announced = |length: &str| head(200, [("Content-Length", length), ("X-Request-Id", "cloud-1")]);
        let open = head(200, [("Connection", "close"), ("X-Request-Id", "cloud-1")]);
        script.push(Reply::ThenClose([announced("100"), b"{\"id\"".to_vec()].concat()));
        // Over 4 MiB, announced or not.
        script.push(Reply::ThenFlood(announced("4194305"), 65));
        script.push(Reply::ThenFlood(open, 1_024));
        for (number, failure) in failures(&sample, script).await.iter().enumerate() {
            assert_protocol_error(&sample, failure, &number.to_string());
            assert_eq!(failure.fact("http_status"), Some("200"), "{} {number}", sample.name);
            let id = failure.status.metadata().get("apig-request-id");
            assert_eq!(id.unwrap(), "cloud-1", "{} {number}", sample.name);
        }
    }
}

#[tokio::test]
async fn a_member_of_another_type_is_a_protocol_error() {
    const WRONG: [&str; 16] = [
        r#"{"id":1}"#,
        r#"{"name":["n"]}"#,
        r#"{"san":"*.example.com"}"#,
        r#"{"san":[null]}"#,
        r#"{"issuer":{"CN":"x"}}"#,
        r#"{"not_after":1944628573}"#,
        r#"{"not_after":"2031-08-16"}"#,
        r#"{"not_before":"yesterday"}"#,
        r#"{"create_time":"2031-13-16T06:36:13Z"}"#,
        r#"{"update_time":["2031-08-16T06:36:13Z"]}"#,
        r#"{"is_has_trusted_root_ca":0}"#,
        r#"{"is_has_trusted_root_ca":"false"}"#,
        r#"{"version":"3"}"#,
        r#"{"version":3.5}"#,
        r#"{"version":2147483648}"#,
        r#"{"serial_number":-13010}"#,
    ];
    for sample in samples() {
        let bodies: Vec<String> = match sample.name {
            "GetCertificate" | "CreateCertificate" | "UpdateCertificate" => WRONG.map(str::to_owned).into(),
            "ListCertificates" => {
                let rows = WRONG.iter().map(|row| format!(r#"{{"size":1,"total":1,"certs":[{{}},{row}]}}"#));
                let own = [r#"{"size":"1"}"#, r#"{"total":{}}"#, r#"{"certs":{}}"#, r#"{"certs":[["c1"]]}"#];
                rows.chain(own.map(str::to_owned)).collect()
            }
            _ => continue,
        };
        let script = bodies.iter().map(|body| Reply::json(200, body)).collect();
        for (failure, body) in failures(&sample, script).await.iter().zip(&bodies) {
            assert_protocol_error(&sample, failure, body);
            assert_eq!(failure.status.metadata().get("apig-request-id").unwrap(), "cloud-1", "{body}");
        }
    }
}

#[tokio::test]
async fn a_lost_connection_is_repeated_for_a_read_and_unknown_for_a_change() {
    for sample in samples() {
        let cloud = Cloud::answering([Reply::close()]).await;
        let gateway = Gateway::facing(cloud.address).start().await;
        let failure = failed(call(&gateway.channel().await, &sample, &sample.full).await);
        assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_CONNECTION_LOST"), "{}", sample.name);
        assert_eq!(failure.fact("outcome"), sample.is_change.then_some("unknown"), "{}", sample.name);
        let pushback = failure.status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap());
        assert_eq!(pushback, sample.is_change.then_some("-1"), "{}", sample.name);
        let changes: Vec<_> = cloud.seen().into_iter().filter(|seen| seen.line.starts_with(sample.line)).collect();
        assert_eq!(changes.len(), if sample.is_change { 1 } else { 3 }, "{}", sample.name);
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_have_an_outcome_only_for_changes() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    for sample in samples() {
        for bytes in [frame(0, b"\xff\xff\xff\xff"), frame(0, b"\x0a\x02\xff\xfe"), frame(1, b"no gzip"), Vec::new()] {
            let failure = send_bytes(&gateway, &sample.path(), &[("x-auth-token", "t")], bytes.clone()).await;
            assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"), "{} {bytes:?}", sample.name);
            let outcome = sample.is_change.then_some("not_sent");
            assert_eq!(failure.fact("outcome"), outcome, "{} {bytes:?}", sample.name);
        }
    }
    assert_eq!(cloud.connections(), 0);
}

/// The certificate that a `GetCertificate` answers with.
async fn gotten(bodies: &[String]) -> Vec<pb::Certificate> {
    let cloud = Cloud::answering(bodies.iter().map(|body| Reply::json(200, body))).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    let get = samples().into_iter().find(|sample| sample.name == "GetCertificate").unwrap();
    let mut certificates = Vec::new();
    for body in bodies {
        let response = call(&channel, &get, &get.full).await.unwrap_or_else(|status| panic!("{body}: {status:?}"));
        certificates.push(pb::Certificate::decode(&**response.get_ref()).unwrap());
    }
    certificates
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read() {
    const LIMIT: usize = 4 * 1024 * 1024;
    let text = r#"{"id":"c1"}"#;
    let body = " ".repeat(LIMIT - text.len()) + text;
    assert_eq!(gotten(&[body]).await.remove(0).id, "c1");
}

#[tokio::test]
async fn times_keep_their_fraction_and_become_utc() {
    let cases = [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("1970-01-01T00:00:00.000001Z", 0, 1_000),
        ("1970-01-01T08:00:00+08:00", 0, 0),
        ("1969-12-31T18:30:00-05:30", 0, 0),
        ("2021-08-26T07:27:06Z", 1_629_962_826, 0),
        ("2021-08-26T07:27:06.304004Z", 1_629_962_826, 304_004_000),
        ("2021-08-26T15:27:06.304004+08:00", 1_629_962_826, 304_004_000),
        ("2021-08-26T07:27:06.000000001Z", 1_629_962_826, 1),
        ("2021-08-26T07:27:06.999999999Z", 1_629_962_826, 999_999_999),
        ("2024-02-29T23:59:59Z", 1_709_251_199, 0),
        ("2038-01-19T03:14:07Z", 2_147_483_647, 0),
        ("2038-01-19T03:14:08Z", 2_147_483_648, 0),
        ("9999-12-31T23:59:59Z", 253_402_300_799, 0),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_799, 999_999_999),
    ];
    let bodies = cases.map(|(text, ..)| {
        format!(r#"{{"not_before":"{text}","not_after":"{text}","create_time":"{text}","update_time":"{text}"}}"#)
    });
    for ((text, seconds, nanos), certificate) in cases.iter().zip(gotten(&bodies).await) {
        let at = Some(prost_types::Timestamp { seconds: *seconds, nanos: *nanos });
        let expected = pb::Certificate {
            not_before: at,
            not_after: at,
            create_time: at,
            update_time: at,
            ..pb::Certificate::default()
        };
        assert_eq!(certificate, expected, "{text}");
    }
}

#[tokio::test]
async fn texts_and_lists_come_as_they_are() {
    let long = "9".repeat(10_000);
    let serials = ["-1", "0", "00", "0x7f", "13010", &long, "12:AB:cd", " "]
        .map(|serial| format!(r#"{{"serial_number":"{serial}"}}"#));
    for (certificate, body) in gotten(&serials).await.iter().zip(&serials) {
        let sent: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(certificate.serial_number, sent["serial_number"].as_str().unwrap());
    }
    let names: Vec<String> = (0..2_000).map(|number| format!("*.d{number}.例.example.com")).collect();
    let mut body = serde_json::json!({"san": names, "issuer": ["a \"quoted\" CA", "", "a \"quoted\" CA"]});
    body["organization"] = serde_json::json!([]);
    let certificate = gotten(&[body.to_string()]).await.remove(0);
    assert_eq!(certificate.san, names);
    assert_eq!(certificate.issuer, ["a \"quoted\" CA", "", "a \"quoted\" CA"], "order and repeats stay");
    assert_eq!(
        certificate,
        pb::Certificate { san: certificate.san.clone(), issuer: certificate.issuer.clone(), ..Default::default() }
    );
}

#[tokio::test]
async fn absent_null_and_empty_members_are_absent() {
    const SCALARS: [&str; 6] =
        ["not_after", "create_time", "update_time", "not_before", "is_has_trusted_root_ca", "version"];
    const TEXTS: [&str; 9] = [
        "id",
        "name",
        "type",
        "instance_id",
        "project_id",
        "common_name",
        "signature_algorithm",
        "algorithm_type",
        "serial_number",
    ];
    const LISTS: [&str; 7] = ["san", "organization", "organizational_unit", "locality", "state", "country", "issuer"];
    let object = |names: &[&str], value: &str| {
        let members: Vec<String> = names.iter().map(|name| format!(r#""{name}":{value}"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    let all = [&SCALARS[..], &TEXTS, &LISTS].concat();
    let fields: Vec<String> = {
        let pool = prost_reflect::DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
        let message = pool.get_message_by_name("huaweicloud.apic.v2.Certificate").unwrap();
        message.fields().map(|field| field.name().to_owned()).collect()
    };
    let (mut listed, mut described) = (all.clone(), fields.iter().map(String::as_str).collect::<Vec<_>>());
    listed.sort_unstable();
    described.sort_unstable();
    assert_eq!(listed, described, "no field is forgotten here");
    let bodies = [
        "{}".to_owned(),
        object(&all, "null"),
        object(&SCALARS, r#""""#),
        object(&TEXTS, r#""""#),
        object(&LISTS, "[]"),
        r#"{"private_key":"k","unknown":[{"a":null}]}"#.to_owned(),
    ];
    for (certificate, body) in gotten(&bodies).await.iter().zip(&bodies) {
        assert_eq!(*certificate, pb::Certificate::default(), "{body}");
    }
    let zeros = gotten(&[r#"{"is_has_trusted_root_ca":false,"version":0}"#.to_owned()]).await.remove(0);
    assert_eq!((zeros.is_has_trusted_root_ca, zeros.version), (Some(false), Some(0)), "present");
    let odd = r#"{"type":"universal","algorithm_type":"ED25519","signature_algorithm":"","version":-2147483648}"#;
    let odd = gotten(&[odd.to_owned()]).await.remove(0);
    assert_eq!((&*odd.r#type, &*odd.algorithm_type, odd.version), ("universal", "ED25519", Some(i32::MIN)));
    assert_ne!(certificate(), pb::Certificate::default());
}
