//! Outages: each fails one service, in that service's format, and no other.

use super::*;

impl Running {
    async fn outage(&self, part: &str, outage: Value) -> Received {
        send(self.request(Method::PUT, &format!("/emulator/outages/{part}")).body(outage.to_string())).await
    }

    /// The status of a request to each service.
    async fn statuses(&self) -> Vec<(&str, u16)> {
        let api = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/attached-domains");
        let mut statuses = Vec::new();
        for (part, method, path) in [
            ("api", Method::GET, api.as_str()),
            ("iam", Method::GET, "/v3/projects"),
            ("sts", Method::POST, "/v5/agencies/assume-with-oidc"),
            ("metadata", Method::GET, "/openstack/latest/securitykey"),
            ("container", Method::POST, "/emulator/container/credentials"),
        ] {
            statuses.push((part, send(self.request(method, path)).await.status));
        }
        statuses
    }
}

#[tokio::test]
async fn one_service_fails_until_its_outage_is_removed() {
    let cloud = running().await;
    let well = [("api", 401), ("iam", 401), ("sts", 400), ("metadata", 401), ("container", 401)];
    assert_eq!(cloud.statuses().await, well);
    for (part, usual) in well {
        assert_eq!(cloud.outage(part, json!({ "status": 503 })).await.status, 204);
        let expected = well.map(|(other, status)| (other, if other == part { 503 } else { status }));
        assert_eq!(cloud.statuses().await, expected);
        assert_eq!(send(cloud.request(Method::DELETE, &format!("/emulator/outages/{part}"))).await.status, 204);
        assert!(cloud.statuses().await.contains(&(part, usual)));
    }
}

#[tokio::test]
async fn an_outage_of_every_third_request_may_let_the_change_through() {
    let cloud = running().await;
    cloud.outage("api", json!({ "status": 500, "every": 3, "processed": true })).await;
    for (domain, status) in [("apigtest.xxx.com", 204), ("www.example.com", 204), ("api.example.com", 500)] {
        assert_eq!(cloud.attach(CERTIFICATE, json!([{ "domain": domain }])).await.status, status, "{domain}");
    }
    let attached = cloud.attached(CERTIFICATE).await;
    assert!(attached.iter().any(|(domain, _, _)| domain == "api.example.com"), "{attached:?}");
    cloud.outage("api", json!({ "status": 503, "every": 1 })).await;
    assert_eq!(cloud.list(CERTIFICATE, "").await.status, 503);
}

#[tokio::test]
async fn a_failing_part_refuses_in_its_own_form() {
    let cloud = running().await;
    cloud.outage("api", json!({ "status": 429, "retry_after": 7 })).await;
    let throttled = cloud.list(CERTIFICATE, "").await;
    let text = "The throttling threshold has been reached: policy user over ratelimit,limit:100,time:1 minute";
    throttled.is_front(429, "APIG.0308", text);
    assert_eq!(throttled.header("retry-after"), "7");
    cloud.outage("api", json!({ "status": 500 })).await;
    cloud.list(CERTIFICATE, "").await.is_service(500, "APIG.9999", "System error.");

    let ask = || async { send(cloud.request(Method::POST, "/v3/auth/tokens")).await };
    cloud.outage("iam", json!({ "status": 429 })).await;
    let throttled = ask().await;
    throttled.is_service(429, "IAM.0012", "Threshold: 5 times per 60 seconds");
    assert_id(throttled.header("x-iam-trace-id"));
    cloud.outage("iam", json!({ "status": 503 })).await;
    assert_eq!(ask().await.json()["error"]["code"], 503);
}

#[tokio::test]
async fn a_slow_part_answers_as_ever_but_late() {
    let cloud = running().await;
    assert_eq!(cloud.outage("api", json!({ "delay": "30ms" })).await.status, 204);
    let began = std::time::Instant::now();
    assert_eq!(cloud.list(CERTIFICATE, "").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn what_is_no_outage_is_refused() {
    let cloud = running().await;
    for (outage, complaint) in [
        (json!({ "status": 404 }), "status 404 is not one of 429, 500, 503"),
        (json!({ "delay": "soon" }), "delay is not a time such as"),
        (json!({ "colour": "red" }), "unknown field `colour`"),
    ] {
        let answer = cloud.outage("iam", outage).await;
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && message.contains(complaint), "{message}");
    }
    assert_eq!(cloud.outage("moon", json!({ "status": 503 })).await.status, 404);
}
