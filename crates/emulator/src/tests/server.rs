//! The server: paths, protocols, limits, shutdown.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

/// A timeout that only a failing test reaches.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_unknown_path_is_refused_by_the_front_gateway() {
    let cloud = running().await;
    for path in [
        "/".to_owned(),
        format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach/"),
        format!("/v2/{PROJECT}/apic/certificates/a/b/domains/attach"),
        format!("/v2//apic/certificates/{CERTIFICATE}/domains/attach"),
        format!("/v2/{PROJECT}/apic/certificates//domains/attach"),
        format!("/v2/{PROJECT}/roma/certificates/{CERTIFICATE}/domains/attach"),
        format!("/v2/%FF/apic/certificates/{CERTIFICATE}/domains/attach"),
    ] {
        let answer = send(cloud.request(Method::POST, &path).header("X-Auth-Token", OPERATOR)).await;
        let text = "The API does not exist or has not been published in the environment.";
        answer.is_front(404, "APIG.0101", text);
    }
}

#[tokio::test]
async fn a_wrong_verb_is_an_operation_that_is_not_offered() {
    let cloud = running().await;
    let certificate = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}");
    for (verb, path) in [
        (Method::PUT, format!("{certificate}/domains/attach")),
        (Method::POST, format!("{certificate}/attached-domains")),
        (Method::GET, "/v3/auth/tokens".to_owned()),
    ] {
        let answer = send(cloud.request(verb, &path)).await;
        answer.is_front(404, "APIG.0101", "The API does not exist or has not been published in the environment.");
    }
}

#[tokio::test]
async fn a_body_over_12_mb_is_too_large_before_anything_else_is_looked_at() {
    let cloud = running().await;
    let path = format!("/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach");
    let answer = send(cloud.request(Method::POST, &path).body(vec![b' '; super::super::MAX_BODY + 1])).await;
    answer.is_front(413, "APIG.0201", "Request entity too large.");
}

#[tokio::test]
async fn every_response_has_a_request_id_of_the_cloud() {
    let cloud = running().await;
    let request = || cloud.request(Method::GET, "/").header("X-Request-Id", "the-callers");
    let (first, second) = (send(request()).await, send(request()).await);
    assert_id(first.header("x-request-id"));
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[tokio::test]
async fn every_answer_is_dated_by_the_clouds_clock() {
    let cloud = running().await;
    assert_eq!(send(cloud.request(Method::GET, "/")).await.header("date"), "Fri, 03 Jan 2020 09:05:22 GMT");
}

#[tokio::test]
async fn the_log_has_a_line_for_each_request_and_no_secret() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let subscriber = {
        let log = Arc::clone(&log);
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || Log(Arc::clone(&log))).finish()
    };
    // With a single subscriber, tracing caches its interest from the first thread that reaches a
    // callsite, possibly another test's thread without this subscriber. With two it asks each time.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    // The runtime of a test has one thread, so this reaches the emulator's tasks and no other test.
    let _guard = tracing::subscriber::set_default(subscriber);
    let cloud = running().await;
    let refused = cloud.attach("none", json!([{ "domain": "www.example.com" }])).await;
    let body = r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{
        "name":"operator","password":"demo-operator-password","domain":{"name":"demo-account"}}}}}}"#;
    let request = cloud.request(Method::POST, "/v3/auth/tokens").header("Content-Type", "application/json");
    let issued = send(request.body(body)).await;

    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("answered")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    for part in [
        " INFO ",
        "method=POST",
        &format!("path=\"/v2/{PROJECT}/apic/certificates/none/domains/attach\""),
        "status=404",
        &format!("request_id=\"{}\"", refused.header("x-request-id")),
        "error_code=\"APIG.3025\"",
    ] {
        assert!(lines[0].contains(part), "{part} is missing from {}", lines[0]);
    }
    for secret in [OPERATOR, "demo-operator-password", issued.header("x-subject-token")] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// A log that is kept in memory.
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn http2_is_served_with_prior_knowledge() {
    let cloud = running().await;
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach", cloud.address);
    let response = client
        .post(url)
        .header("X-Auth-Token", OPERATOR)
        .header("Content-Type", "application/json")
        .body(r#"{"domains":[{"domain":"www.example.com"}]}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.status(), 204);
    assert!(!response.headers().contains_key("content-type"));
}

#[tokio::test]
async fn shutdown_waits_for_no_peer() {
    let cloud = running().await;
    let mut silent = TcpStream::connect(cloud.address).await.unwrap();
    let mut idle = TcpStream::connect(cloud.address).await.unwrap();
    let mut halfway = TcpStream::connect(cloud.address).await.unwrap();
    halfway.write_all(b"POST /v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{").await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 4096];
    assert_ne!(idle.read(&mut answer).await.unwrap(), 0);

    cloud.stop.send(()).unwrap();
    timeout(LONG, cloud.task).await.expect("run returns at once").unwrap();

    assert!(TcpStream::connect(cloud.address).await.is_err(), "the port is closed");
    for peer in [&mut silent, &mut idle] {
        let end = timeout(LONG, peer.read_to_end(&mut Vec::new())).await.expect("idle peers are let go");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let cloud = running().await;
    let fault = Emulator::bind(cloud.address, World::documented()).await.unwrap_err();
    assert_eq!(fault.kind(), std::io::ErrorKind::AddrInUse);
}
