//! Answers of the cloud that hurt naive gateways, and the error that a caller gets for each.

use std::time::Duration;

use tonic::Code;

use crate::support::{Caller, Cloud, Failed, Gateway, Program, Reply, documented, failed, head};

/// One call that the cloud answers so.
async fn answered(reply: Reply) -> (Failed, Cloud) {
    let cloud = Cloud::answering([reply]).await;
    let gateway = Gateway::facing(cloud.address).with("max-attempts", "1").start().await;
    let failure = failed(gateway.caller().await.attach(documented()).await);
    assert_eq!(cloud.seen().len(), 1, "sent once and not repeated");
    (failure, cloud)
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_token_stays() {
    let elsewhere = Cloud::answering([Reply::attached()]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{}/login", elsewhere.address);
        let (failure, _) = answered(Reply::with(status, &[("Location", &location)], b"")).await;
        assert_eq!(failure.verdict(), (Code::Internal, "UPSTREAM_REDIRECT"));
        assert_eq!(failure.fact("http_status"), Some(status.to_string().as_str()));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_login_page_is_no_success() {
    let (failure, _) = answered(Reply::with(200, &[("Content-Type", "text/html")], b"<html>Log in</html>")).await;
    assert_eq!(failure.verdict(), (Code::Internal, "UPSTREAM_PROTOCOL_ERROR"));
    assert_eq!(failure.fact("http_status"), Some("200"));
    assert_eq!(failure.fact("outcome"), Some("unknown"));
}

#[tokio::test]
async fn nothing_below_400_but_204_is_success() {
    for status in [200, 201, 202, 203, 205, 206, 207, 226, 299] {
        let (failure, _) = answered(Reply::with(status, &[], b"")).await;
        assert_eq!(failure.verdict(), (Code::Internal, "UPSTREAM_PROTOCOL_ERROR"), "{status}");
    }
}

#[tokio::test]
async fn an_interim_answer_is_no_answer() {
    let mut bytes = head(103, [("Link", "</style.css>")]);
    bytes.extend_from_slice(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let (failure, _) = answered(Reply::Bytes(bytes)).await;
    assert_eq!(failure.verdict(), (Code::NotFound, "HTTP_404"));
}

#[tokio::test]
async fn a_body_of_64_mib_costs_no_memory_and_keeps_its_status() {
    let mebibytes_64 = 64 * 1024 * 1024;
    let reply = Reply::ThenFlood(head(500, [("Content-Length", mebibytes_64.to_string().as_str())]), 1024);
    let cloud = Cloud::answering([reply]).await;
    let (program, address) = Program::serve(&["--upstream", &format!("http://{}", cloud.address)], &[]).await;
    let caller = Caller::of(&address).await;
    let before = program.peak_memory();
    for _ in 0..3 {
        let failure = failed(caller.attach(documented()).await);
        assert_eq!(failure.verdict(), (Code::Internal, "HTTP_500"));
    }
    let grown = program.peak_memory() - before;
    assert!(grown < 8 * 1024, "{grown} KiB more for bodies of 64 MiB");
}

#[tokio::test]
async fn a_body_cut_short_keeps_its_status() {
    let mut bytes = head(404, [("Content-Length", "500")]);
    bytes.extend_from_slice(br#"{"error_code":"APIG.3020","error_m"#);
    let (failure, _) = answered(Reply::ThenClose(bytes)).await;
    assert_eq!(failure.verdict(), (Code::NotFound, "HTTP_404"));
}

#[tokio::test]
async fn no_body_keeps_its_status() {
    let (failure, _) = answered(Reply::with(403, &[], b"")).await;
    assert_eq!(failure.verdict(), (Code::PermissionDenied, "HTTP_403"));
    assert_eq!(failure.status.message(), "the cloud answered 403 without a body");
}

#[tokio::test]
async fn a_body_that_is_not_utf8_is_read_with_replacements() {
    let body = b"{\"error_code\":\"APIG.3020\",\"error_msg\":\"caf\xe9\"}";
    let (failure, _) = answered(Reply::with(404, &[("Content-Type", "application/json")], body)).await;
    assert_eq!(failure.verdict(), (Code::NotFound, "APIG_3020"));
    assert_eq!(failure.status.message(), "caf\u{fffd}");
}

#[tokio::test]
async fn a_hundred_thousand_brackets_do_no_harm() {
    let deep = "[".repeat(50_000);
    let nested = format!("{}1{}", r#"{"a":"#.repeat(9_000), "}".repeat(9_000));
    for body in [deep, nested, "[".repeat(100_000)] {
        let (failure, _) = answered(Reply::json(400, &body)).await;
        assert_eq!(failure.verdict(), (Code::InvalidArgument, "HTTP_400"));
    }
}

#[tokio::test]
async fn a_message_of_five_megabytes_leaves_the_status_and_one_that_fits_the_code() {
    for character in ["x", "證", "\\u0001"] {
        let message = character.repeat(5_000_000 / character.len());
        let (failure, _) = answered(Reply::refused(409, "APIG.2051", &message)).await;
        // Past 64 KiB nothing is read, so the body has no code: the HTTP status alone decides.
        assert_eq!(failure.verdict(), (Code::Aborted, "HTTP_409"));
        assert_eq!(failure.fact("http_status"), Some("409"));
        assert!(failure.status.message().len() <= 1024, "{}", failure.status.message().len());
        let (failure, _) =
            answered(Reply::refused(404, "APIG.3020", &character.repeat(10_000 / character.len()))).await;
        assert_eq!(failure.verdict(), (Code::NotFound, "APIG_3020"));
        assert!(failure.status.message().len() <= 1024 && failure.status.message().ends_with('…'));
    }
}

#[tokio::test]
async fn a_lost_connection_is_told_and_not_repeated() {
    let (failure, _) = answered(Reply::close()).await;
    assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_CONNECTION_LOST"));
    assert_eq!(failure.fact("outcome"), Some("unknown"));
    assert_eq!(failure.status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
}

#[tokio::test]
async fn half_an_answer_is_a_lost_connection() {
    let (failure, _) = answered(Reply::ThenClose(b"HTTP/1.1 204 No Con".to_vec())).await;
    assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_CONNECTION_LOST"));
}

#[tokio::test]
async fn what_is_no_http_is_a_protocol_error() {
    for nonsense in ["SSH-2.0-OpenSSH\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n", "HTTP/1.1 9999 Odd\r\n\r\n"] {
        let (failure, _) = answered(Reply::ThenClose(nonsense.into())).await;
        assert_eq!(failure.verdict(), (Code::Internal, "UPSTREAM_PROTOCOL_ERROR"), "{nonsense:?}");
        assert_eq!(failure.fact("outcome"), Some("unknown"));
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_told_as_safe_to_repeat() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gateway = Gateway::facing(nobody).start().await;
    let failure = failed(gateway.caller().await.attach(documented()).await);
    assert_eq!(failure.verdict(), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
    assert_eq!(failure.fact("outcome"), Some("not_sent"));
    assert!(failure.details.retry_info().is_some());
    assert!(failure.status.message().contains("Connection refused"), "{}", failure.status.message());
}

#[tokio::test]
async fn throttling_tells_when_to_come_back() {
    let body =
        br#"{"error_msg":"The throttling threshold has been reached","error_code":"APIG.0308","request_id":"body-id"}"#;
    let (failure, _) = answered(Reply::with(429, &[("Retry-After", "7")], body)).await;
    assert_eq!(failure.verdict(), (Code::ResourceExhausted, "APIG_0308"));
    assert_eq!(failure.details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(7)));
    assert!(failure.details.quota_failure().is_some());
    assert_eq!(failure.status.metadata().get("grpc-retry-pushback-ms").unwrap(), "7000");
    assert_eq!(failure.fact("request_id"), Some("body-id"));
    assert_eq!(failure.status.metadata().get("apig-request-id").unwrap(), "body-id");
}

#[tokio::test]
async fn an_access_key_in_a_text_is_masked() {
    let text =
        "Incorrect IAM authentication information: Get secretKey failed,ak:HST3W0PLACEHOLDER00X,err:ak not exist";
    let (failure, _) = answered(Reply::refused(401, "APIG.0301", text)).await;
    assert_eq!(failure.verdict(), (Code::Unauthenticated, "APIG_0301"));
    assert!(!format!("{failure:?}").contains("PLACEHOLDER"));
    assert!(failure.status.message().contains("ak:***,err:ak not exist"));
}
