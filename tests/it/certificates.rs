//! The life of a certificate through the gateway, with an emulated cloud that parses and keeps it.

use apig_grpc_gateway::pb::{
    AttachCertificatesRequest, Certificate, CreateCertificateRequest, DeleteCertificateRequest,
    DetachCertificatesRequest, GetCertificateRequest, ListAttachedDomainsRequest, ListCertificatesRequest,
    UpdateCertificateRequest, certificate_service_client::CertificateServiceClient,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    emulated::{DAY, Emulated},
    support::{Plan, failed, soon},
};

const PROJECT: &str = "73d69ae0cfcf460190522d06b60f05ad";
const INSTANCE: &str = "f0fa1789-3b76-433b-a787-9892951c620e";
const GROUP: &str = "92f4b6d08a3e4c71b5d9e0f7a1c8263d";
const DOMAIN: &str = "b05d8f2a6c714e93a7e4d1c9f8063b5e";

/// A certificate of this name that ends in 2036, and its key.
fn pair(name: &str) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(2036, 1, 1);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A request with the token that the emulator knows.
fn authorized<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-auth-token", "demo-operator-token".parse().unwrap());
    request
}

/// The reads of a certificate.
struct Reader(CertificateServiceClient<Channel>);

impl Reader {
    async fn get(&mut self, id: &str) -> Result<Certificate, Status> {
        let message = GetCertificateRequest { project_id: PROJECT.into(), certificate_id: id.into() };
        soon(self.0.get_certificate(authorized(message))).await.map(tonic::Response::into_inner)
    }

    /// The domains that a certificate is attached to.
    async fn attached(&mut self, id: &str) -> Vec<String> {
        let message = ListAttachedDomainsRequest {
            project_id: PROJECT.into(),
            certificate_id: id.into(),
            ..ListAttachedDomainsRequest::default()
        };
        let list = soon(self.0.list_attached_domains(authorized(message))).await.unwrap().into_inner();
        list.bound_domains.into_iter().map(|row| row.url_domain).collect()
    }
}

async fn a_life(plan: Plan) {
    let gateway = plan.start().await;
    let mut client = gateway.caller().await.client();
    let mut reader = Reader(client.clone());

    let (cert_content, private_key) = pair("api.example.com");
    let create = CreateCertificateRequest {
        project_id: PROJECT.into(),
        name: "lifelong".into(),
        cert_content,
        private_key,
        ..CreateCertificateRequest::default()
    };
    let created = soon(client.create_certificate(authorized(create))).await.unwrap().into_inner();
    let id = created.id.clone();
    assert_eq!((created.common_name.as_str(), created.r#type.as_str()), ("api.example.com", "global"));
    assert_eq!((created.san.as_slice(), created.version), (["api.example.com".to_owned()].as_slice(), Some(3)));
    assert_eq!(created.not_after.as_ref().map(|time| time.seconds), Some(2_082_758_400));
    assert_eq!(reader.get(&id).await.unwrap(), created);

    let list = ListCertificatesRequest {
        project_id: PROJECT.into(),
        instance_id: INSTANCE.into(),
        name: "lifelong".into(),
        ..ListCertificatesRequest::default()
    };
    let listed = soon(client.list_certificates(authorized(list))).await.unwrap().into_inner();
    assert_eq!((listed.size, listed.total), (1, 1));
    let row = &listed.certs[0];
    assert_eq!((&row.id, &row.san, row.version), (&id, &created.san, None), "rows have fewer members");

    let attach = AttachCertificatesRequest {
        project_id: PROJECT.into(),
        instance_id: INSTANCE.into(),
        group_id: GROUP.into(),
        domain_id: DOMAIN.into(),
        certificate_ids: vec![id.clone()],
        verified_client_certificate_enabled: None,
    };
    soon(client.attach_certificates(authorized(attach))).await.unwrap();
    assert_eq!(reader.attached(&id).await, ["api.example.com"]);

    let delete = DeleteCertificateRequest { project_id: PROJECT.into(), certificate_id: id.clone() };
    let refused = failed(soon(client.delete_certificate(authorized(delete.clone()))).await);
    assert_eq!(refused.verdict(), (Code::FailedPrecondition, "APIG_3400"));
    assert_eq!(reader.attached(&id).await, ["api.example.com"]);

    let detach = DetachCertificatesRequest {
        project_id: PROJECT.into(),
        instance_id: INSTANCE.into(),
        group_id: GROUP.into(),
        domain_id: DOMAIN.into(),
        certificate_ids: vec![id.clone()],
        verified_client_certificate_enabled: None,
    };
    soon(client.detach_certificates(authorized(detach))).await.unwrap();
    assert!(reader.attached(&id).await.is_empty());

    let (cert_content, private_key) = pair("www.example.com");
    let update = UpdateCertificateRequest {
        project_id: PROJECT.into(),
        certificate_id: id.clone(),
        name: "lifelong".into(),
        cert_content,
        private_key,
        ..UpdateCertificateRequest::default()
    };
    let updated = soon(client.update_certificate(authorized(update))).await.unwrap().into_inner();
    assert_eq!((&updated.id, updated.common_name.as_str()), (&id, "www.example.com"));
    assert_eq!(updated.create_time, created.create_time);
    assert_eq!(reader.get(&id).await.unwrap(), updated);

    soon(client.delete_certificate(authorized(delete))).await.unwrap();
    let gone = failed(reader.get(&id).await);
    assert_eq!(gone.verdict(), (Code::NotFound, "APIG_3025"));
}

#[tokio::test]
async fn a_certificate_of_roma_connect() {
    let cloud = Emulated::with_life(DAY).await;
    a_life(cloud.gateway("passthrough")).await;
}

#[tokio::test]
async fn a_certificate_of_a_dedicated_gateway() {
    let cloud = Emulated::with_life(DAY).await;
    a_life(cloud.gateway("passthrough").with("api-family", "apigw")).await;
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_with_the_catalogues_code() {
    let cloud = Emulated::with_life(DAY).await;
    let gateway = cloud.gateway("passthrough").start().await;
    let message = CreateCertificateRequest {
        project_id: PROJECT.into(),
        name: "mismatch".into(),
        cert_content: pair("api.example.com").0,
        private_key: pair("api.example.com").1,
        ..CreateCertificateRequest::default()
    };
    let refused = failed(soon(gateway.caller().await.client().create_certificate(authorized(message))).await);
    assert_eq!(refused.verdict(), (Code::FailedPrecondition, "APIG_2101"));
}

/// Parameters with every field that the cloud describes.
fn described(organization: &str) -> CertificateParams {
    let mut params = CertificateParams::new(["www.example.com", "*.shop.example.com"].map(str::to_owned)).unwrap();
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2036, 1, 1);
    params.serial_number = Some(SerialNumber::from(4_660_u64));
    for (kind, value) in [
        (DnType::CommonName, "www.example.com"),
        (DnType::OrganizationName, organization),
        (DnType::OrganizationalUnitName, "Demo"),
        (DnType::LocalityName, "Guiyang"),
        (DnType::StateOrProvinceName, "Guizhou"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params.distinguished_name.push(DnType::CountryName, DnValue::PrintableString("CN".try_into().unwrap()));
    params
}

#[tokio::test]
async fn every_field_of_real_certificates_is_the_certificates() {
    let (root_key, mut root) = (KeyPair::generate().unwrap(), described("Root"));
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, root_key);

    let rsa = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let ecdsa = |algorithm: &'static SignatureAlgorithm| KeyPair::generate_for(algorithm).unwrap();
    let self_signed = |key: &KeyPair| described("Example").self_signed(key).unwrap().pem();
    let signed = |key: &KeyPair| described("Example").signed_by(key, &issuer).unwrap().pem() + &root_pem;
    let (first, second, third) = (rsa(), ecdsa(&PKCS_ECDSA_P384_SHA384), rsa());
    let certificates = [
        (self_signed(&first), first, "SHA256-RSA", "RSA", "Example"),
        (self_signed(&second), second, "SHA384-ECDSA", "ECC", "Example"),
        // A chain: the root's key signs, and is an ECDSA key.
        (signed(&third), third, "SHA256-ECDSA", "RSA", "Root"),
    ];

    let cloud = Emulated::with_life(DAY).await;
    let gateway = cloud.gateway("passthrough").start().await;
    let mut client = gateway.caller().await.client();
    let mut reader = Reader(client.clone());
    for (number, (cert_content, key, signature_algorithm, algorithm_type, issuer)) in
        certificates.into_iter().enumerate()
    {
        let create = CreateCertificateRequest {
            project_id: PROJECT.into(),
            name: format!("described_{number}"),
            cert_content,
            private_key: key.serialize_pem(),
            algorithm_type: algorithm_type.into(),
            ..CreateCertificateRequest::default()
        };
        let created = soon(client.create_certificate(authorized(create))).await.unwrap().into_inner();
        let shown = reader.get(&created.id).await.unwrap();
        let midnight = |year| prost_types::Timestamp { seconds: date_time_ymd(year, 1, 1).unix_timestamp(), nanos: 0 };
        let list = |value: &str| vec![value.to_owned()];
        let expected = Certificate {
            id: created.id,
            name: format!("described_{number}"),
            r#type: "global".into(),
            instance_id: "common".into(),
            project_id: PROJECT.into(),
            common_name: "www.example.com".into(),
            san: vec!["www.example.com".into(), "*.shop.example.com".into()],
            not_after: Some(midnight(2036)),
            signature_algorithm: signature_algorithm.into(),
            create_time: created.create_time,
            update_time: created.create_time,
            is_has_trusted_root_ca: Some(false),
            algorithm_type: algorithm_type.into(),
            version: Some(3),
            organization: list("Example"),
            organizational_unit: list("Demo"),
            locality: list("Guiyang"),
            state: list("Guizhou"),
            country: list("CN"),
            not_before: Some(midnight(2019)),
            serial_number: "4660".into(),
            issuer: list(issuer),
        };
        assert!(created.create_time.is_some());
        assert_eq!(shown, expected);
    }
}
