//! Detaching domains: the form and the checks that it shares with attaching, and its own effects.

use super::*;

impl Running {
    async fn detach(&self, certificate: &str, domains: Value) -> Received {
        let path = format!("/v2/{PROJECT}/apic/certificates/{certificate}/domains/detach");
        let request = self.request(Method::POST, &path).header("X-Auth-Token", OPERATOR);
        send(request.header("Content-Type", "application/json").body(json!({ "domains": domains }).to_string())).await
    }

    async fn bound(&self, certificate: &str) -> Vec<(String, String)> {
        self.attached(certificate).await.into_iter().map(|(domain, instance, _)| (domain, instance)).collect()
    }
}

fn row(domain: &str, instance: &str) -> (String, String) {
    (domain.to_owned(), instance.to_owned())
}

const NOTHING_BOUND: (u16, &str, &str) = (400, "APIG.2000", "no valid domain name");

/// `CERTIFICATE` is bound to www (two instances) and api (one).
async fn with_bindings() -> Running {
    let cloud = running().await;
    let domains = json!([{ "domain": "www.example.com" }, { "domain": "api.example.com" }]);
    assert_eq!(cloud.attach(CERTIFICATE, domains).await.status, 204);
    cloud
}

#[tokio::test]
async fn without_instances_every_binding_of_the_domain_ends() {
    let cloud = with_bindings().await;
    let answer = cloud.detach(CERTIFICATE, json!([{ "domain": "www.example.com" }])).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(cloud.bound(CERTIFICATE).await, [row("api.example.com", FIRST)]);
}

#[tokio::test]
async fn with_instances_the_bindings_there_end() {
    let cloud = with_bindings().await;
    let domains =
        json!([{ "domain": "www.example.com", "instance_ids": [FIRST], "verified_client_certificate_enabled": true }]);
    assert_eq!(cloud.detach(CERTIFICATE, domains).await.status, 204);
    assert_eq!(cloud.bound(CERTIFICATE).await, [row("www.example.com", SECOND), row("api.example.com", FIRST)]);
}

#[tokio::test]
async fn a_call_that_names_no_bound_domain_is_refused() {
    let cloud = with_bindings().await;
    let (status, code, text) = NOTHING_BOUND;
    for domain in ["*.shop.example.com", "not.there.example.com"] {
        cloud.detach(CERTIFICATE, json!([{ "domain": domain }])).await.is_service(status, code, text);
    }
    assert_eq!(cloud.detach(CERTIFICATE, json!([{ "domain": "www.example.com" }])).await.status, 204);
    cloud.detach(CERTIFICATE, json!([{ "domain": "www.example.com" }])).await.is_service(status, code, text);
    // One that is bound carries the others.
    let mixed = json!([{ "domain": "www.example.com" }, { "domain": "api.example.com" }]);
    assert_eq!(cloud.detach(CERTIFICATE, mixed).await.status, 204);
    assert_eq!(cloud.bound(CERTIFICATE).await, []);
}

#[tokio::test]
async fn a_binding_of_another_certificate_stays() {
    let cloud = with_bindings().await;
    let (status, code, text) = NOTHING_BOUND;
    cloud.detach(WITH_CA, json!([{ "domain": "api.example.com" }])).await.is_service(status, code, text);
    assert_eq!(cloud.bound(CERTIFICATE).await.len(), 3);
}

#[tokio::test]
async fn an_instance_that_does_not_exist_is_named() {
    let cloud = with_bindings().await;
    let domains = json!([{ "domain": "www.example.com", "instance_ids": [FIRST, "nowhere"] }]);
    let answer = cloud.detach(CERTIFICATE, domains).await;
    answer.is_service(404, "APIG.3030", "The instance does not exist;id:nowhere");
    assert_eq!(cloud.bound(CERTIFICATE).await.len(), 3, "refusing, it changes nothing");
}

#[tokio::test]
async fn form_token_and_certificate_are_checked_as_for_attaching() {
    let cloud = with_bindings().await;
    cloud.detach(CERTIFICATE, json!([])).await.is_service(
        400,
        "APIG.2001",
        &parameter("The request parameters must be specified", "domains"),
    );
    let unknown = cloud.detach("0123456789abcdef0123456789abcdef", json!([{ "domain": "www.example.com" }])).await;
    unknown.is_service(404, "APIG.3025", "The certificate does not exist.");
    let path = format!("/v2/{PROJECT}/apigw/certificates/{CERTIFICATE}/domains/detach");
    let answer = send(cloud.request(Method::POST, &path).header("X-Auth-Token", AUDITOR)).await;
    answer.is_service(403, "APIG.1005", "No permissions to request this method");
    assert_eq!(cloud.bound(CERTIFICATE).await.len(), 3);
}
