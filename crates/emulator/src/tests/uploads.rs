//! Uploads: the faults of certificates and keys, and the description of good ones.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    PKCS_RSA_SHA256, RsaKeySize, SanType, SerialNumber, date_time_ymd,
};

use super::*;

/// A certificate and its key, in PEM.
pub(super) struct Pair {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Parameters of a certificate that ends in 2030.
fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("nobody"));
    params
}

fn self_signed(params: &CertificateParams, key: &KeyPair) -> Pair {
    Pair { chain: params.self_signed(key).unwrap().pem(), key: key.serialize_pem() }
}

pub(super) fn pair(names: &[&str]) -> Pair {
    self_signed(&params(names), &KeyPair::generate().unwrap())
}

/// A CA with this name, and its certificate.
fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut params = params(&[]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), certificate)
}

pub(super) fn ca() -> String {
    authority("clients").1
}

pub(super) fn upload(name: &str, Pair { chain, key }: &Pair) -> Value {
    json!({ "name": name, "cert_content": chain, "private_key": key })
}

/// A PEM block of these bytes.
fn block(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for three in der.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text + &format!("\n-----END {label}-----\n")
}

impl Running {
    async fn create(&self, body: &Value) -> Received {
        self.call(Method::POST, "apic", "certificates", Some(body)).await
    }
}

#[tokio::test]
async fn an_rsa_certificate_is_described_as_documented() {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let mut params = params(&["www.example.com", "*.shop.example.com"]);
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::from([192, 0, 2, 1])));
    params.subject_alt_names.push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
    params.serial_number = Some(SerialNumber::from(4_660_u64));
    for (kind, value) in [
        (DnType::OrganizationName, "Example"),
        (DnType::OrganizationalUnitName, "Demo"),
        (DnType::LocalityName, "Guiyang"),
        (DnType::StateOrProvinceName, "Guizhou"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params.distinguished_name.push(DnType::CountryName, DnValue::PrintableString("CN".try_into().unwrap()));
    let pair = self_signed(&params, &key);

    let cloud = running().await;
    let answer = cloud.create(&upload("rsa_cert", &pair)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(!answer.body.contains("PRIVATE"));
    let shown = answer.json();
    assert_id(shown["id"].as_str().unwrap());
    let expected = json!({
        "id": shown["id"],
        "name": "rsa_cert",
        "type": "global",
        "instance_id": "common",
        "project_id": PROJECT,
        "common_name": "www.example.com",
        "san": ["www.example.com", "*.shop.example.com", "192.0.2.1", "2001:db8::1"],
        "not_after": "2030-01-01T00:00:00Z",
        "signature_algorithm": "SHA256-RSA",
        "algorithm_type": "RSA",
        "create_time": "2020-01-03T09:05:22.701000Z",
        "update_time": "2020-01-03T09:05:22.701000Z",
        "is_has_trusted_root_ca": false,
        "version": 3,
        "organization": ["Example"],
        "organizational_unit": ["Demo"],
        "locality": ["Guiyang"],
        "state": ["Guizhou"],
        "country": ["CN"],
        "not_before": "2019-01-01T00:00:00Z",
        "serial_number": "4660",
        "issuer": ["Example"],
    });
    assert_eq!(shown, expected);

    // The older form of an RSA key: the innermost part of the newer one.
    let older = block("RSA PRIVATE KEY", &key.serialize_der()[26..]);
    let body = json!({ "name": "older_key", "cert_content": pair.chain, "private_key": older });
    assert_eq!(cloud.create(&body).await.status, 200);
}

#[tokio::test]
async fn ecdsa_certificates_and_chains_are_described() {
    let cloud = running().await;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let answer = cloud.create(&upload("p384", &self_signed(&params(&["a.example.com"]), &key))).await.json();
    assert_eq!((&answer["signature_algorithm"], &answer["algorithm_type"]), (&json!("SHA384-ECDSA"), &json!("ECC")));

    let (issuer, root) = authority("root");
    let key = KeyPair::generate().unwrap();
    let leaf = params(&["a.example.com"]).signed_by(&key, &issuer).unwrap().pem();
    for (chain, ca) in [(leaf.clone() + &root, ca()), (leaf.clone(), root.clone())] {
        let mut body = upload("chain", &Pair { chain, key: key.serialize_pem() });
        body["algorithm_type"] = json!("ECC");
        body["trusted_root_ca"] = json!(ca);
        let shown = cloud.create(&body).await.json();
        assert_eq!(
            (&shown["issuer"], &shown["common_name"], &shown["signature_algorithm"], &shown["is_has_trusted_root_ca"]),
            (&json!(["root"]), &json!("a.example.com"), &json!("SHA256-ECDSA"), &json!(true))
        );
    }
}

#[tokio::test]
async fn each_fault_of_a_certificate_or_key_has_its_documented_code() {
    let cloud = running().await;
    let good = pair(&["a.example.com"]);
    let other = pair(&["a.example.com"]);
    let until = |year, month, day| {
        let mut params = params(&["a.example.com"]);
        params.not_after = date_time_ymd(year, month, day);
        self_signed(&params, &KeyPair::generate().unwrap())
    };
    let expired = until(2020, 1, 3);
    let too_long = until(2038, 1, 20);
    let latest = until(2038, 1, 19);
    let no_names = pair(&[]);
    let ed25519 = self_signed(&params(&["a.example.com"]), &KeyPair::generate_for(&PKCS_ED25519).unwrap());
    let stranger = authority("stranger").1;
    let (issuer, _) = authority("same name");
    let impostor = authority("same name").1;
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = params(&["a.example.com"]).signed_by(&leaf_key, &issuer).unwrap().pem();
    let protected = good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let headers = "EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n";
    let protected_before = good.key.replacen("PRIVATE KEY-----\n", headers, 1);
    let cut = good.chain.replacen("\nMII", "\nMI", 1);

    let mismatch = ("APIG.2101", "The certificate and private key do not match.");
    let chain = ("APIG.2104", "The certificate chain is not matched.");
    let encrypted = ("APIG.2105", "Encrypted private keys are not supported.");
    let invalid = ("APIG.2106", "Invalid certificate or private key.");
    for (what, content, key, (code, text)) in [
        ("another key", &good.chain, &other.key, mismatch),
        ("an expired one", &expired.chain, &expired.key, ("APIG.2102", "The certificate has expired.")),
        ("a stranger in the chain", &(good.chain.clone() + &stranger), &good.key, chain),
        ("a forged issuer", &(leaf + &impostor), &leaf_key.serialize_pem(), chain),
        ("a protected key", &good.chain, &protected, encrypted),
        ("a protected key in the older form", &good.chain, &protected_before, encrypted),
        ("no PEM", &"certificate".to_owned(), &good.key, invalid),
        ("no PEM key", &good.chain, &"key".to_owned(), invalid),
        ("a key for a certificate", &good.key, &good.key, invalid),
        ("a certificate for a key", &good.chain, &good.chain, invalid),
        ("both keys", &good.chain, &(good.key.clone() + &other.key), invalid),
        ("a damaged one", &cut, &good.key, invalid),
        ("an undocumented kind of key", &ed25519.chain, &ed25519.key, invalid),
        ("no names", &no_names.chain, &no_names.key, ("APIG.2109", "Invalid certificate. SAN missing.")),
        (
            "too long",
            &too_long.chain,
            &too_long.key,
            ("APIG.3148", "Invalid certificate. Add one that expires before January 19, 2038 03:14:07 UTC."),
        ),
    ] {
        let answer = cloud.create(&json!({ "name": "cert", "cert_content": content, "private_key": key })).await;
        assert_eq!((answer.status, &answer.json()["error_code"]), (400, &json!(code)), "{what}: {}", answer.body);
        answer.is_service(400, code, text);
    }
    let answer = cloud.create(&upload("latest", &latest)).await;
    assert_eq!((answer.status, &answer.json()["not_after"]), (200, &json!("2038-01-19T00:00:00Z")));
}

#[tokio::test]
async fn required_members_are_present_and_not_empty() {
    let cloud = running().await;
    let body = upload("cert", &pair(&["a.example.com"]));
    for name in ["name", "cert_content", "private_key"] {
        let mut without = body.clone();
        without.as_object_mut().unwrap().remove(name);
        let mut empty = body.clone();
        empty[name] = json!("");
        for body in [without, empty] {
            let text = parameter("The request parameters must be specified", name);
            cloud.create(&body).await.is_service(400, "APIG.2001", &text);
        }
    }
    let text = parameter("The request parameters must be specified", "instance_id");
    let mut without = body.clone();
    without["type"] = json!("instance");
    cloud.create(&without).await.is_service(400, "APIG.2001", &text);
}

#[tokio::test]
async fn members_that_are_wrong_are_named() {
    let cloud = running().await;
    let body = upload("cert", &pair(&["a.example.com"]));
    let long = "n".repeat(51);
    for (name, value) in [
        ("name", "abc"),
        ("name", &long),
        ("name", "1abc"),
        ("name", "_abc"),
        ("name", "a-bc"),
        ("name", "übergross"),
        ("type", "regional"),
        ("type", ""),
        ("instance_id", FIRST),
        ("algorithm_type", "SM2"),
        ("algorithm_type", "RSA"),
        ("cert_content_sign", "x"),
        ("private_key_sign", "x"),
    ] {
        let mut wrong = body.clone();
        wrong[name] = json!(value);
        cloud.create(&wrong).await.is_service(400, "APIG.2011", &parameter("Invalid parameter value", name));
    }
    let mut wrong = body.clone();
    wrong["trusted_root_ca"] = json!("ca");
    cloud.create(&wrong).await.is_service(400, "APIG.2106", "Invalid certificate or private key.");
    let mut nowhere = body.clone();
    nowhere["type"] = json!("instance");
    nowhere["instance_id"] = json!("nowhere");
    cloud.create(&nowhere).await.is_service(404, "APIG.3030", "The instance does not exist;id:nowhere");
    for name in ["证书测试", "证书_1", &"n".repeat(50)] {
        let mut right = body.clone();
        right["name"] = json!(name);
        assert_eq!(cloud.create(&right).await.json()["name"], name);
    }
}

#[tokio::test]
async fn stray_members_nulls_and_other_types_are_refused_without_a_secret() {
    let cloud = running().await;
    let secret = "-----BEGIN PRIVATE KEY-----secret";
    for (body, complaint) in [
        (json!({ "private_key": secret, "project_id": PROJECT }), "unknown field `project_id`"),
        (json!({ "private_key": secret, "type": null }), "invalid type: null"),
        (json!({ "private_key": [secret] }), "invalid type: sequence"),
        (json!({ "private_key": { "pem": secret } }), "invalid type: map"),
        (json!(secret), "the body is not an object"),
        (json!([[secret]]), "invalid type: sequence"),
        (json!(7), "invalid type: integer"),
    ] {
        let answer = cloud.create(&body).await;
        assert_eq!((answer.status, &answer.json()["error_code"]), (400, &json!("APIG.2000")), "{body}");
        assert!(answer.body.contains(complaint) && !answer.body.contains("secret"), "{}", answer.body);
    }
    let request = cloud.request(Method::POST, &format!("/v2/{PROJECT}/apic/certificates")).body("{}");
    let answer = send(request.header("X-Auth-Token", OPERATOR)).await;
    answer.is_service(400, "APIG.2000", "Parameter error: the content type is not application/json");
}
