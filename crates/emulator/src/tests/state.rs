//! The state file: what survives a restart, and what an unusable file does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::uploads::{ca, pair, upload};
use super::*;

async fn kept_in(path: &Path) -> Running {
    running_as(World::documented(), |emulator| emulator.with_state(path).unwrap()).await
}

async fn refused(path: &Path) -> String {
    let emulator = Emulator::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), World::documented()).await.unwrap();
    emulator.with_state(path).unwrap_err().to_string()
}

impl Running {
    async fn everything(&self) -> String {
        let path = format!("certificates?limit=500&instance_id={SECOND}");
        let mut text = self.call(Method::GET, "apic", &path, None).await.body;
        for row in serde_json::from_str::<Value>(&text).unwrap()["certs"].as_array().unwrap() {
            let id = row["id"].as_str().unwrap();
            text += &self.call(Method::GET, "apic", &format!("certificates/{id}"), None).await.body;
            text += &self.list(id, "").await.body;
        }
        text
    }
}

#[tokio::test]
async fn certificates_and_bindings_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let cloud = kept_in(&path).await;
    assert!(!path.exists(), "nothing changed yet");
    let mut body = upload("created", &pair(&["api.example.com"]));
    body["trusted_root_ca"] = json!(ca());
    let created = cloud.call(Method::POST, "apic", "certificates", Some(&body)).await.json();
    let id = created["id"].as_str().unwrap();
    assert_eq!(cloud.attach(id, json!([{ "domain": "api.example.com" }])).await.status, 204);
    assert_eq!(cloud.attach(WITH_CA, json!([{ "domain": "www.example.com" }])).await.status, 204);
    let next = upload("updated", &pair(&["a.example.com"]));
    let of_one = |id: &str| format!("certificates/{id}");
    assert_eq!(cloud.call(Method::PUT, "apic", &of_one(FOR_ONE_INSTANCE), Some(&next)).await.status, 200);
    assert_eq!(cloud.call(Method::DELETE, "apic", &of_one(CERTIFICATE), None).await.status, 204);
    let before = cloud.everything().await;
    assert!(before.contains("created") && before.contains("updated") && !before.contains(CERTIFICATE));

    let again = kept_in(&path).await;
    assert_eq!(again.everything().await, before);
    let answer = again.call(Method::GET, "apic", &of_one(CERTIFICATE), None).await;
    assert_eq!(answer.status, 404);

    // No private key, for nobody else to read, and no trace of the write.
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("updated") && !text.contains("PRIVATE KEY"), "{text}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_that_is_unusable_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let certificate = |project: &str, instance: &str| {
        json!({
            "id": "c", "name": "name", "project": project, "instance": instance, "has_trusted_root_ca": false,
            "trusted_root_ca": null, "description": null, "create_time": null, "update_time": null,
        })
    };
    let binding = |certificate: &str, domain: &str| json!({ "domain": domain, "instance": SECOND, "certificate": certificate, "verifies_clients": false });
    let state = |changed: Value, bindings: Value| {
        json!({ "changed": changed, "deleted": [], "bindings": bindings }).to_string()
    };
    let twice = json!([certificate(PROJECT, SECOND), certificate(PROJECT, SECOND)]);
    for (text, complaint) in [
        (String::new(), "EOF"),
        ("{}".to_owned(), "missing field `changed`"),
        (r#"{"changed":[],"deleted":[],"bindings":[],"keys":[]}"#.to_owned(), "unknown field `keys`"),
        (state(twice, json!([])), "certificate id c is given more than once"),
        (state(json!([certificate("gone", SECOND)]), json!([])), "certificate c is in project gone"),
        (state(json!([certificate(PROJECT, "gone")]), json!([])), "certificate c is for instance gone"),
        (state(json!([]), json!([binding("gone", "d")])), "a binding is of certificate gone"),
        (state(json!([]), json!([binding(CERTIFICATE, "gone")])), "a binding is of domain gone on instance"),
        // The domain exists, but not on the instance.
        (
            state(json!([]), json!([binding(CERTIFICATE, "b05d8f2a6c714e93a7e4d1c9f8063b5e")])),
            "a binding is of domain b05d8f2a6c714e93a7e4d1c9f8063b5e on instance",
        ),
    ] {
        fs::write(&path, &text).unwrap();
        let error = refused(&path).await;
        assert!(error.starts_with(path.to_str().unwrap()) && error.contains(complaint), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "the file stays as it is");
    }
    let error = refused(folder.path()).await;
    assert!(error.starts_with(folder.path().to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_change_that_cannot_be_kept_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone").join("state.json");
    let cloud = kept_in(&path).await;
    let body = upload("created", &pair(&["api.example.com"]));
    let before = cloud.everything().await;
    let create = cloud.call(Method::POST, "apic", "certificates", Some(&body)).await;
    let update = cloud.call(Method::PUT, "apic", &format!("certificates/{CERTIFICATE}"), Some(&body)).await;
    let attach = cloud.attach(CERTIFICATE, json!([{ "domain": "api.example.com" }])).await;
    let delete = cloud.call(Method::DELETE, "apic", &format!("certificates/{CERTIFICATE}"), None).await;
    for answer in [create, update, attach, delete] {
        answer.is_service(500, "APIG.9999", "System error.");
    }
    assert_eq!(cloud.everything().await, before);

    fs::create_dir(path.parent().unwrap()).unwrap();
    assert_eq!(cloud.attach(CERTIFICATE, json!([{ "domain": "api.example.com" }])).await.status, 204);
    assert_eq!(kept_in(&path).await.attached(CERTIFICATE).await.len(), 1);
}
