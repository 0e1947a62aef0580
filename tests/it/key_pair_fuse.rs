//! A wrong secret must not lock its key pair, which other systems may use.

use std::time::Duration;

use tonic::{Code, Request};

use crate::{
    emulated::{DAY, Emulated},
    held_credentials::{attach, keys, with_keys},
    support::{Cloud, Failed, Gateway, Reply, documented, failed, on_certificate, soon},
};

fn wrong() -> Reply {
    Reply::refused(401, "APIG.0301", "Incorrect IAM authentication information: verify aksk signature fail")
}

/// Calls at the same time, on different certificates; every second one without a project if `by_name`.
async fn at_once(gateway: &Gateway, number: usize, by_name: bool) -> Vec<Result<(), Failed>> {
    let caller = gateway.caller().await;
    let calls: Vec<_> = (0..number)
        .map(|number| {
            let caller = caller.clone();
            let mut message = on_certificate(number);
            if by_name && number % 2 == 0 {
                message.project_id.clear();
            }
            tokio::spawn(async move { caller.send(Request::new(message)).await })
        })
        .collect();
    let mut results = Vec::new();
    for call in calls {
        let result = soon(call).await.unwrap();
        results.push(result.map(drop).map_err(|status| failed::<()>(Err(status))));
    }
    results
}

/// The fuse is open, and nothing was sent.
fn assert_suspended(failure: &Failed) {
    assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert_eq!((failure.fact("outcome"), failure.fact("error_code")), (Some("not_sent"), Some("APIG.0301")));
    assert!(failure.status.message().contains("stopped signing"), "{:?}", failure.status);
    let wait = failure.details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(30), "{wait:?}");
}

#[tokio::test]
async fn hundreds_of_first_calls_with_a_wrong_secret_send_two_signatures() {
    let cloud = Cloud::answering([wrong()]).await;
    let gateway = with_keys(&cloud).start().await;
    let results = at_once(&gateway, 300, false).await;
    assert_eq!(cloud.seen().len(), 2);
    let failures: Vec<_> = results.into_iter().map(Result::unwrap_err).collect();
    assert!(failures.iter().all(|failure| failure.verdict() == (Code::Internal, "CREDENTIALS_REFUSED")));
    let (suspended, refused): (Vec<_>, Vec<_>) =
        failures.iter().partition(|failure| failure.fact("outcome") == Some("not_sent"));
    assert_eq!((suspended.len(), refused.len()), (298, 2));
    suspended.into_iter().for_each(assert_suspended);
    let metrics = gateway.admin("/metrics").await.1;
    assert!(metrics.contains("apig_gateway_credential_fuse{identity=\"default\"} 2"), "{metrics}");
}

#[tokio::test]
async fn calls_one_after_the_other_with_a_wrong_secret_send_two_signatures() {
    let cloud = Cloud::answering([wrong()]).await;
    let gateway = with_keys(&cloud).start().await;
    for _ in 0..2 {
        let refused = attach(&gateway).await.unwrap_err();
        assert_eq!((refused.verdict(), refused.fact("outcome")), ((Code::Internal, "CREDENTIALS_REFUSED"), None));
    }
    for _ in 0..10 {
        assert_suspended(&attach(&gateway).await.unwrap_err());
    }
    assert_eq!(cloud.seen().len(), 2);
}

#[tokio::test]
async fn a_wrong_secret_does_not_lock_the_pair_for_others() {
    let cloud = Emulated::with_life(DAY).await;
    let plan = |secret: &str| {
        cloud.gateway("aksk").with("access-key-id", "DEMOOPERATORKEY00001").with("secret-access-key", secret)
    };
    let gateway = plan("wrong").start().await;
    for _ in 0..3 {
        for result in at_once(&gateway, 100, true).await {
            assert_eq!(result.unwrap_err().verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
        }
    }
    attach(&plan("demo-operator-secret-key").start().await).await.unwrap();
}

#[tokio::test]
async fn the_look_up_of_the_project_shares_the_fuse() {
    let cloud = Cloud::answering([wrong()]).await;
    let iam = Cloud::answering([Reply::refused(401, "APIG.0301", "verify aksk signature fail")]).await;
    let plan = with_keys(&cloud).with("iam-endpoint", format!("http://{}", iam.address));
    let gateway = plan.with("project-name", "cn-north-4").start().await;
    let mut by_name = documented();
    by_name.project_id.clear();
    let by_name = async || failed(gateway.caller().await.send(Request::new(by_name.clone())).await);
    assert_eq!(by_name().await.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert_eq!(attach(&gateway).await.unwrap_err().verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert_suspended(&attach(&gateway).await.unwrap_err());
    // Its own back-off is over by then, and the fuse's is not.
    let suspended = async {
        loop {
            let failure = by_name().await;
            assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
            if failure.status.message().contains("stopped signing") {
                break failure;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert_eq!(soon(suspended).await.fact("outcome"), Some("not_sent"));
    assert_eq!((iam.seen().len(), cloud.seen().len()), (1, 1));
}

#[tokio::test]
async fn answers_that_say_nothing_of_the_signature_neither_open_nor_close() {
    let outage = Reply::with(500, &[], b"");
    let front = Reply::refused(404, "APIG.0101", "The API does not exist.");
    let script = [outage.clone(), wrong(), Reply::close(), front, outage, wrong()];
    let cloud = Cloud::answering(script).await;
    let gateway = with_keys(&cloud).with("max-attempts", "1").start().await;
    for _ in 0..6 {
        attach(&gateway).await.unwrap_err();
    }
    assert_suspended(&attach(&gateway).await.unwrap_err());
    assert_eq!(cloud.seen().len(), 6);
}

#[tokio::test]
async fn refusals_with_an_accepted_signature_between_are_no_row() {
    let not_found = Reply::refused(404, "APIG.3021", "The certificate does not exist.");
    let cloud = Cloud::answering([wrong(), not_found, wrong(), Reply::attached()]).await;
    let gateway = with_keys(&cloud).start().await;
    for code in ["APIG.0301", "APIG.3021", "APIG.0301"] {
        assert_eq!(attach(&gateway).await.unwrap_err().fact("error_code"), Some(code));
    }
    for result in at_once(&gateway, 20, false).await {
        result.unwrap();
    }
    assert_eq!(cloud.seen().len(), 23);
}

#[tokio::test]
async fn a_call_that_leaves_before_its_answer_lets_one_more_go() {
    let cloud = Cloud::answering([Reply::hang(), Reply::attached()]).await;
    let gateway = with_keys(&cloud).start().await;
    let caller = gateway.caller().await;
    let first = tokio::spawn({
        let caller = caller.clone();
        async move { caller.send(Request::new(on_certificate(1))).await }
    });
    cloud.requests(1).await;
    let others: Vec<_> = (2..12)
        .map(|number| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.send(Request::new(on_certificate(number))).await })
        })
        .collect();
    // All of them wait for the outcome of the first.
    let in_progress = async { while !gateway.admin("/metrics").await.1.contains("calls_in_progress 11") {} };
    soon(in_progress).await;
    assert_eq!(cloud.seen().len(), 1);
    first.abort();
    for other in others {
        soon(other).await.unwrap().unwrap();
    }
    assert_eq!(cloud.seen().len(), 11);
}

#[tokio::test]
async fn temporary_keys_that_are_refused_are_replaced_by_others_with_a_fuse_of_their_own() {
    let cloud = Cloud::answering([Reply::attached(), wrong(), Reply::attached()]).await;
    let step = Reply::with(200, &[], b"metadata-token");
    let given = keys("credential", ["access", "secret", "securitytoken", "expires_at"]);
    let service = Cloud::answering([step.clone(), given.clone(), step, given]).await;
    let plan = Gateway::facing(cloud.address).with("credentials", "metadata");
    let gateway = plan.with("metadata-endpoint", format!("http://{}", service.address)).start().await;
    attach(&gateway).await.unwrap();
    // One that is refused as soon as it is there is not replaced.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(attach(&gateway).await.unwrap_err().verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    attach(&gateway).await.unwrap();
    assert_eq!((service.seen().len(), cloud.seen().len()), (4, 3));
}
