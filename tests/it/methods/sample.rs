//! A sample of each method: requests, their REST form, and an answer with every field.

use apig_grpc_gateway::pb;
use prost::Message;
use prost_types::Timestamp;

use super::SERVICE;

/// A method, with everything that differs between methods.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// As in the .proto.
    pub(super) name: &'static str,
    pub(super) is_change: bool,
    /// A request with every field.
    pub(super) full: Vec<u8>,
    /// A request with the required fields and no other.
    pub(super) least: Vec<u8>,
    /// Verb and path of both, for `apic`.
    pub(super) line: &'static str,
    /// The query of the full request and of the least.
    pub(super) query: (&'static str, &'static str),
    /// The body of the full request and of the least.
    pub(super) body: Option<(&'static str, &'static str)>,
    /// The body of the cloud's success and the response that it becomes; `None`: 204.
    pub(super) answer: Option<(&'static str, Vec<u8>)>,
    /// The resources that the full request names, by type as in `ResourceInfo`.
    pub(super) names: &'static [(&'static str, &'static str)],
}

impl Sample {
    /// The gRPC path.
    pub(super) fn path(&self) -> String {
        format!("/{SERVICE}/{}", self.name)
    }

    /// The name of the resource of this type.
    pub(super) fn resource(&self, kind: &str) -> Option<&'static str> {
        self.names.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
    }
}

/// Every field of a certificate, as JSON of the cloud.
pub(super) const CERTIFICATE: &str = r#"{"id":"c1","name":"n_1","type":"instance","instance_id":"i1","project_id":"p1",
    "common_name":"*.example.com","san":["*.example.com","example.com"],"not_after":"2031-08-16T06:36:13Z",
    "signature_algorithm":"SHA256-RSA","create_time":"2021-08-26T07:27:06.304004Z",
    "update_time":"2021-08-26T07:27:06.123456789Z","is_has_trusted_root_ca":false,"algorithm_type":"RSA","version":3,
    "organization":["o1","o2"],"organizational_unit":["u"],"locality":["l"],"state":["s"],"country":["CN"],
    "not_before":"1970-01-01T00:00:00Z","serial_number":"-13010","issuer":["CA 1"],"private_key":{"un":["known"]}}"#;

/// The same as a message.
pub(super) fn certificate() -> pb::Certificate {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
    pb::Certificate {
        id: "c1".into(),
        name: "n_1".into(),
        r#type: "instance".into(),
        instance_id: "i1".into(),
        project_id: "p1".into(),
        common_name: "*.example.com".into(),
        san: texts(&["*.example.com", "example.com"]),
        not_after: at(1_944_628_573, 0),
        signature_algorithm: "SHA256-RSA".into(),
        create_time: at(1_629_962_826, 304_004_000),
        update_time: at(1_629_962_826, 123_456_789),
        is_has_trusted_root_ca: Some(false),
        algorithm_type: "RSA".into(),
        version: Some(3),
        organization: texts(&["o1", "o2"]),
        organizational_unit: texts(&["u"]),
        locality: texts(&["l"]),
        state: texts(&["s"]),
        country: texts(&["CN"]),
        not_before: at(0, 0),
        serial_number: "-13010".into(),
        issuer: texts(&["CA 1"]),
    }
}

const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nMII+/\"=\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\r\nMIG+/=\r\n-----END PRIVATE KEY-----\r\n";

pub(super) fn create() -> pb::CreateCertificateRequest {
    pb::CreateCertificateRequest {
        project_id: "p1".into(),
        name: "名_1".into(),
        cert_content: CHAIN.into(),
        private_key: KEY.into(),
        ..Default::default()
    }
}

pub(super) fn update() -> pb::UpdateCertificateRequest {
    pb::UpdateCertificateRequest {
        project_id: "p1".into(),
        certificate_id: "c1".into(),
        name: "名_1".into(),
        cert_content: CHAIN.into(),
        private_key: KEY.into(),
        ..Default::default()
    }
}

/// The JSON of [`create`] and [`update`], and with all their optional fields.
const LEAST_CONTENT: &str = r#"{"name":"名_1","cert_content":"-----BEGIN CERTIFICATE-----\nMII+/\"=\n-----END CERTIFICATE-----\n","private_key":"-----BEGIN PRIVATE KEY-----\r\nMIG+/=\r\n-----END PRIVATE KEY-----\r\n"}"#;
const FULL_CONTENT: &str = r#"{"name":"名_1","cert_content":"-----BEGIN CERTIFICATE-----\nMII+/\"=\n-----END CERTIFICATE-----\n","private_key":"-----BEGIN PRIVATE KEY-----\r\nMIG+/=\r\n-----END PRIVATE KEY-----\r\n","type":"instance","instance_id":"i1","trusted_root_ca":"CA\n","algorithm_type":"SM2","cert_content_sign":"S\n","private_key_sign":"K\n"}"#;

fn domains(is_full: bool) -> Vec<pb::AttachOrDetachDomainInfo> {
    vec![pb::AttachOrDetachDomainInfo {
        domain: "www.example.com".into(),
        instance_ids: if is_full { vec!["i1".into()] } else { Vec::new() },
        verified_client_certificate_enabled: is_full.then_some(false),
    }]
}

const DOMAINS: (&str, &str) = (
    r#"{"domains":[{"domain":"www.example.com","instance_ids":["i1"],"verified_client_certificate_enabled":false}]}"#,
    r#"{"domains":[{"domain":"www.example.com"}]}"#,
);

const CERTIFICATES: (&str, &str) =
    (r#"{"certificate_ids":["c1"],"verified_client_certificate_enabled":false}"#, r#"{"certificate_ids":["c1"]}"#);

/// The samples, in the order of the .proto.
pub(super) fn samples() -> Vec<Sample> {
    [bindings_of_a_certificate(), certificates(), bindings_of_a_domain()].concat()
}

fn bindings_of_a_certificate() -> Vec<Sample> {
    let attach = |is_full| pb::AttachDomainsRequest {
        project_id: "p1".into(),
        certificate_id: "c1".into(),
        domains: domains(is_full),
    };
    let detach = |is_full| pb::DetachDomainsRequest {
        project_id: "p1".into(),
        certificate_id: "c1".into(),
        domains: domains(is_full),
    };
    let list =
        pb::ListAttachedDomainsRequest { project_id: "p1".into(), certificate_id: "c1".into(), ..Default::default() };
    let full_list =
        pb::ListAttachedDomainsRequest { offset: Some(0), limit: Some(500), url_domain: "*.ü".into(), ..list.clone() };
    let change = Sample {
        name: "AttachDomains",
        is_change: true,
        full: attach(true).encode_to_vec(),
        least: attach(false).encode_to_vec(),
        line: "POST /v2/p1/apic/certificates/c1/domains/attach",
        query: ("", ""),
        body: Some(DOMAINS),
        answer: None,
        names: &[("certificate", "c1"), ("domain", "www.example.com"), ("instance", "i1")],
    };
    let detach = Sample {
        name: "DetachDomains",
        full: detach(true).encode_to_vec(),
        least: detach(false).encode_to_vec(),
        line: "POST /v2/p1/apic/certificates/c1/domains/detach",
        ..change.clone()
    };
    let row = pb::BoundDomain { url_domain: "www.example.com".into(), status: 3, ..Default::default() };
    let page = pb::ListAttachedDomainsResponse { size: 1, total: 5_000_000_000, bound_domains: vec![row] };
    let list = Sample {
        name: "ListAttachedDomains",
        is_change: false,
        full: full_list.encode_to_vec(),
        least: list.encode_to_vec(),
        line: "GET /v2/p1/apic/certificates/c1/attached-domains",
        query: ("offset=0&limit=500&url_domain=%2A.%C3%BC", ""),
        body: None,
        answer: Some((
            r#"{"size":1,"total":5000000000,"bound_domains":[{"url_domain":"www.example.com","status":3}]}"#,
            page.encode_to_vec(),
        )),
        names: &[("certificate", "c1")],
    };
    vec![change, detach, list]
}

fn certificates() -> Vec<Sample> {
    let list = pb::ListCertificatesRequest { project_id: "p1".into(), instance_id: "i1".into(), ..Default::default() };
    let full_list = pb::ListCertificatesRequest {
        offset: Some(0),
        limit: Some(1),
        name: "a b".into(),
        common_name: "*.x".into(),
        signature_algorithm: "SHA256-RSA".into(),
        r#type: "global".into(),
        algorithm_type: "SM2".into(),
        ..list.clone()
    };
    let page = pb::ListCertificatesResponse {
        size: 1,
        total: 5_000_000_000,
        certs: vec![pb::Certificate { id: "c1".into(), ..Default::default() }],
    };
    let list = Sample {
        name: "ListCertificates",
        is_change: false,
        full: full_list.encode_to_vec(),
        least: list.encode_to_vec(),
        line: "GET /v2/p1/apic/certificates",
        query: (
            "instance_id=i1&offset=0&limit=1&name=a%20b&common_name=%2A.x&signature_algorithm=SHA256-RSA&type=global&algorithm_type=SM2",
            "instance_id=i1",
        ),
        body: None,
        answer: Some((r#"{"size":1,"total":5000000000,"certs":[{"id":"c1"}]}"#, page.encode_to_vec())),
        names: &[("instance", "i1")],
    };
    let get = pb::GetCertificateRequest { project_id: "p1".into(), certificate_id: "c1".into() }.encode_to_vec();
    let get = Sample {
        name: "GetCertificate",
        is_change: false,
        full: get.clone(),
        least: get,
        line: "GET /v2/p1/apic/certificates/c1",
        query: ("", ""),
        body: None,
        answer: Some((CERTIFICATE, certificate().encode_to_vec())),
        names: &[("certificate", "c1")],
    };
    let full = pb::CreateCertificateRequest {
        r#type: "instance".into(),
        instance_id: "i1".into(),
        trusted_root_ca: "CA\n".into(),
        algorithm_type: "SM2".into(),
        cert_content_sign: "S\n".into(),
        private_key_sign: "K\n".into(),
        ..create()
    };
    let create = Sample {
        name: "CreateCertificate",
        is_change: true,
        full: full.encode_to_vec(),
        least: create().encode_to_vec(),
        line: "POST /v2/p1/apic/certificates",
        body: Some((FULL_CONTENT, LEAST_CONTENT)),
        names: &[("instance", "i1")],
        ..get.clone()
    };
    let full = pb::UpdateCertificateRequest {
        r#type: "instance".into(),
        instance_id: "i1".into(),
        trusted_root_ca: "CA\n".into(),
        algorithm_type: "SM2".into(),
        cert_content_sign: "S\n".into(),
        private_key_sign: "K\n".into(),
        ..update()
    };
    let update = Sample {
        name: "UpdateCertificate",
        full: full.encode_to_vec(),
        least: update().encode_to_vec(),
        line: "PUT /v2/p1/apic/certificates/c1",
        names: &[("certificate", "c1"), ("instance", "i1")],
        ..create.clone()
    };
    let delete = pb::DeleteCertificateRequest { project_id: "p1".into(), certificate_id: "c1".into() }.encode_to_vec();
    let delete = Sample {
        name: "DeleteCertificate",
        is_change: true,
        full: delete.clone(),
        least: delete,
        line: "DELETE /v2/p1/apic/certificates/c1",
        answer: None,
        ..get.clone()
    };
    vec![list, get, create, update, delete]
}

fn bindings_of_a_domain() -> Vec<Sample> {
    let attach = |flag| pb::AttachCertificatesRequest {
        project_id: "p1".into(),
        instance_id: "i1".into(),
        group_id: "g1".into(),
        domain_id: "d1".into(),
        certificate_ids: vec!["c1".into()],
        verified_client_certificate_enabled: flag,
    };
    let detach = |flag| pb::DetachCertificatesRequest {
        project_id: "p1".into(),
        instance_id: "i1".into(),
        group_id: "g1".into(),
        domain_id: "d1".into(),
        certificate_ids: vec!["c1".into()],
        verified_client_certificate_enabled: flag,
    };
    let attach = Sample {
        name: "AttachCertificates",
        is_change: true,
        full: attach(Some(false)).encode_to_vec(),
        least: attach(None).encode_to_vec(),
        line: "POST /v2/p1/apic/instances/i1/api-groups/g1/domains/d1/certificates/attach",
        query: ("", ""),
        body: Some(CERTIFICATES),
        answer: None,
        names: &[("certificate", "c1"), ("instance", "i1"), ("api-group", "g1"), ("domain", "d1")],
    };
    let detach = Sample {
        name: "DetachCertificates",
        full: detach(Some(false)).encode_to_vec(),
        least: detach(None).encode_to_vec(),
        line: "POST /v2/p1/apic/instances/i1/api-groups/g1/domains/d1/certificates/detach",
        ..attach.clone()
    };
    vec![attach, detach]
}
