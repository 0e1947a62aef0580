//! Pages of certificates.

use apig_grpc_gateway::pb;
use prost::Message as _;
use serde_json::{Value, json};

use super::{call, samples};
use crate::support::{Cloud, Gateway, Reply, head};

const TOTAL: usize = 500;

/// A certificate of the list, with names as long and odd as they come.
fn certificate(number: usize) -> pb::Certificate {
    let at = |seconds: usize, nanos| Some(prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap(), nanos });
    pb::Certificate {
        id: format!("{number:032x}"),
        name: format!("证书_{number}"),
        r#type: ["global", "instance"][number % 2].into(),
        instance_id: ["common", "i1"][number % 2].into(),
        project_id: "p1".into(),
        common_name: format!("*.d{number}.example.com"),
        san: (0..number % 40).map(|san| format!("s{san}.\"d{number}\".example.com")).collect(),
        not_after: at(1_944_628_573 + number, 0),
        signature_algorithm: "SHA256-RSA".into(),
        create_time: at(1_629_962_826 + number, 1_000 * i32::try_from(number).unwrap()),
        update_time: at(1_629_962_826 + number, i32::try_from(number).unwrap()),
        is_has_trusted_root_ca: [None, Some(false), Some(true)][number % 3],
        algorithm_type: ["RSA", "ECC", "SM2", ""][number % 4].into(),
        ..Default::default()
    }
}

/// The same as the cloud writes it.
fn row(certificate: &pb::Certificate) -> Value {
    let time = |at: &Option<prost_types::Timestamp>| at.as_ref().unwrap().to_string();
    json!({
        "id": certificate.id, "name": certificate.name, "type": certificate.r#type,
        "instance_id": certificate.instance_id, "project_id": certificate.project_id,
        "common_name": certificate.common_name, "san": certificate.san, "not_after": time(&certificate.not_after),
        "signature_algorithm": certificate.signature_algorithm, "create_time": time(&certificate.create_time),
        "update_time": time(&certificate.update_time), "is_has_trusted_root_ca": certificate.is_has_trusted_root_ca,
        "algorithm_type": certificate.algorithm_type,
    })
}

/// A cloud that answers with the asked part of the list.
async fn cloud() -> Cloud {
    Cloud::answering([Reply::made(|seen| {
        let number = |name: &str| -> usize {
            let query = seen.line.split_once('?').unwrap().1;
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap().parse().unwrap()
        };
        let rows: Vec<Value> =
            (0..TOTAL).map(|at| row(&certificate(at))).skip(number("offset")).take(number("limit")).collect();
        let body = json!({"size": rows.len(), "total": TOTAL, "certs": rows}).to_string();
        [head(200, [("Content-Length", body.len().to_string().as_str())]), body.into_bytes()].concat()
    })])
    .await
}

#[tokio::test]
async fn five_hundred_certificates_come_byte_for_byte_whatever_the_page() {
    let cloud = cloud().await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    let list = samples().into_iter().find(|sample| sample.name == "ListCertificates").unwrap();
    let all: Vec<pb::Certificate> = (0..TOTAL).map(certificate).collect();
    for limit in [137, 500, 20] {
        let mut from = 0;
        while from < TOTAL {
            let request = pb::ListCertificatesRequest {
                project_id: "p1".into(),
                instance_id: "i1".into(),
                offset: i64::try_from(from).ok(),
                limit: i32::try_from(limit).ok(),
                ..Default::default()
            };
            let response = call(&channel, &list, &request.encode_to_vec()).await.unwrap();
            let certs = all[from..TOTAL.min(from + limit)].to_vec();
            from += certs.len();
            let size = i32::try_from(certs.len()).unwrap();
            let page = pb::ListCertificatesResponse { size, total: 500, certs };
            assert_eq!(*response.get_ref(), page.encode_to_vec(), "{limit} up to {from}");
        }
        assert_eq!(from, TOTAL);
    }
    assert_eq!(cloud.seen().len(), 4 + 1 + 25, "each page is asked for once");
}
