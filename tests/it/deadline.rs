//! Deadlines and callers that go away.

use std::time::{Duration, Instant};

use prost::Message as _;
use tonic::{Code, Request};

use crate::support::{
    ATTACH, Caller, Cloud, Failed, Gateway, Reply, documented, failed, frame, head, on_certificate, send_bytes, soon,
};

/// Much sooner than anything but the end of the call would end a connection to the cloud. How soon it is, chaos measures:
/// within 100 ms.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A call with a deadline, from a client without a timer of its own: on a busy machine that could be first.
async fn ending_in(timeout: &str, gateway: &Gateway) -> Failed {
    let headers = [("x-auth-token", "t"), ("grpc-timeout", timeout)];
    send_bytes(gateway, ATTACH, &headers, frame(0, &documented().encode_to_vec())).await
}

fn with_timeout(timeout: &str) -> Request<apig_grpc_gateway::pb::AttachDomainsRequest> {
    let mut request = Request::new(documented());
    request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    request
}

#[tokio::test]
async fn a_silent_cloud_ends_in_deadline_exceeded_and_a_closed_connection() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let failure = ending_in("300m", &gateway).await;
    let ended = Instant::now();
    assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(failure.fact("outcome"), Some("unknown"));
    cloud.closed(1).await;
    assert!(ended.elapsed() < AT_ONCE, "{:?}", ended.elapsed());
}

#[tokio::test]
async fn a_status_whose_body_stalls_decides() {
    let whole = r#"{"error_code":"APIG.3020","error_msg":"m"}"#;
    let table = [
        (404, "", (Code::NotFound, "HTTP_404"), None),
        (404, whole, (Code::NotFound, "APIG_3020"), None),
        (500, "{", (Code::Internal, "HTTP_500"), Some("unknown")),
        (504, "", (Code::DeadlineExceeded, "HTTP_504"), Some("unknown")),
    ];
    for (status, body, verdict, outcome) in table {
        // One with little time, and one that is cut after five seconds.
        for timeout in ["1S", "30S"] {
            if timeout == "30S" && status != 500 {
                continue;
            }
            let mut reply = head(status, [("Content-Length", "100")]);
            reply.extend_from_slice(body.as_bytes());
            let cloud = Cloud::answering([Reply::ThenHang(reply)]).await;
            let gateway = Gateway::facing(cloud.address).start().await;
            let failure = ending_in(timeout, &gateway).await;
            assert_eq!(failure.verdict(), verdict);
            assert_eq!(failure.fact("outcome"), outcome, "{failure:?}");
            cloud.closed(1).await;
            assert_eq!(cloud.seen().len(), 1);
        }
    }
}

#[tokio::test]
async fn requests_that_are_cut_are_counted() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let counted = async |number: usize| {
        let line = format!(
            "http_client_request_duration_seconds_count{{http_request_method=\"POST\",http_response_status_code=\"none\"}} {number}\n"
        );
        soon(async { while !gateway.admin("/metrics").await.1.contains(&line) {} }).await;
    };
    ending_in("100m", &gateway).await;
    counted(1).await;
    let caller = gateway.caller().await;
    let call = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(2).await;
    call.abort();
    counted(2).await;
}

#[tokio::test]
async fn the_gateways_own_timeout_bounds_every_call() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).with("timeout", "200ms").start().await;
    let caller = gateway.caller().await;
    for result in [caller.attach(documented()).await, caller.send(with_timeout("1H")).await] {
        assert_eq!(failed(result).verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    }
}

#[tokio::test]
async fn a_deadline_that_passes_while_connecting_says_that_nothing_was_sent() {
    // A listener whose backlog is full: the connection is never established.
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let connect = tokio::net::TcpStream::connect(address);
        waiting.push(tokio::time::timeout(Duration::from_millis(50), connect).await);
    }
    let gateway = Gateway::facing(address).start().await;
    let failure = ending_in("300m", &gateway).await;
    assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
}

#[tokio::test]
async fn a_deadline_that_has_passed_sends_nothing() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let failure = send_bytes(&gateway, ATTACH, &[("grpc-timeout", "0n")], frame(0, b"")).await;
    assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn a_malformed_timeout_is_the_callers_fault() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let failure = send_bytes(&gateway, ATTACH, &[("grpc-timeout", "soon")], frame(0, b"")).await;
    assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_request_along() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller: Caller = gateway.caller().await;
    let call = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    let left = Instant::now();
    call.abort();
    cloud.closed(1).await;
    assert!(left.elapsed() < AT_ONCE, "{:?}", left.elapsed());
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains(r#"rpc_response_status_code="CANCELLED"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_connection_that_breaks_takes_its_requests_along() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let callers: Vec<_> = (0..4)
        .map(|_| gateway.channel())
        .collect::<futures_util::future::JoinAll<_>>()
        .await
        .into_iter()
        .enumerate()
        .map(|(number, channel)| tokio::spawn(async move { Caller::on(channel).attach(on_certificate(number)).await }))
        .collect();
    cloud.requests(4).await;
    for caller in callers {
        caller.abort();
    }
    cloud.closed(4).await;
}
