//! Certificates themselves: list, show, create, update and delete, under both product paths.

use super::uploads::{ca, pair, upload};
use super::*;

const FAMILIES: [&str; 2] = ["apic", "apigw"];
const NOT_FOUND: (u16, &str, &str) = (404, "APIG.3025", "The certificate does not exist.");

impl Running {
    async fn created(&self, family: &str, body: &Value) -> String {
        let answer = self.call(Method::POST, family, "certificates", Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    async fn show(&self, family: &str, certificate: &str) -> Received {
        self.call(Method::GET, family, &format!("certificates/{certificate}"), None).await
    }

    async fn update(&self, family: &str, certificate: &str, body: &Value) -> Received {
        self.call(Method::PUT, family, &format!("certificates/{certificate}"), Some(body)).await
    }

    async fn delete(&self, family: &str, certificate: &str) -> Received {
        self.call(Method::DELETE, family, &format!("certificates/{certificate}"), None).await
    }

    /// The names on a page, and the total.
    async fn names(&self, query: &str) -> (Vec<String>, u64) {
        let answer = self.call(Method::GET, "apigw", &format!("certificates?{query}"), None).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body = answer.json();
        let names: Vec<String> =
            body["certs"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(body["size"], names.len());
        (names, body["total"].as_u64().unwrap())
    }
}

#[tokio::test]
async fn a_certificate_lives_from_creation_to_deletion_in_both_families() {
    let cloud = running().await;
    for family in FAMILIES {
        let mut body = upload("cert_demo", &pair(&["a.example.com"]));
        body["type"] = json!("instance");
        body["instance_id"] = json!(SECOND);
        let id = cloud.created(family, &body).await;
        let shown = cloud.show(family, &id).await;
        assert_eq!((shown.status, &shown.json()["type"]), (200, &json!("instance")));
        assert_eq!(shown.json()["instance_id"], SECOND);

        cloud.advance(Duration::from_secs(60));
        let answer = cloud.update(family, &id, &upload("cert_next", &pair(&["b.example.com"]))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let next = cloud.show(family, &id).await.json();
        assert_eq!(answer.json(), next);
        for changed in ["name", "common_name", "san", "serial_number", "update_time"] {
            assert_ne!(next[changed], shown.json()[changed], "{changed}");
        }
        for kept in ["id", "type", "instance_id", "project_id", "create_time"] {
            assert_eq!(next[kept], shown.json()[kept], "{kept}");
        }

        let answer = cloud.delete(family, &id).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        let (status, code, text) = NOT_FOUND;
        cloud.show(family, &id).await.is_service(status, code, text);
        cloud.delete(family, &id).await.is_service(status, code, text);
        let body = upload("cert_demo", &pair(&["a.example.com"]));
        cloud.update(family, &id, &body).await.is_service(status, code, text);
    }
}

#[tokio::test]
async fn the_worlds_certificates_are_shown_with_the_content_that_they_have() {
    let cloud = running().await;
    let shown = cloud.show("apic", CERTIFICATE).await.json();
    assert_eq!((&shown["serial_number"], &shown["signature_algorithm"]), (&json!("4660"), &json!("SHA256-RSA")));
    assert_eq!(shown["san"], json!(["example.com", "*.example.com", "*.shop.example.com", "apigtest.xxx.com"]));
    let expected = json!({
        "id": WITH_CA, "name": "example_com_with_ca", "type": "global", "instance_id": "common",
        "project_id": PROJECT, "is_has_trusted_root_ca": true,
    });
    assert_eq!(cloud.show("apic", WITH_CA).await.json(), expected);
}

#[tokio::test]
async fn a_list_needs_its_instance_and_has_the_certificates_that_it_can_use() {
    let cloud = running().await;
    for query in ["", "?instance_id=", "?name=x"] {
        let answer = cloud.call(Method::GET, "apic", &format!("certificates{query}"), None).await;
        let text = parameter("The request parameters must be specified", "instance_id");
        answer.is_service(400, "APIG.2001", &text);
    }
    let (names, total) = cloud.names(&format!("instance_id={SECOND}")).await;
    assert_eq!((names.len(), total), (6, 6));
    assert!(names.contains(&"one_instance".to_owned()));
    let (names, total) = cloud.names(&format!("instance_id={FIRST}")).await;
    assert_eq!((names.len(), total), (5, 5));
    assert!(!names.contains(&"one_instance".to_owned()));
    assert_eq!(cloud.names("instance_id=nowhere").await, (vec![], 0));
}

#[tokio::test]
async fn rows_have_fewer_members_than_the_certificate() {
    let cloud = running().await;
    let answer =
        cloud.call(Method::GET, "apic", &format!("certificates?instance_id={FIRST}&algorithm_type=RSA"), None).await;
    let mut expected = cloud.show("apic", CERTIFICATE).await.json();
    let members = expected.as_object_mut().unwrap();
    for absent in [
        "version",
        "organization",
        "organizational_unit",
        "locality",
        "state",
        "country",
        "not_before",
        "serial_number",
        "issuer",
    ] {
        assert!(members.remove(absent).is_some(), "{absent}");
    }
    assert_eq!(answer.json(), json!({ "size": 1, "total": 1, "certs": [expected] }));
}

#[tokio::test]
async fn filters_and_pages_select_rows() {
    let cloud = running().await;
    for number in 0..3 {
        cloud.created("apic", &upload(&format!("list_{number}"), &pair(&["list.example.com"]))).await;
    }
    let all = ["list_0", "list_1", "list_2"].map(str::to_owned).to_vec();
    for (filter, names) in [
        ("name=list_", all.clone()),
        ("common_name=list.example", all.clone()),
        ("signature_algorithm=SHA256-ECDSA&type=global", all.clone()),
        ("algorithm_type=ECC", all.clone()),
        ("algorithm_type=ECC&type=instance", vec![]),
        ("type=instance", vec!["one_instance".to_owned()]),
        ("name=list_&common_name=other", vec![]),
    ] {
        let total = names.len() as u64;
        assert_eq!(cloud.names(&format!("instance_id={SECOND}&{filter}")).await, (names, total), "{filter}");
    }
    for (page, range) in [
        ("limit=2", 0..2),
        ("offset=2&limit=2", 2..3),
        ("offset=3", 0..0),
        ("offset=-1&limit=0", 0..3),
        ("limit=1000", 0..3),
    ] {
        let query = format!("instance_id={SECOND}&name=list_&{page}");
        assert_eq!(cloud.names(&query).await, (all[range].to_vec(), 3), "{page}");
    }
    let answer = cloud.call(Method::GET, "apic", "certificates?instance_id=i&limit=x", None).await;
    assert_eq!((answer.status, &answer.json()["error_code"]), (400, &json!("APIG.2000")));
}

#[tokio::test]
async fn the_scope_of_a_certificate_stays() {
    let cloud = running().await;
    for (certificate, kind, instance) in [
        (CERTIFICATE, "instance", Some(FIRST)),
        (FOR_ONE_INSTANCE, "global", None),
        (FOR_ONE_INSTANCE, "instance", Some(FIRST)),
    ] {
        let mut body = upload("cert", &pair(&["www.example.com"]));
        body["type"] = json!(kind);
        if let Some(instance) = instance {
            body["instance_id"] = json!(instance);
        }
        let answer = cloud.update("apic", certificate, &body).await;
        answer.is_service(400, "APIG.2011", &parameter("Invalid parameter value", "type"));
    }
    let mut body = upload("cert", &pair(&["www.example.com"]));
    body["type"] = json!("instance");
    body["instance_id"] = json!(SECOND);
    assert_eq!(cloud.update("apic", FOR_ONE_INSTANCE, &body).await.json()["instance_id"], SECOND);
}

#[tokio::test]
async fn a_new_ca_turns_the_verification_of_clients_off() {
    let cloud = running().await;
    let mut body = upload("cert", &pair(&["api.example.com"]));
    body["trusted_root_ca"] = json!(ca());
    let id = cloud.created("apic", &body).await;
    let attach = json!([{ "domain": "api.example.com" }]);
    let verified = async || cloud.attached(&id).await[0].2;
    assert_eq!(cloud.attach(&id, attach.clone()).await.status, 204);
    assert!(verified().await, "on by default with a CA");

    assert_eq!(cloud.update("apic", &id, &body).await.status, 200);
    assert!(verified().await, "the same CA changes nothing");

    body["trusted_root_ca"] = json!(ca());
    assert_eq!(cloud.update("apic", &id, &body).await.status, 200);
    assert!(!verified().await, "another CA");

    assert_eq!(cloud.attach(&id, attach).await.status, 204);
    assert!(verified().await);
    body.as_object_mut().unwrap().remove("trusted_root_ca");
    assert_eq!(cloud.update("apic", &id, &body).await.json()["is_has_trusted_root_ca"], false);
    assert!(!verified().await, "no CA");
}

#[tokio::test]
async fn a_bound_certificate_cannot_be_deleted() {
    let cloud = running().await;
    assert_eq!(cloud.attach(CERTIFICATE, json!([{ "domain": "api.example.com" }])).await.status, 204);
    cloud.delete("apic", CERTIFICATE).await.is_service(403, "APIG.3400", "The resource cannot be changed.");
    assert_eq!(cloud.attached(CERTIFICATE).await.len(), 1);
    let detach = json!({ "domains": [{ "domain": "api.example.com" }] });
    let path = format!("certificates/{CERTIFICATE}/domains/detach");
    assert_eq!(cloud.call(Method::POST, "apic", &path, Some(&detach)).await.status, 204);
    assert_eq!(cloud.delete("apic", CERTIFICATE).await.status, 204);
    let (status, code, text) = NOT_FOUND;
    cloud.attach(CERTIFICATE, json!([{ "domain": "api.example.com" }])).await.is_service(status, code, text);
}

#[tokio::test]
async fn a_domain_takes_only_a_certificate_of_its_name() {
    let cloud = running().await;
    let text = "The certificate domain name and the custom domain name do not match.";
    for (name, fits) in [
        ("*.shop.example.com", ["*.shop.example.com"].as_slice()),
        ("*.example.com", &["www.example.com", "api.example.com"]),
        ("WWW.example.com.", &["www.example.com"]),
        ("example.com", &[]),
    ] {
        let id = cloud.created("apic", &upload("cert", &pair(&[name]))).await;
        for domain in ["www.example.com", "api.example.com", "*.shop.example.com", "apigtest.xxx.com"] {
            let answer = cloud.attach(&id, json!([{ "domain": domain }])).await;
            if fits.contains(&domain) {
                assert_eq!(answer.status, 204, "{name} {domain}");
            } else {
                answer.is_service(400, "APIG.2103", text);
            }
        }
        let bound: Vec<Value> = fits.iter().map(|domain| json!({ "domain": domain })).collect();
        if !bound.is_empty() {
            let path = format!("certificates/{id}/domains/detach");
            let body = json!({ "domains": bound });
            assert_eq!(cloud.call(Method::POST, "apic", &path, Some(&body)).await.status, 204);
        }
    }
}

#[tokio::test]
async fn changes_need_the_permission_and_reads_only_the_project() {
    let cloud = running().await;
    let body = upload("cert", &pair(&["a.example.com"])).to_string();
    for family in FAMILIES {
        let of_all = format!("/v2/{PROJECT}/{family}/certificates");
        let of_one = format!("{of_all}/{CERTIFICATE}");
        let query = format!("{of_all}?instance_id={FIRST}");
        for (method, path, audited) in [
            (Method::POST, &of_all, 403),
            (Method::PUT, &of_one, 403),
            (Method::DELETE, &of_one, 403),
            (Method::GET, &of_one, 200),
            (Method::GET, &query, 200),
        ] {
            let request = |path: &str| {
                cloud.request(method.clone(), path).header("Content-Type", "application/json").body(body.clone())
            };
            let answer = send(request(path).header("X-Auth-Token", AUDITOR)).await;
            assert_eq!(answer.status, audited, "{method} {path}");
            if audited == 403 {
                answer.is_service(403, "APIG.1005", "No permissions to request this method");
            }
            send(request(path)).await.is_front(
                401,
                "APIG.0301",
                "Incorrect IAM authentication information: x-auth-token not found",
            );
            let elsewhere = path.replace(PROJECT, OTHER_PROJECT);
            let answer = send(request(&elsewhere).header("X-Auth-Token", OPERATOR)).await;
            answer.is_service(403, "APIG.1005", "No permissions to request this method");
        }
    }
    assert_eq!(cloud.show("apic", CERTIFICATE).await.status, 200);
}

#[tokio::test]
async fn faults_and_concurrent_changes_are_those_of_every_change() {
    let cloud = running().await;
    let body = upload("cert", &pair(&["a.example.com"]));
    let throttled = "6c81f2b04e7d4a39957a3d0e5b8c1f46";
    assert_eq!(cloud.delete("apic", throttled).await.status, 429);
    assert_eq!(cloud.update("apic", throttled, &body).await.status, 429);
    assert_eq!(cloud.show("apic", throttled).await.json()["name"], "always_throttled");

    let slow = |emulator: Emulator| emulator.with_change_time(Duration::from_secs(3_600));
    let cloud = running_as(World::documented(), slow).await;
    let (update, delete) = (cloud.update("apic", WITH_CA, &body), cloud.delete("apic", WITH_CA));
    let answer = tokio::select! {
        answer = update => answer,
        answer = delete => answer,
    };
    // The deletion may have been the first: then there is nothing left to update.
    if answer.status == 500 {
        answer.is_service(500, "APIG.3500", "Failed to synchronize data to etcd.");
    } else {
        answer.is_service(NOT_FOUND.0, NOT_FOUND.1, NOT_FOUND.2);
    }
}
