//! Signed requests. The vendor's own SDK signed the vectors: each must pass, and none with anything
//! changed.

use axum::http::{HeaderName, HeaderValue};

use super::*;
use crate::caller::RequestHead;
use crate::signature::{Claim, SignatureError};

fn vectors() -> Vec<Value> {
    let text = include_str!("../../../../tests/it/fixtures/signing-vectors.json");
    let file: Value = serde_json::from_str(text).unwrap();
    let all = file["vectors"].as_array().unwrap().clone();
    all.into_iter().filter(|vector| vector["expected"]["canonical_request"].is_string()).collect()
}

/// A vector as it is on the wire.
struct Sent {
    head: RequestHead,
    body: Vec<u8>,
    secret: String,
    now: SystemTime,
}

impl Sent {
    fn of(vector: &Value) -> Self {
        let text = |name: &str| vector[name].as_str().unwrap_or_default();
        let wire = vector["expected"]["wire_headers"].as_object().unwrap();
        let headers = wire.iter().map(|(name, value)| {
            // Shown decoded as Latin-1.
            let bytes: Vec<u8> = value.as_str().unwrap().chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(&bytes).unwrap())
        });
        // A client encodes this path before sending it; the URI parser rejects a raw space.
        let url = text("url").replace(' ', "%20");
        let date = text("x_sdk_date");
        let [year, month, day, hour, minute, second] =
            [0..4, 4..6, 6..8, 9..11, 11..13, 13..15].map(|range| date[range].to_owned());
        Self {
            head: RequestHead {
                method: Method::from_bytes(text("method").as_bytes()).unwrap(),
                uri: url.parse().unwrap(),
                headers: headers.collect(),
            },
            body: text("body").as_bytes().to_vec(),
            secret: text("sk").to_owned(),
            now: humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).unwrap(),
        }
    }

    fn verify(&self) -> Result<(), SignatureError> {
        let claim = Claim::parse(self.head.header("authorization").unwrap()).ok_or(SignatureError::Malformed)?;
        claim.verify(&self.secret, &self.head, &self.body, self.now)
    }
}

#[test]
fn what_the_vendors_sdk_signs_is_right_and_nothing_else_is() {
    let vectors = vectors();
    assert!(vectors.len() >= 30);
    for vector in &vectors {
        let name = vector["name"].as_str().unwrap();
        assert_eq!(Sent::of(vector).verify(), Ok(()), "{name}");
        let refused = |change: &dyn Fn(&mut Sent)| {
            let mut sent = Sent::of(vector);
            change(&mut sent);
            sent.verify()
        };
        assert_eq!(refused(&|sent| sent.secret.push('x')), Err(SignatureError::Mismatch), "{name}");
        assert_eq!(refused(&|sent| sent.head.method = Method::PATCH), Err(SignatureError::Mismatch), "{name}");
        assert_eq!(refused(&|sent| sent.now += Duration::from_secs(901)), Err(SignatureError::Expired), "{name}");
        assert_eq!(refused(&|sent| sent.now -= Duration::from_secs(901)), Err(SignatureError::Expired), "{name}");
        assert_eq!(refused(&|sent| sent.now += Duration::from_secs(899)), Ok(()), "{name}");
        let path =
            |sent: &mut Sent| sent.head.uri = "https://roma.cn-north-4.myhuaweicloud.com/v2/other".parse().unwrap();
        assert_eq!(refused(&path), Err(SignatureError::Mismatch), "{name}");
        let says_unsigned = Sent::of(vector).head.header("x-sdk-content-sha256") == Some("UNSIGNED-PAYLOAD");
        let other_body = refused(&|sent| sent.body.push(b' '));
        assert_eq!(other_body, if says_unsigned { Ok(()) } else { Err(SignatureError::Mismatch) }, "{name}");
        let signed = vector["expected"]["signed_headers"].as_str().unwrap();
        for header in signed.split(';') {
            let gone = |sent: &mut Sent| drop(sent.head.headers.remove(header));
            // Without the header the URI still has the host.
            assert!(header == "host" || refused(&gone).is_err(), "{name}: {header}");
            let other = |sent: &mut Sent| {
                drop(
                    sent.head.headers.insert(header.parse::<HeaderName>().unwrap(), HeaderValue::from_static("other")),
                );
            };
            assert!(refused(&other).is_err(), "{name}: {header}");
            let twice = |sent: &mut Sent| {
                let value = sent.head.headers[header].clone();
                sent.head.headers.append(header.parse::<HeaderName>().unwrap(), value);
            };
            assert_eq!(refused(&twice), Err(SignatureError::Malformed), "{name}: {header}");
        }
    }
}

#[test]
fn a_claim_has_one_form() {
    let good = "SDK-HMAC-SHA256 Access=A, SignedHeaders=host;x-sdk-date, Signature=0";
    assert!(Claim::parse(good).is_some());
    for (part, other) in [
        ("SDK-HMAC-SHA256", "SDK-HMAC-SM3"),
        ("SDK-HMAC-SHA256 Access", "Access"),
        ("Access=", "access="),
        ("host;x-sdk-date", "host"),
        ("host;x-sdk-date", "x-sdk-date;host"),
        ("host;x-sdk-date", "host;host;x-sdk-date"),
        ("host;x-sdk-date", "Host;x-sdk-date"),
        ("Signature=0", "Signature=0, More=1"),
        (", Signature=0", ""),
    ] {
        let claim = good.replacen(part, other, 1);
        assert_eq!(Claim::parse(&claim), None, "{claim}");
    }
}

/// Signs a request to this emulator without the client's signer. The fixed vectors are for other hosts.
struct Signed<'a> {
    access: &'a str,
    secret: &'a str,
    /// Further headers, their names in lower case.
    more: &'a [(&'a str, &'a str)],
}

impl Signed<'_> {
    fn request(&self, running: &Running, method: Method, path: &str, query: &str, body: String) -> RequestBuilder {
        use aws_lc_rs::{digest, hmac};
        let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let now = *running.now.lock().unwrap();
        let date: String = humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "");
        let host = running.address.to_string();
        let mut headers = vec![("host", host.as_str()), ("x-sdk-date", date.as_str())];
        headers.extend(self.more);
        headers.sort_unstable();
        let lines = headers.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join("\n");
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let body_hash = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
        let canonical = format!("{method}\n{path}/\n{query}\n{lines}\n\n{names}\n{body_hash}");
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let signature = hex(hmac::sign(&key, format!("SDK-HMAC-SHA256\n{date}\n{hash}").as_bytes()).as_ref());
        let access = self.access;
        let authorization = format!("SDK-HMAC-SHA256 Access={access}, SignedHeaders={names}, Signature={signature}");
        let request = running
            .request(method, &format!("{path}?{query}"))
            .header("Content-Type", "application/json")
            .header("Authorization", authorization)
            .body(body);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    async fn attaches(&self, running: &Running) -> Received {
        let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach");
        let body = json!({ "domains": [{ "domain": "www.example.com" }] }).to_string();
        send(self.request(running, Method::POST, &path, "", body)).await
    }
}

async fn attach_signed(running: &Running, access: &str, secret: &str, token: Option<&str>) -> Received {
    let more: Vec<_> = token.map(|token| ("x-security-token", token)).into_iter().collect();
    Signed { access, secret, more: &more }.attaches(running).await
}

const ACCESS: &str = "DEMOOPERATORKEY00001";
const SECRET: &str = "demo-operator-secret-key";

fn incorrect(ending: &str) -> String {
    format!("Incorrect IAM authentication information: {ending}")
}

#[tokio::test]
async fn a_key_opens_what_its_user_may_do() {
    let running = running().await;
    assert_eq!(attach_signed(&running, ACCESS, SECRET, None).await.status, 204);
    let auditor = attach_signed(&running, "DEMOAUDITORKEY000001", "demo-auditor-secret-key", None).await;
    auditor.is_service(403, "APIG.1005", "No permissions to request this method");
    let unknown = attach_signed(&running, "NOBODY", SECRET, None).await;
    unknown.is_front(401, "APIG.0301", &incorrect("Get secretKey failed,ak:NOBODY,err:ak not exist"));
}

#[tokio::test]
async fn what_goes_with_another_credential_or_project_is_refused() {
    let running = running().await;
    let attach = async |more: &[(&str, &str)]| Signed { access: ACCESS, secret: SECRET, more }.attaches(&running).await;
    assert_eq!(attach(&[("x-project-id", PROJECT)]).await.status, 204);
    let mixed_up = attach(&[("x-project-id", OTHER_PROJECT)]).await;
    mixed_up.is_service(403, "APIG.1005", "No permissions to request this method");
    let left_over = attach(&[("x-security-token", "of another key")]).await;
    left_over.is_front(401, "APIG.0301", &incorrect("decrypt token fail"));
}

#[tokio::test]
async fn a_security_token_must_be_signed() {
    let running = running().await;
    let pair = machine_keys(&running).await;
    let key = Signed { access: &pair.access, secret: &pair.secret, more: &[] };
    let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach");
    let unsigned = key.request(&running, Method::POST, &path, "", "{}".to_owned());
    let refused = send(unsigned.header("X-Security-Token", &pair.token)).await;
    refused.is_front(401, "APIG.0301", &incorrect("decrypt token fail"));
}

#[tokio::test]
async fn iam_knows_callers_by_their_signature_and_refuses_in_its_own_form() {
    let running = running().await;
    let find = async |secret| {
        let key = Signed { access: ACCESS, secret, more: &[] };
        send(key.request(&running, Method::GET, "/v3/projects", "name=cn-north-4", String::new())).await
    };
    assert_eq!(find(SECRET).await.json()["projects"][0]["id"], PROJECT);
    find("wrong").await.is_service(401, "IAM.0001", &incorrect("verify aksk signature fail"));
}

#[tokio::test]
async fn more_than_five_wrong_signatures_in_a_row_lock_a_pair_for_five_minutes() {
    let running = running().await;
    for round in 0..2 {
        for _ in 0..5 {
            let wrong = attach_signed(&running, ACCESS, "wrong", None).await;
            wrong.is_front(401, "APIG.0301", &incorrect("verify aksk signature fail"));
        }
        if round == 0 {
            // A success in between resets the count.
            assert_eq!(attach_signed(&running, ACCESS, SECRET, None).await.status, 204);
        }
    }
    attach_signed(&running, ACCESS, "wrong", None).await;
    let locked = attach_signed(&running, ACCESS, SECRET, None).await;
    locked.is_front(401, "APIG.0301", &incorrect("AK access failed to reach the limit,forbidden"));
    running.advance(Duration::from_secs(301));
    assert_eq!(attach_signed(&running, ACCESS, SECRET, None).await.status, 204);
}

/// A temporary pair.
struct Pair {
    access: String,
    secret: String,
    token: String,
}

async fn machine_keys(running: &Running) -> Pair {
    let asked = running.request(Method::PUT, "/meta-data/latest/api/token");
    let token = send(asked.header("X-Metadata-Token-Ttl-Seconds", "60")).await.body;
    let asked = running.request(Method::GET, "/openstack/latest/securitykey");
    let pair = send(asked.header("X-Metadata-Token", token)).await.json()["credential"].take();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    Pair { access: text("access"), secret: text("secret"), token: text("securitytoken") }
}

#[tokio::test]
async fn a_temporary_pair_needs_its_token_and_ends() {
    let running = running().await;
    let Pair { access, secret, token } = machine_keys(&running).await;
    assert_eq!(attach_signed(&running, &access, &secret, Some(&token)).await.status, 204);
    for wrong in [None, Some("another")] {
        let refused = attach_signed(&running, &access, &secret, wrong).await;
        refused.is_front(401, "APIG.0301", &incorrect("decrypt token fail"));
    }
    running.advance(Duration::from_secs(24 * 60 * 60));
    let ended = attach_signed(&running, &access, &secret, Some(&token)).await;
    ended.is_front(401, "APIG.0301", &incorrect("decrypt token fail"));
}

#[tokio::test]
async fn what_was_issued_ends_when_rights_change() {
    let running = running().await;
    let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
        "name": "operator", "password": "demo-operator-password", "domain": {"name": "demo-account"}}}},
        "scope": {"project": {"id": PROJECT}}}});
    let asked = running.request(Method::POST, "/v3/auth/tokens").header("Content-Type", "application/json");
    let token = send(asked.body(body.to_string())).await.header("x-subject-token").to_owned();
    let list = || {
        let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/attached-domains");
        send(running.request(Method::GET, &path).header("X-Auth-Token", token.clone()))
    };
    assert_eq!(list().await.status, 200);
    assert_eq!(send(running.request(Method::POST, "/emulator/revoke")).await.status, 204);
    assert_eq!(list().await.status, 401);
    assert_eq!(running.list(CERTIFICATE, "").await.status, 200, "the world's own token stays");
}
