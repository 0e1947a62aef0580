//! Identity services that ask for too much, give too little, or are down.

use std::time::Duration;

use tonic::Code;

use crate::{
    held_credentials::{attach, keys, token, tokens, with_password},
    support::{Cloud, Failed, Gateway, Reply, soon},
};

/// No credential for now, and the pause until the next try.
fn unavailable(failure: &Failed) -> Duration {
    assert_eq!(failure.verdict(), (Code::Unavailable, "CREDENTIALS_UNAVAILABLE"), "{:?}", failure.status);
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    failure.details.retry_info().unwrap().retry_delay.unwrap()
}

#[tokio::test]
async fn no_retry_after_delays_a_fetch_by_more_than_a_minute_nor_ends_it() {
    for asked in ["18446744073709551615", "99999999999999999999999", "21600", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        for status in [429, 503] {
            let cloud = Cloud::answering([Reply::attached()]).await;
            let iam = Cloud::answering([Reply::with(status, &[("Retry-After", asked)], b"")]).await;
            let gateway = with_password(&cloud, &iam).start().await;
            for _ in 0..2 {
                let wait = unavailable(&attach(&gateway).await.unwrap_err());
                assert!(wait > Duration::from_secs(40) && wait <= Duration::from_secs(60), "{asked}: {wait:?}");
            }
            assert_eq!((iam.seen().len(), cloud.seen().len()), (1, 0), "{asked}");
            let metrics = gateway.admin("/metrics").await.1;
            assert!(metrics.contains("apig_gateway_task_panics_total 0"));
            assert!(metrics.contains("apig_gateway_credential_state{identity=\"default\",state=\"failed\"} 1"));
        }
    }
}

#[tokio::test]
async fn a_token_that_ends_when_it_is_issued_is_no_reason_to_log_in_again_at_once() {
    for life in [0, -3_600_i64] {
        let moment = |seconds: i64| {
            let since = Duration::from_secs((1_700_000_000 + seconds).unsigned_abs());
            humantime::format_rfc3339_micros(std::time::UNIX_EPOCH + since).to_string()
        };
        let body = format!(r#"{{"token":{{"issued_at":"{}","expires_at":"{}"}}}}"#, moment(0), moment(life));
        let ended = Reply::with(201, &[("X-Subject-Token", "one")], body.as_bytes());
        let cloud = Cloud::answering([Reply::attached()]).await;
        let iam = Cloud::answering([ended]).await;
        let gateway = with_password(&cloud, &iam).start().await;
        let failure = attach(&gateway).await.unwrap_err();
        assert!(unavailable(&failure) <= Duration::from_secs(1));
        assert!(failure.status.message().contains("issued an expired credential"), "{:?}", failure.status);
        // The first pause is half a second at least.
        assert!(iam.seen().len() <= 2, "{} logins", iam.seen().len());
        assert_eq!(cloud.seen().len(), 0);
    }
}

#[tokio::test]
async fn a_life_of_ages_breaks_nothing() {
    let body = r#"{"token":{"issued_at":"0001-01-01T00:00:00Z","expires_at":"9999-12-31T23:59:59Z"}}"#;
    let body = body.replace("0001", "1970");
    let endless = Reply::with(201, &[("X-Subject-Token", "one")], body.as_bytes());
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([endless]).await;
    let gateway = with_password(&cloud, &iam).start().await;
    attach(&gateway).await.unwrap();
    let metrics = gateway.admin("/metrics").await.1;
    assert!(metrics.contains("apig_gateway_credential_state{identity=\"default\",state=\"valid\"} 1"));
    assert_eq!(iam.seen().len(), 1);
}

#[tokio::test]
async fn statuses_that_say_nothing_of_the_gateway_are_an_outage() {
    // Side by side, since each takes a second.
    let statuses = [400, 404, 405, 407, 408, 409, 410, 421, 423, 425, 426, 429, 451, 500, 502, 503, 504];
    let mut outages = tokio::task::JoinSet::new();
    for status in statuses {
        outages.spawn(async move {
            let cloud = Cloud::answering([Reply::attached()]).await;
            let iam = Cloud::answering([Reply::with(status, &[], b"<html>nginx</html>"), token("one", 86_400)]).await;
            let gateway = with_password(&cloud, &iam).start().await;
            let wait = unavailable(&attach(&gateway).await.unwrap_err());
            assert!(wait <= Duration::from_secs(1), "{status}: {wait:?}");
            iam.requests(2).await;
            soon(async { while attach(&gateway).await.is_err() {} }).await;
            assert_eq!(iam.seen().len(), 2, "{status}");
        });
    }
    outages.join_all().await;
}

#[tokio::test]
async fn a_plain_no_is_the_operators_to_mend() {
    let words = r#"{"error_code":"IAM.0011","error_msg":"Request body is invalid."}"#;
    for (status, body) in [(400, words), (401, words), (401, ""), (403, words), (403, "")] {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let iam = Cloud::answering([Reply::with(status, &[], body.as_bytes()), token("one", 86_400)]).await;
        let gateway = with_password(&cloud, &iam).start().await;
        for _ in 0..3 {
            let failure = attach(&gateway).await.unwrap_err();
            assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"), "{status}");
        }
        assert_eq!((iam.seen().len(), cloud.seen().len()), (1, 0), "{status}");
        let metrics = gateway.admin("/metrics").await.1;
        assert!(metrics.contains("apig_gateway_credential_state{identity=\"default\",state=\"refused\"} 1"));
    }
}

#[tokio::test]
async fn a_metadata_service_that_is_not_there_yet_costs_a_second() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let given = keys("credential", ["access", "secret", "securitytoken", "expires_at"]);
    let absent = Reply::with(404, &[], b"");
    let service = Cloud::answering([absent.clone(), absent.clone(), absent, given]).await;
    let plan = Gateway::facing(cloud.address).with("credentials", "metadata");
    let gateway = plan.with("metadata-endpoint", format!("http://{}", service.address)).start().await;
    assert!(unavailable(&attach(&gateway).await.unwrap_err()) <= Duration::from_secs(1));
    service.requests(4).await;
    soon(async { while attach(&gateway).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_credential_that_is_revoked_while_its_source_is_down_is_unavailable_from_the_first_call_on() {
    let revoked = || Reply::refused(401, "APIG.0307", "The token must be updated.");
    let given = keys("credential", ["access", "secret", "securitytoken", "expires_at"]);
    let down = Reply::with(503, &[], b"");
    let cloud = Cloud::answering([Reply::attached(), revoked()]).await;
    let iam = Cloud::answering([token("one", 86_400), down.clone()]).await;
    let service = Cloud::answering([Reply::with(405, &[], b""), given, Reply::with(405, &[], b""), down]).await;
    let machine = Gateway::facing(cloud.address).with("credentials", "metadata");
    for plan in [with_password(&cloud, &iam), machine.with("metadata-endpoint", format!("http://{}", service.address))]
    {
        let cloud_before = cloud.seen().len();
        let gateway = plan.start().await;
        if cloud_before == 0 {
            attach(&gateway).await.unwrap();
        } else {
            soon(async { while gateway.admin("/readyz").await.0 != 200 {} }).await;
        }
        // One that is refused as soon as it is there is not replaced.
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        for _ in 0..3 {
            let wait = unavailable(&attach(&gateway).await.unwrap_err());
            assert!(wait <= Duration::from_secs(60), "{wait:?}");
        }
    }
    assert_eq!(tokens(&cloud), ["one", "one", "none"]);
}
