//! The token API: issued tokens, their validity, and refusals.

use super::*;

fn asking(scope: Value) -> Value {
    let mut body = json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": {
        "name": "operator",
        "password": "demo-operator-password",
        "domain": { "name": "demo-account" },
    } } } } });
    if !scope.is_null() {
        body["auth"]["scope"] = scope;
    }
    body
}

impl Running {
    async fn ask(&self, body: &Value) -> Received {
        self.ask_with(body.to_string(), "application/json;charset=utf8").await
    }

    async fn ask_with(&self, body: String, content_type: &str) -> Received {
        let request = self.request(Method::POST, "/v3/auth/tokens?nocatalog=true");
        let answer = send(request.header("Content-Type", content_type).body(body)).await;
        assert_id(answer.header("x-iam-trace-id"));
        assert_id(answer.header("x-request-id"));
        answer
    }

    async fn list_with(&self, token: &str) -> Received {
        let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/attached-domains");
        send(self.request(Method::GET, &path).header("X-Auth-Token", token)).await
    }
}

#[tokio::test]
async fn a_project_token_is_described_as_documented() {
    let cloud = running().await;
    let answer = cloud.ask(&asking(json!({ "project": { "name": "cn-north-4" } }))).await;
    assert_eq!(answer.status, 201);
    assert!(answer.header("x-subject-token").len() > 2000);
    let account = json!({ "id": "demo-account", "name": "demo-account" });
    assert_eq!(
        answer.json(),
        json!({ "token": {
            "catalog": [],
            "issued_at": "2020-01-03T09:05:22.701000Z",
            "expires_at": "2020-01-04T09:05:22.701000Z",
            "methods": ["password"],
            "project": { "id": PROJECT, "name": "cn-north-4", "domain": account },
            "roles": [{ "id": "0", "name": "te_admin" }],
            "user": { "id": "operator", "name": "operator", "password_expires_at": "", "domain": account },
        } })
    );
}

#[tokio::test]
async fn an_issued_token_opens_its_project_for_24_hours() {
    let cloud = running().await;
    let answer = cloud.ask(&asking(json!({ "project": { "id": PROJECT } }))).await;
    let token = answer.header("x-subject-token");

    cloud.advance(Duration::from_secs(24 * 60 * 60 - 1));
    assert_eq!(cloud.list_with(token).await.status, 200);
    cloud.advance(Duration::from_secs(1));
    cloud.list_with(token).await.is_front(401, "APIG.0307", "The token must be updated.");
}

#[tokio::test]
async fn a_token_long_expired_is_forgotten_when_the_next_is_issued() {
    let cloud = running().await;
    let scope = asking(json!({ "project": { "id": PROJECT } }));
    let old = cloud.ask(&scope).await;
    cloud.advance(Duration::from_secs(48 * 60 * 60));
    let new = cloud.ask(&scope).await;
    let text = "Incorrect token or token resolution failed.";
    cloud.list_with(old.header("x-subject-token")).await.is_service(401, "APIG.1002", text);
    assert_eq!(cloud.list_with(new.header("x-subject-token")).await.status, 200);
}

#[tokio::test]
async fn a_new_token_does_not_end_the_old_one() {
    let cloud = running().await;
    let scope = asking(json!({ "project": { "id": PROJECT } }));
    let (old, new) = (cloud.ask(&scope).await, cloud.ask(&scope).await);
    assert_ne!(old.header("x-subject-token"), new.header("x-subject-token"));
    assert_eq!(cloud.list_with(old.header("x-subject-token")).await.status, 200);
}

#[tokio::test]
async fn a_token_of_another_project_is_refused_here() {
    let cloud = running().await;
    let answer = cloud.ask(&asking(json!({ "project": { "name": "cn-east-3" } }))).await;
    let refused = cloud.list_with(answer.header("x-subject-token")).await;
    refused.is_service(403, "APIG.1005", "No permissions to request this method");
}

#[tokio::test]
async fn a_token_of_the_account_or_of_no_scope_opens_no_project() {
    let cloud = running().await;
    for scope in
        [json!({ "domain": { "name": "demo-account" } }), json!({ "domain": { "id": "demo-account" } }), Value::Null]
    {
        let answer = cloud.ask(&asking(scope)).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json()["token"]["domain"]["name"], "demo-account");
        assert!(answer.json()["token"].get("project").is_none());
        let refused = cloud.list_with(answer.header("x-subject-token")).await;
        refused.is_service(401, "APIG.1003", "Token contains no project information.");
    }
}

#[tokio::test]
async fn of_both_scopes_the_project_wins() {
    let cloud = running().await;
    let scope = json!({ "project": { "id": PROJECT }, "domain": { "name": "demo-account" } });
    let answer = cloud.ask(&asking(scope)).await;
    assert_eq!(answer.json()["token"]["project"]["id"], PROJECT);
}

#[tokio::test]
async fn a_wrong_name_password_or_account_is_refused_in_keystones_form() {
    let cloud = running().await;
    for (field, value) in [("name", json!("nobody")), ("password", json!("x")), ("domain", json!({ "name": "x" }))] {
        let mut body = asking(json!({ "project": { "id": PROJECT } }));
        body["auth"]["identity"]["password"]["user"][field] = value;
        let answer = cloud.ask(&body).await;
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.body,
            r#"{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}"#
        );
    }
}

#[tokio::test]
async fn more_than_five_wrong_passwords_in_a_row_lock_the_account_for_a_quarter_of_an_hour() {
    let cloud = running().await;
    let right = asking(json!({ "project": { "id": PROJECT } }));
    let mut wrong = right.clone();
    wrong["auth"]["identity"]["password"]["user"]["password"] = json!("wrong");
    for round in 0..2 {
        for _ in 0..5 {
            assert_eq!(cloud.ask(&wrong).await.json()["error"]["code"], 401);
        }
        if round == 0 {
            // A success in between resets the count.
            assert_eq!(cloud.ask(&right).await.status, 201);
        }
    }
    cloud.ask(&wrong).await;
    cloud.ask(&right).await.is_service(401, "IAM.0061", "The account is locked.");
    cloud.advance(Duration::from_secs(15 * 60));
    assert_eq!(cloud.ask(&right).await.status, 201);
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let cloud = running().await;
    let good = asking(json!({ "project": { "id": PROJECT } })).to_string();
    for (body, content_type) in
        [(String::new(), "application/json"), ("{".to_owned(), "application/json"), (good, "text/plain")]
    {
        let answer = cloud.ask_with(body, content_type).await;
        answer.is_service(400, "IAM.0011", "Request body is invalid.");
    }
}

#[tokio::test]
async fn a_missing_or_mistyped_field_is_named_and_its_value_is_not_repeated() {
    let cloud = running().await;
    for (pointer, field) in [
        ("/auth/identity/methods", "auth.identity.methods"),
        ("/auth/identity/password/user/name", "auth.identity.password.user.name"),
        ("/auth/identity/password/user/password", "auth.identity.password.user.password"),
        ("/auth/identity/password/user/domain/name", "auth.identity.password.user.domain.name"),
        ("/auth/scope/project/id", "auth.scope.project.id"),
    ] {
        let mut body = asking(json!({ "project": { "id": PROJECT } }));
        *body.pointer_mut(pointer).unwrap() = json!(["a secret in the wrong place"]);
        let text = format!("Request parameter {field} is missing or invalid.");
        cloud.ask(&body).await.is_service(400, "IAM.0007", &text);
    }
    let text = "Request parameter auth.identity.methods is missing or invalid.";
    cloud.ask(&json!({})).await.is_service(400, "IAM.0007", text);
    let text = "Request parameter auth.scope.project.name is missing or invalid.";
    cloud.ask(&asking(json!({ "project": {} }))).await.is_service(400, "IAM.0007", text);
}

#[tokio::test]
async fn an_unknown_project_is_refused() {
    let cloud = running().await;
    for project in [json!({ "id": "none" }), json!({ "name": "none" })] {
        let answer = cloud.ask(&asking(json!({ "project": project }))).await;
        answer.is_service(400, "IAM.1109", "The project of the scope does not exist.");
    }
}

#[tokio::test]
async fn a_scope_that_is_not_the_users_is_refused() {
    let cloud = running().await;
    let mut body = asking(json!({ "project": { "id": OTHER_PROJECT } }));
    body["auth"]["identity"]["password"]["user"]["name"] = json!("auditor");
    body["auth"]["identity"]["password"]["user"]["password"] = json!("demo-auditor-password");
    let text = "The project of the scope is not the user's.";
    cloud.ask(&body).await.is_service(403, "IAM.0002", text);

    let answer = cloud.ask(&asking(json!({ "domain": { "name": "another-account" } }))).await;
    answer.is_service(403, "IAM.0002", "The account of the scope is not the user's.");
}
