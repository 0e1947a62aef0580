//! Temporary keys for each kind of workload.

use super::*;

async fn post(running: &Running, path: &str, headers: &[(&str, &str)], body: Value) -> Received {
    let request = running.request(Method::POST, path).header("Content-Type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    send(request.body(body.to_string())).await
}

const SECURITY_KEY: &str = "/openstack/latest/securitykey";

impl Running {
    async fn metadata_token(&self, seconds: &str) -> Received {
        let request = self.request(Method::PUT, "/meta-data/latest/api/token");
        send(request.header("X-Metadata-Token-Ttl-Seconds", seconds)).await
    }

    async fn security_key(&self, token: &str) -> Received {
        send(self.request(Method::GET, SECURITY_KEY).header("X-Metadata-Token", token)).await
    }
}

#[tokio::test]
async fn a_machine_needs_the_token_step() {
    let running = running().await;
    assert_eq!(send(running.request(Method::GET, SECURITY_KEY)).await.status, 401);
    assert_eq!(running.security_key("made up").await.status, 401);
    assert_eq!(send(running.request(Method::PUT, "/meta-data/latest/api/token")).await.status, 400);
    for life in ["0", "21601", "soon"] {
        assert_eq!(running.metadata_token(life).await.status, 400, "{life}");
    }
}

#[tokio::test]
async fn a_metadata_token_ends_when_it_was_to() {
    let running = running().await;
    let token = running.metadata_token("21600").await.body;
    let pair = running.security_key(&token).await.json()["credential"].take();
    assert_eq!(pair["expires_at"], "2020-01-04T09:05:22.701000Z");
    running.advance(Duration::from_secs(21_600));
    assert_eq!(running.security_key(&token).await.status, 401);
}

#[tokio::test]
async fn a_metadata_service_may_lack_the_token_step_and_a_machine_its_agency() {
    let world = |workloads: &str| {
        let users = r#"users = [{ name = "u", password = "p", account = "a", projects = [], may_attach = true }]"#;
        World::from_toml(&format!("{users}\nworkloads = [{workloads}]")).unwrap()
    };
    let without_step = running_in(world(r#"{ kind = "machine", user = "u", has_token_step = false }"#)).await;
    assert_eq!(without_step.metadata_token("60").await.status, 405);
    assert!(send(without_step.request(Method::GET, SECURITY_KEY)).await.json()["credential"]["access"].is_string());

    let without_agency = running_in(world("")).await;
    let token = without_agency.metadata_token("60").await.body;
    let refused = without_agency.security_key(&token).await;
    assert_eq!(refused.json()["error"]["message"], "Please configure Cloud Service Agency first");
}

#[tokio::test]
async fn a_container_shows_its_token() {
    let running = running().await;
    let path = "/emulator/container/credentials";
    let given = post(&running, path, &[("Authorization", "demo-container-token")], json!({})).await;
    assert!(given.json()["credential"]["securitytoken"].is_string());
    assert_eq!(post(&running, path, &[("Authorization", "another")], json!({})).await.status, 401);
}

#[tokio::test]
async fn sts_wants_provider_agency_and_token() {
    let running = running().await;
    let asked = json!({
        "provider_urn": "iam::demo-account:identityProviders:demo", "agency_urn": "iam::demo-account:agency:demo",
        "agency_session_name": "s", "id_token": "demo-oidc-token", "duration_seconds": 3600,
    });
    let path = "/v5/agencies/assume-with-oidc";
    let given = post(&running, path, &[], asked.clone()).await.json()["credentials"].take();
    assert_eq!(given["expiration"], "2020-01-03T10:05:22.701000Z");
    for (name, status) in [("provider_urn", 401), ("agency_urn", 401), ("id_token", 401), ("agency_session_name", 400)]
    {
        let mut wrong = asked.clone();
        wrong[name] = json!("");
        assert_eq!(post(&running, path, &[], wrong).await.status, status, "{name}");
    }
    let mut short = asked;
    short["duration_seconds"] = json!(60);
    let text = "Request parameter duration_seconds is missing or invalid.";
    post(&running, path, &[], short).await.is_service(400, "IAM.0007", text);
}

#[tokio::test]
async fn every_body_that_is_not_json_is_refused_in_iams_form() {
    let running = running().await;
    for path in ["/v5/agencies/assume-with-oidc", "/v3.0/OS-AUTH/id-token/tokens", "/v3.0/OS-CREDENTIAL/securitytokens"]
    {
        for (content_type, body) in [("application/json", "{"), ("text/plain", "{}")] {
            let request = running.request(Method::POST, path).header("Content-Type", content_type);
            send(request.body(body)).await.is_service(400, "IAM.0011", "Request body is invalid.");
        }
    }
    let odd = send(running.request(Method::GET, "/v3/projects?name=a&name=b").header("X-Auth-Token", OPERATOR)).await;
    odd.is_service(400, "IAM.0007", "Request parameter name is missing or invalid.");
}

#[tokio::test]
async fn a_federated_identity_gets_a_token_that_opens_only_the_way_to_keys() {
    let running = running().await;
    let body = json!({"auth": {"id_token": {"id": "demo-federated-token"}}});
    let given = post(&running, "/v3.0/OS-AUTH/id-token/tokens", &[("X-Idp-Id", "demo-provider")], body.clone()).await;
    assert_eq!(given.status, 201);
    let token = given.header("x-subject-token").to_owned();
    assert_eq!(post(&running, "/v3.0/OS-AUTH/id-token/tokens", &[("X-Idp-Id", "other")], body).await.status, 401);
    let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/attached-domains");
    assert_eq!(send(running.request(Method::GET, &path).header("X-Auth-Token", &token)).await.status, 401);
    let body = json!({"auth": {"identity": {"methods": ["token"], "token": {"duration_seconds": 900}}}});
    let path = "/v3.0/OS-CREDENTIAL/securitytokens";
    let keys = post(&running, path, &[("X-Auth-Token", &token)], body.clone()).await;
    assert_id(keys.header("x-iam-trace-id"));
    assert_eq!(keys.json()["credential"]["expires_at"], "2020-01-03T09:20:22.701000Z");
    assert_eq!(post(&running, path, &[("X-Auth-Token", "unknown")], body).await.status, 401);
}

#[tokio::test]
async fn projects_are_found_by_name_among_ones_own() {
    let running = running().await;
    let find = |name: &str, token: &'static str| {
        let path = format!("/v3/projects?name={name}");
        send(running.request(Method::GET, &path).header("X-Auth-Token", token))
    };
    let found = find("cn-north-4", OPERATOR).await.json()["projects"].take();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["id"]), (1, &json!(PROJECT)));
    assert_eq!(find("cn-east-3", AUDITOR).await.json()["projects"], json!([]));
    assert_eq!(find("cn-north-4", "unknown").await.status, 401);
}
