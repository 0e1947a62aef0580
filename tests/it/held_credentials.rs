//! What the gateway holds or fetches: IAM and its kin are scripted clouds too.

use std::time::{Duration, Instant, SystemTime};

use tonic::{Code, Request};

use crate::support::{Cloud, Failed, Gateway, Plan, Reply, documented, failed, on_certificate, soon};

/// An IAM token of so many seconds.
pub(crate) fn token(value: &str, life: u64) -> Reply {
    let date = |seconds| {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        humantime::format_rfc3339_micros(moment).to_string()
    };
    let body = format!(r#"{{"token":{{"issued_at":"{}","expires_at":"{}"}}}}"#, date(0), date(life));
    Reply::with(201, &[("X-Subject-Token", value), ("Content-Type", "application/json")], body.as_bytes())
}

/// Temporary keys of an hour, under these names.
pub(crate) fn keys(wrapper: &str, names: [&str; 4]) -> Reply {
    let expires = humantime::format_rfc3339_micros(SystemTime::now() + Duration::from_secs(3600)).to_string();
    let pairs = names.iter().zip(["TEMPKEY", "temp-secret", "temp-token", &expires]);
    let pairs: Vec<String> = pairs.map(|(name, value)| format!(r#""{name}":"{value}""#)).collect();
    Reply::json(201, &format!(r#"{{"{wrapper}":{{{}}}}}"#, pairs.join(",")))
}

pub(crate) fn with_password(cloud: &Cloud, iam: &Cloud) -> Plan {
    Gateway::facing(cloud.address)
        .with("credentials", "password")
        .with("iam-endpoint", format!("http://{}", iam.address))
        .with("user-name", "operator")
        .with("account-name", "acme")
        .with("password", "p\"ss wörd")
        .with("project-name", "cn-north-4")
}

pub(crate) fn with_keys(cloud: &Cloud) -> Plan {
    Gateway::facing(cloud.address)
        .with("credentials", "aksk")
        .with("access-key-id", "AKEXAMPLE")
        .with("secret-access-key", "sk-canary")
}

/// Calls without a token, as callers may that need none.
pub(crate) async fn attach(gateway: &Gateway) -> Result<(), Failed> {
    let result = gateway.caller().await.send(Request::new(documented())).await;
    result.map(drop).map_err(|status| failed::<()>(Err(status)))
}

/// The tokens of the requests that reached the cloud.
pub(crate) fn tokens(cloud: &Cloud) -> Vec<String> {
    cloud.seen().iter().map(|seen| seen.header("x-auth-token").unwrap_or("none").to_owned()).collect()
}

#[tokio::test]
async fn a_password_gives_a_token_for_all_calls() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([token("one", 86_400)]).await;
    let gateway = with_password(&cloud, &iam).start().await;
    attach(&gateway).await.unwrap();
    // The caller's own token stays here.
    gateway.caller().await.attach(documented()).await.unwrap();
    assert_eq!(tokens(&cloud), ["one", "one"]);
    let asked = iam.only_request();
    assert_eq!(asked.line, "POST /v3/auth/tokens");
    assert_eq!(asked.header("content-type"), Some("application/json;charset=utf8"));
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let expected = serde_json::json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": "operator", "password": "p\"ss wörd", "domain": {"name": "acme"},
        }}},
        "scope": {"project": {"name": "cn-north-4"}},
    }});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_thousand_calls_at_the_end_of_a_token_make_one_more() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([token("one", 2), token("two", 86_400)]).await;
    let gateway = with_password(&cloud, &iam).start().await;
    let caller = gateway.caller().await;
    let calls: Vec<_> = (0..1000)
        .map(|number: usize| {
            let caller = caller.clone();
            tokio::spawn(async move {
                // Over the time in which the first one ends.
                tokio::time::sleep(Duration::from_micros(2_500 * number as u64)).await;
                caller.send(Request::new(on_certificate(number))).await
            })
        })
        .collect();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    assert_eq!(iam.seen().len(), 2);
    let tokens = tokens(&cloud);
    assert_eq!(tokens.len(), 1000);
    assert!(tokens.iter().all(|token| token == "one" || token == "two"), "{tokens:?}");
}

#[tokio::test]
async fn iam_may_be_down_as_long_as_a_token_lives() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([token("one", 4), Reply::with(503, &[], b"")]).await;
    let began = Instant::now();
    let gateway = with_password(&cloud, &iam).start().await;
    attach(&gateway).await.unwrap();
    // The first renewal that fails.
    iam.requests(2).await;
    let ended = async {
        loop {
            if let Err(failure) = attach(&gateway).await {
                break failure;
            }
        }
    };
    let failure = tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(4), "a call failed while the token lived");
    assert_eq!(failure.verdict(), (Code::Unavailable, "CREDENTIALS_UNAVAILABLE"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert!(failure.status.message().contains("IAM answered 503"), "{:?}", failure.status);
    assert!(failure.details.retry_info().unwrap().retry_delay.is_some());
    assert!(tokens(&cloud).iter().all(|token| token == "one"));
    let metrics = gateway.admin("/metrics").await.1;
    let count = |result: &str| {
        let start = format!("apig_gateway_credential_renewals_total{{identity=\"default\",result=\"{result}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok()).unwrap()
    };
    assert_eq!(count("fetched"), 1);
    assert!(count("failed") >= 1);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once_and_the_call_repeated_once() {
    for code in ["APIG.0307", "APIG.1002", "APIG.0301"] {
        let revoked = Reply::refused(401, code, "The token must be updated.");
        let cloud = Cloud::answering([Reply::attached(), revoked, Reply::attached()]).await;
        let iam = Cloud::answering([token("one", 86_400), token("two", 86_400)]).await;
        let gateway = with_password(&cloud, &iam).start().await;
        attach(&gateway).await.unwrap();
        // One that is refused as soon as it is there is not replaced.
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        attach(&gateway).await.unwrap();
        assert_eq!(tokens(&cloud), ["one", "one", "two"], "{code}");
        assert_eq!(iam.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_again_is_the_operators_to_mend() {
    let cloud = Cloud::answering([Reply::refused(401, "APIG.0307", "The token must be updated.")]).await;
    let iam = Cloud::answering([token("one", 86_400), token("two", 86_400), token("three", 86_400)]).await;
    let gateway = with_password(&cloud, &iam).start().await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let failure = attach(&gateway).await.unwrap_err();
    assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert_eq!(failure.fact("error_code"), Some("APIG.0307"));
    assert_eq!(tokens(&cloud), ["one", "two"]);
}

#[tokio::test]
async fn a_wrong_password_is_the_operators_to_mend_and_is_not_tried_again_by_each_call() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let wrong = r#"{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}"#;
    let iam = Cloud::answering([Reply::json(401, wrong)]).await;
    let gateway = with_password(&cloud, &iam).start().await;
    for _ in 0..5 {
        let failure = attach(&gateway).await.unwrap_err();
        assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
        assert_eq!(failure.fact("outcome"), Some("not_sent"));
        assert!(failure.status.message().contains("401, The username or password is wrong."), "{:?}", failure.status);
    }
    assert_eq!(iam.seen().len(), 1, "wrong passwords lock the account");
    assert_eq!(cloud.seen().len(), 0);
    assert_eq!(gateway.admin("/readyz").await.0, 503);
    assert_eq!(gateway.admin("/livez").await.0, 200);
}

#[tokio::test]
async fn readiness_waits_for_the_first_credential() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([Reply::with(500, &[], b""), token("one", 86_400)]).await;
    let gateway = with_password(&cloud, &iam).start().await;
    iam.requests(1).await;
    assert_eq!(gateway.admin("/readyz").await.0, 503);
    assert!(!crate::discovery::is_serving(&gateway, "readiness").await);
    assert!(crate::discovery::is_serving(&gateway, "liveness").await);
    let ready = async { while gateway.admin("/readyz").await.0 != 200 {} };
    soon(ready).await;
    assert!(crate::discovery::is_serving(&gateway, "readiness").await);
    attach(&gateway).await.unwrap();
}

#[tokio::test]
async fn a_callers_deadline_bounds_its_wait_for_a_token() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([Reply::hang()]).await;
    // The gateway's own bound: beside a deadline of the caller's the client would have a timer too.
    let gateway = with_password(&cloud, &iam).with("timeout", "200ms").start().await;
    let failure = attach(&gateway).await.unwrap_err();
    assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert_eq!(cloud.seen().len(), 0);
}

#[tokio::test]
async fn keys_sign_each_request_and_tell_nothing_else() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = with_keys(&cloud).with("security-token", "st-canary").start().await;
    gateway.caller().await.attach(documented()).await.unwrap();
    let seen = cloud.only_request();
    let authorization = seen.header("authorization").unwrap();
    assert!(
        authorization.starts_with(
            "SDK-HMAC-SHA256 Access=AKEXAMPLE, SignedHeaders=accept;content-type;host;x-project-id;x-sdk-date;\
             x-security-token, Signature="
        ),
        "{authorization}"
    );
    assert_eq!(seen.header("host").unwrap(), cloud.address.to_string());
    assert_eq!(seen.header("x-project-id").unwrap(), documented().project_id);
    assert_eq!(seen.header("x-security-token"), Some("st-canary"));
    assert_eq!(seen.header("x-auth-token"), None);
    assert!(seen.header("x-request-id").is_some());
    assert!(!format!("{seen:?}").contains("sk-canary"));
}

#[tokio::test]
async fn each_attempt_is_signed_anew() {
    let busy = Reply::with(503, &[("Retry-After", "1")], b"");
    let cloud = Cloud::answering([busy, Reply::attached()]).await;
    let gateway = with_keys(&cloud).start().await;
    attach(&gateway).await.unwrap();
    let dates: Vec<_> = cloud.seen().iter().map(|seen| seen.header("x-sdk-date").unwrap().to_owned()).collect();
    assert_eq!(dates.len(), 2);
    assert_ne!(dates[0], dates[1], "a date from before the pause");
}

#[tokio::test]
async fn a_refused_signature_is_never_repeated_and_a_wrong_clock_is_named() {
    let head = [("Date", "Wed, 21 Oct 2015 07:28:00 GMT"), ("Content-Type", "application/json")];
    let body = br#"{"error_code":"APIG.0301","error_msg":"Incorrect IAM authentication information: verify aksk signature fail"}"#;
    let cloud = Cloud::answering([Reply::with(401, &head, body)]).await;
    let gateway = with_keys(&cloud).start().await;
    let failure = attach(&gateway).await.unwrap_err();
    assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert_eq!(failure.fact("error_code"), Some("APIG.0301"));
    assert!(failure.status.message().contains("ahead of the cloud's"), "{:?}", failure.status);
    let skew: u64 = failure.fact("clock_skew").unwrap().strip_suffix('s').unwrap().parse().unwrap();
    assert!(skew > 300_000_000);
    assert_eq!(cloud.seen().len(), 1, "failed signatures in a row lock the key pair");
}

#[tokio::test]
async fn the_metadata_service_gives_keys() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let step = Reply::with(200, &[], b"metadata-token\n");
    let given = keys("credential", ["access", "secret", "securitytoken", "expires_at"]);
    for (script, asks_with) in [
        (vec![step, given.clone()], Some("metadata-token")),
        // Older machines have no token step.
        (vec![Reply::with(405, &[], b""), given.clone()], None),
        (vec![Reply::with(404, &[], b""), given], None),
    ] {
        let service = Cloud::answering(script).await;
        let plan = Gateway::facing(cloud.address).with("credentials", "metadata");
        let gateway = plan.with("metadata-endpoint", format!("http://{}", service.address)).start().await;
        attach(&gateway).await.unwrap();
        let asked = service.seen();
        assert_eq!(asked[0].line, "PUT /meta-data/latest/api/token");
        assert_eq!(asked[0].header("x-metadata-token-ttl-seconds"), Some("21600"));
        assert_eq!(asked[1].line, "GET /openstack/latest/securitykey");
        assert_eq!(asked[1].header("x-metadata-token"), asks_with);
        let seen = cloud.seen().pop().unwrap();
        assert!(seen.header("authorization").unwrap().contains("Access=TEMPKEY,"));
        assert_eq!(seen.header("x-security-token"), Some("temp-token"));
    }
}

#[tokio::test]
async fn a_container_has_an_identity_of_its_own() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let given = keys("credential", ["access_key_id", "secret_access_key", "security_token", "expiration"]);
    let service = Cloud::answering([given]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "pod-token\n").unwrap();
    let gateway = Gateway::facing(cloud.address)
        .with("credentials", "container")
        .variable("HC_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/v1/credentials?a=b", service.address))
        .variable("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap())
        .start()
        .await;
    attach(&gateway).await.unwrap();
    let asked = service.only_request();
    assert_eq!(asked.line, "POST /v1/credentials?a=b");
    assert_eq!((asked.header("authorization"), asked.body.as_str()), (Some("pod-token"), "{}"));
    assert!(cloud.only_request().header("authorization").unwrap().contains("Access=TEMPKEY,"));
}

#[tokio::test]
async fn a_workload_proves_itself_to_sts() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let sts =
        Cloud::answering([keys("credentials", ["access_key_id", "secret_access_key", "security_token", "expiration"])])
            .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "oidc-token\n").unwrap();
    let gateway = Gateway::facing(cloud.address)
        .with("credentials", "oidc")
        .with("sts-endpoint", format!("http://{}", sts.address))
        .variable("HUAWEICLOUD_OIDC_PROVIDER_URN", "urn:provider")
        .variable("HUAWEICLOUD_OIDC_AGENCY_URN", "urn:agency")
        .variable("HUAWEICLOUD_OIDC_TOKEN_FILE", file.to_str().unwrap())
        .start()
        .await;
    attach(&gateway).await.unwrap();
    let asked = sts.only_request();
    assert_eq!(asked.line, "POST /v5/agencies/assume-with-oidc");
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let expected = serde_json::json!({
        "provider_urn": "urn:provider", "agency_urn": "urn:agency", "agency_session_name": "oidc-sts-session",
        "id_token": "oidc-token", "duration_seconds": 3600,
    });
    assert_eq!(body, expected);
    assert!(cloud.only_request().header("authorization").unwrap().contains("Access=TEMPKEY,"));
}

#[tokio::test]
async fn a_federated_identity_gets_keys_from_iam() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let given = keys("credential", ["access", "secret", "securitytoken", "expires_at"]);
    let iam = Cloud::answering([token("unscoped", 600), given]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "id-token").unwrap();
    let gateway = Gateway::facing(cloud.address)
        .with("credentials", "auto")
        .variable("HUAWEICLOUD_SDK_IAM_ENDPOINT", format!("http://{}", iam.address))
        .variable("HUAWEICLOUD_SDK_IDP_ID", "idp")
        .variable("HUAWEICLOUD_SDK_ID_TOKEN_FILE", file.to_str().unwrap())
        .start()
        .await;
    attach(&gateway).await.unwrap();
    let asked = iam.seen();
    assert_eq!(asked[0].line, "POST /v3.0/OS-AUTH/id-token/tokens");
    assert_eq!(asked[0].header("x-idp-id"), Some("idp"));
    assert_eq!(asked[1].line, "POST /v3.0/OS-CREDENTIAL/securitytokens");
    assert_eq!(asked[1].header("x-auth-token"), Some("unscoped"));
    assert!(cloud.only_request().header("authorization").unwrap().contains("Access=TEMPKEY,"));
}

#[tokio::test]
async fn each_project_has_its_own_identity_and_others_are_refused() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([token("of-two", 86_400)]).await;
    let file = format!(
        "iam_endpoint = 'http://{}'\n\
         [[identities]]\nproject_id = 'one'\ncredentials = 'aksk'\naccess_key_id = 'AK1'\nsecret_access_key = 's'\n\
         [[identities]]\nproject_id = 'two'\ncredentials = 'password'\nuser_name = 'u'\naccount_name = 'a'\n\
         password = 'p'\n",
        iam.address
    );
    let gateway = Gateway::facing(cloud.address).file(file).start().await;
    let caller = gateway.caller().await;
    let of = |project: &str| {
        let mut request = documented();
        request.project_id = project.into();
        request
    };
    caller.attach(of("one")).await.unwrap();
    caller.attach(of("two")).await.unwrap();
    let failure = failed(caller.attach(of("three")).await);
    assert_eq!(failure.verdict(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
    assert_eq!(failure.fact("project_id"), Some("three"));
    let seen = cloud.seen();
    assert!(seen[0].header("authorization").unwrap().contains("Access=AK1,"));
    assert_eq!(seen[1].header("x-auth-token"), Some("of-two"));
    assert_eq!(seen.len(), 2);
    let body: serde_json::Value = serde_json::from_str(&iam.only_request().body).unwrap();
    assert_eq!(body["auth"]["scope"], serde_json::json!({"project": {"id": "two"}}));
}
