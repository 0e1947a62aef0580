//! The project of calls that name none, found in IAM by its name.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request};

use crate::{
    held_credentials::{token, tokens, with_keys, with_password},
    support::{Cloud, Failed, Gateway, Plan, Reply, documented, failed, soon},
};

const FOUND: &str = r#"{"projects":[{"id":"found","name":"cn-north-4"}]}"#;

/// An IAM that answers a lookup for each permit.
struct SlowIam {
    address: SocketAddr,
    look_ups: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
    _serving: AbortOnDropHandle<()>,
}

impl SlowIam {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (look_ups, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, permits) = (Arc::clone(&look_ups), Arc::clone(&answers));
        let look_up = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let permits = Arc::clone(&permits);
            async move {
                permits.acquire().await.unwrap().forget();
                ([("content-type", "application/json")], FOUND)
            }
        };
        let router = Router::new().route("/v3/projects", get(look_up));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, look_ups, answers, _serving: AbortOnDropHandle::new(serving) }
    }

    fn look_ups(&self) -> usize {
        self.look_ups.load(Ordering::SeqCst)
    }
}

fn by_name(cloud: &Cloud, iam: SocketAddr) -> Plan {
    with_keys(cloud).with("iam-endpoint", format!("http://{iam}")).with("region", "cn-north-4")
}

/// Calls without a project.
async fn attach(gateway: &Gateway) -> Result<(), Failed> {
    attach_within(gateway, Duration::from_secs(20)).await
}

async fn attach_within(gateway: &Gateway, time: Duration) -> Result<(), Failed> {
    let mut message = documented();
    message.project_id.clear();
    let mut request = Request::new(message);
    request.set_timeout(time);
    let result = gateway.caller().await.send(request).await;
    result.map(drop).map_err(|status| failed::<()>(Err(status)))
}

#[tokio::test]
async fn callers_that_leave_do_not_take_the_look_up_with_them() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = SlowIam::start().await;
    // The gateway's own bound: beside a deadline of the caller's the client would have a timer too.
    let gateway = by_name(&cloud, iam.address).with("timeout", "300ms").start().await;
    for _ in 0..5 {
        let failure = attach(&gateway).await.unwrap_err();
        assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
        assert_eq!(failure.fact("outcome"), Some("not_sent"));
    }
    assert_eq!((iam.look_ups(), cloud.seen().len()), (1, 0));
    iam.answers.add_permits(1);
    // Each call has 300 ms, which a busy machine may take for itself.
    soon(async { while attach(&gateway).await.is_err() {} }).await;
    assert_eq!(iam.look_ups(), 1);
    assert!(cloud.seen()[0].line.starts_with("POST /v2/found/apic/"));
}

#[tokio::test]
async fn many_callers_wait_for_one_look_up() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = SlowIam::start().await;
    let gateway = Arc::new(by_name(&cloud, iam.address).start().await);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { attach(&gateway).await })
        })
        .collect();
    soon(async {
        while iam.look_ups() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    iam.answers.add_permits(100);
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    assert_eq!((iam.look_ups(), cloud.seen().len()), (1, 50));
}

#[tokio::test]
async fn a_caller_that_may_do_it_in_no_project_has_nobody_asked_for_one() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([Reply::json(200, FOUND)]).await;
    let gateway = by_name(&cloud, iam.address)
        .file("[[policy]]\nidentity = 'anyone'\ncertificates = ['another']\nprojects = ['found']")
        .start()
        .await;
    for _ in 0..3 {
        let denied = attach(&gateway).await.unwrap_err();
        assert_eq!(denied.verdict(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
        assert_eq!((denied.fact("denied"), denied.fact("outcome")), (Some("certificate"), Some("not_sent")));
    }
    assert_eq!((iam.seen().len(), cloud.seen().len()), (0, 0));
}

#[tokio::test]
async fn a_rule_for_projects_is_judged_once_the_id_is_known() {
    for (project, allowed) in [("found", true), ("other", false)] {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let iam = Cloud::answering([Reply::json(200, FOUND)]).await;
        let rule = format!("[[policy]]\nidentity = 'anyone'\nprojects = ['{project}']");
        let gateway = by_name(&cloud, iam.address).file(rule).start().await;
        let result = attach(&gateway).await;
        assert_eq!(result.is_ok(), allowed, "{project}: {result:?}");
        if let Err(denied) = result {
            assert_eq!(denied.verdict(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
            assert_eq!(denied.fact("denied"), Some("project"));
        }
        assert_eq!((iam.seen().len(), cloud.seen().len()), (1, usize::from(allowed)));
    }
}

#[tokio::test]
async fn a_token_that_the_look_up_finds_revoked_is_replaced() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let revoked =
        Reply::json(401, r#"{"error":{"code":401,"message":"The token is revoked.","title":"Unauthorized"}}"#);
    let script = [token("one", 86_400), revoked, token("two", 86_400), Reply::json(200, FOUND)];
    let iam = Cloud::answering(script).await;
    let gateway = with_password(&cloud, &iam).start().await;
    iam.requests(1).await;
    // One that is refused as soon as it is there is not replaced.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    attach(&gateway).await.unwrap();
    let lines: Vec<_> = iam.seen().iter().map(|seen| seen.line.split('?').next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["POST /v3/auth/tokens", "GET /v3/projects", "POST /v3/auth/tokens", "GET /v3/projects"]);
    assert_eq!(tokens(&iam)[1..], ["one", "none", "two"]);
    assert_eq!(tokens(&cloud), ["two"]);
}

#[tokio::test]
async fn a_look_up_that_failed_is_told_to_callers_and_tried_again_later() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    for status in [404, 429, 500, 503] {
        let huge = Reply::with(status, &[("Retry-After", "18446744073709551615")], b"");
        let iam = Cloud::answering([huge, Reply::json(200, FOUND)]).await;
        let gateway = by_name(&cloud, iam.address).start().await;
        for _ in 0..3 {
            let failure = attach(&gateway).await.unwrap_err();
            assert_eq!(failure.verdict(), (Code::Unavailable, "CREDENTIALS_UNAVAILABLE"), "{status}");
            let wait = failure.details.retry_info().unwrap().retry_delay.unwrap();
            assert!(wait <= Duration::from_secs(60), "{status}: {wait:?}");
        }
        assert_eq!(iam.seen().len(), 1, "{status}");
        let iam = Cloud::answering([Reply::with(status, &[], b""), Reply::json(200, FOUND)]).await;
        let gateway = by_name(&cloud, iam.address).start().await;
        let repeated = async {
            while let Err(failure) = attach(&gateway).await {
                // As a client does that is told when to come again.
                tokio::time::sleep(failure.details.retry_info().unwrap().retry_delay.unwrap()).await;
            }
        };
        soon(repeated).await;
        assert_eq!(iam.seen().len(), 2, "{status}");
    }
}

#[tokio::test]
async fn the_project_is_found_by_its_name_once() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let iam = Cloud::answering([Reply::json(200, r#"{"projects":[{"id":"found","name":"cn-north-4"}]}"#)]).await;
    let plan = with_keys(&cloud).with("iam-endpoint", format!("http://{}", iam.address));
    let gateway = plan.with("region", "cn-north-4").start().await;
    let mut request = documented();
    // One that names its project waits for nobody.
    gateway.caller().await.attach(request.clone()).await.unwrap();
    assert_eq!(iam.seen().len(), 0);
    request.project_id.clear();
    for _ in 0..3 {
        gateway.caller().await.attach(request.clone()).await.unwrap();
    }
    let asked = iam.only_request();
    assert_eq!(asked.line, "GET /v3/projects?name=cn%2Dnorth%2D4");
    assert!(asked.header("authorization").unwrap().starts_with("SDK-HMAC-SHA256 Access=AKEXAMPLE"));
    assert!(cloud.seen()[1].line.starts_with("POST /v2/found/apic/"));
    assert_eq!(cloud.seen()[1].header("x-project-id"), Some("found"));
}

#[tokio::test]
async fn a_project_that_is_not_found_is_named_with_what_to_set() {
    for (answer, text) in [
        (r#"{"projects":[]}"#, "IAM has no project named nowhere: set project-id"),
        (r#"{"projects":[{"id":"a"},{"id":"b"}]}"#, "IAM has 2 projects named nowhere: set project-id"),
    ] {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let iam = Cloud::answering([Reply::json(200, answer)]).await;
        let plan = with_keys(&cloud).with("iam-endpoint", format!("http://{}", iam.address));
        let gateway = plan.with("project-name", "nowhere").start().await;
        let mut request = documented();
        request.project_id.clear();
        let failure = failed(gateway.caller().await.attach(request).await);
        assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
        assert!(failure.status.message().contains(text), "{:?}", failure.status);
        assert_eq!(cloud.seen().len(), 0);
    }
}
