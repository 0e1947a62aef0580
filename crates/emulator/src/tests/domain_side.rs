//! Attaching and detaching a certificate from the domain's side.

use super::*;

const STOREFRONT: &str = "92f4b6d08a3e4c71b5d9e0f7a1c8263d";
const SHOPS: &str = "48c0e7a9d5f14b32a6e1c8f3b7d0592e";
const WWW: &str = "3e7c15b9a0d84f62b6c9e1d7f4a2850b";
const API: &str = "b05d8f2a6c714e93a7e4d1c9f8063b5e";

fn path(instance: &str, group: &str, domain: &str) -> String {
    format!("instances/{instance}/api-groups/{group}/domains/{domain}/certificates")
}

fn one(certificate: &str) -> Value {
    json!({ "certificate_ids": [certificate] })
}

fn row(domain: &str, instance: &str, verified: bool) -> (String, String, bool) {
    (domain.to_owned(), instance.to_owned(), verified)
}

impl Running {
    async fn change(&self, change: &str, path: &str, body: &Value) -> Received {
        self.call(Method::POST, "apic", &format!("{path}/{change}"), Some(body)).await
    }
}

#[tokio::test]
async fn a_certificate_is_bound_on_the_instance_of_the_path_and_unbound_there() {
    let cloud = running().await;
    for family in ["apic", "apigw"] {
        let at = path(SECOND, STOREFRONT, WWW);
        let answer = cloud.call(Method::POST, family, &format!("{at}/attach"), Some(&one(CERTIFICATE))).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        assert_eq!(cloud.attached(CERTIFICATE).await, [row("www.example.com", SECOND, false)]);
        let answer = cloud.call(Method::POST, family, &format!("{at}/detach"), Some(&one(CERTIFICATE))).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        assert!(cloud.attached(CERTIFICATE).await.is_empty());
    }
}

#[tokio::test]
async fn detaching_leaves_other_instances_and_certificates_alone() {
    let cloud = running().await;
    assert_eq!(cloud.attach(CERTIFICATE, json!([{ "domain": "www.example.com" }])).await.status, 204);
    let at = path(FIRST, STOREFRONT, WWW);
    let text = "The binding record of this SSL certificate and domain name does not exist.";
    cloud.change("detach", &at, &one(WITH_CA)).await.is_service(404, "APIG.3097", text);
    let flagged = json!({ "certificate_ids": [CERTIFICATE], "verified_client_certificate_enabled": true });
    assert_eq!(cloud.change("detach", &at, &flagged).await.status, 204);
    assert_eq!(cloud.attached(CERTIFICATE).await, [row("www.example.com", SECOND, false)]);
    cloud.change("detach", &at, &one(CERTIFICATE)).await.is_service(404, "APIG.3097", text);
}

#[tokio::test]
async fn the_flag_has_the_rules_of_the_certificates_side() {
    let cloud = running().await;
    let at = path(FIRST, STOREFRONT, API);
    for (flag, verified) in [(None, true), (Some(false), false), (Some(true), true)] {
        let mut body = one(WITH_CA);
        if let Some(flag) = flag {
            body["verified_client_certificate_enabled"] = json!(flag);
        }
        assert_eq!(cloud.change("attach", &at, &body).await.status, 204);
        assert_eq!(cloud.attached(WITH_CA).await, [row("api.example.com", FIRST, verified)]);
    }
    let body = json!({ "certificate_ids": [CERTIFICATE], "verified_client_certificate_enabled": true });
    let answer = cloud.change("attach", &path(FIRST, STOREFRONT, WWW), &body).await;
    let text = parameter("Invalid parameter value", "verified_client_certificate_enabled");
    answer.is_service(400, "APIG.2011", &text);
}

#[tokio::test]
async fn a_domain_takes_no_second_certificate_from_either_side() {
    let cloud = running().await;
    let text = "A domain name cannot be bound with different certificates.";
    assert_eq!(cloud.change("attach", &path(FIRST, STOREFRONT, WWW), &one(CERTIFICATE)).await.status, 204);
    assert_eq!(cloud.change("attach", &path(FIRST, STOREFRONT, WWW), &one(CERTIFICATE)).await.status, 204);
    let answer = cloud.change("attach", &path(SECOND, STOREFRONT, WWW), &one(WITH_CA)).await;
    answer.is_service(400, "APIG.2051", text);
    cloud.attach(WITH_CA, json!([{ "domain": "www.example.com" }])).await.is_service(400, "APIG.2051", text);
}

#[tokio::test]
async fn exactly_one_certificate_is_named() {
    let cloud = running().await;
    let at = path(FIRST, STOREFRONT, WWW);
    for change in ["attach", "detach"] {
        for body in [json!({}), json!({ "certificate_ids": [] })] {
            let text = parameter("The request parameters must be specified", "certificate_ids");
            cloud.change(change, &at, &body).await.is_service(400, "APIG.2001", &text);
        }
        let two = json!({ "certificate_ids": [CERTIFICATE, CERTIFICATE] });
        let text = parameter("Invalid parameter value", "certificate_ids");
        cloud.change(change, &at, &two).await.is_service(400, "APIG.2011", &text);
        for (body, complaint) in [
            (json!({ "certificate_ids": [CERTIFICATE], "domain_id": WWW }), "unknown field `domain_id`"),
            (json!({ "certificate_ids": null }), "invalid type: null"),
            (json!({ "certificate_ids": [null] }), "invalid type: null"),
            (json!({ "certificate_ids": CERTIFICATE }), "invalid type: string"),
            (
                json!({ "certificate_ids": [CERTIFICATE], "verified_client_certificate_enabled": null }),
                "invalid type: null",
            ),
        ] {
            let answer = cloud.change(change, &at, &body).await;
            assert_eq!((answer.status, &answer.json()["error_code"]), (400, &json!("APIG.2000")), "{body}");
            assert!(answer.body.contains(complaint), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn each_part_of_the_path_must_exist_and_fit() {
    let cloud = running().await;
    let no_domain = (404, "APIG.3020", "The URL domain does not exist.");
    let other_group =
        "The API group ID in the URL does not match the API group to which the URL domain has been bound.";
    for (path, (status, code, text)) in [
        (path("nowhere", STOREFRONT, WWW), (404, "APIG.3030", "The instance does not exist;id:nowhere")),
        (path(FIRST, "nobody", WWW), (404, "APIG.3001", "API group nobody does not exist")),
        (path(FIRST, STOREFRONT, "nothing"), no_domain),
        (path(FIRST, SHOPS, WWW), (403, "APIG.3474", other_group)),
        (path(SECOND, STOREFRONT, API), no_domain),
    ] {
        for change in ["attach", "detach"] {
            cloud.change(change, &path, &one(CERTIFICATE)).await.is_service(status, code, text);
        }
    }
    let at = path(FIRST, STOREFRONT, WWW);
    cloud.change("attach", &at, &one("nothing")).await.is_service(404, "APIG.3025", "The certificate does not exist.");
    let text = parameter("Invalid parameter value", "certificate_ids");
    cloud.change("attach", &at, &one(FOR_ONE_INSTANCE)).await.is_service(400, "APIG.2011", &text);
    let at = path(SECOND, STOREFRONT, WWW);
    assert_eq!(cloud.change("attach", &at, &one(FOR_ONE_INSTANCE)).await.status, 204);
    let empty = cloud.change("attach", &path("", STOREFRONT, WWW), &one(CERTIFICATE)).await;
    assert_eq!((empty.status, &empty.json()["error_code"]), (404, &json!("APIG.0101")));
}

#[tokio::test]
async fn permission_faults_and_concurrent_changes_are_those_of_the_certificates_side() {
    let cloud = running().await;
    let at = path(FIRST, STOREFRONT, WWW);
    for change in ["attach", "detach"] {
        let request = cloud.request(Method::POST, &format!("/v2/{PROJECT}/apic/{at}/{change}"));
        let request = request.header("X-Auth-Token", AUDITOR).header("Content-Type", "application/json");
        let answer = send(request.body(one(CERTIFICATE).to_string())).await;
        answer.is_service(403, "APIG.1005", "No permissions to request this method");
        let throttled = one("6c81f2b04e7d4a39957a3d0e5b8c1f46");
        assert_eq!(cloud.change(change, &at, &throttled).await.status, 429);
    }
    let slow = |emulator: Emulator| emulator.with_change_time(Duration::from_secs(3_600));
    let cloud = running_as(World::documented(), slow).await;
    let body = one(CERTIFICATE);
    let (by_domain, by_certificate) =
        (cloud.change("attach", &at, &body), cloud.attach(CERTIFICATE, json!([{ "domain": "api.example.com" }])));
    let answer = tokio::select! {
        answer = by_domain => answer,
        answer = by_certificate => answer,
    };
    answer.is_service(500, "APIG.3500", "Failed to synchronize data to etcd.");
}
