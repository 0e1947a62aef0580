//! What a client finds out by itself: health, reflection, the admin port.

use std::time::Duration;

use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{Cloud, Gateway, Reply, documented, failed, soon};

const SERVICES: [&str; 4] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "huaweicloud.apic.v2.CertificateService",
];

/// Whether health says so.
pub(crate) async fn is_serving(gateway: &Gateway, service: &str) -> bool {
    let request = HealthCheckRequest { service: service.into() };
    let answer = soon(HealthClient::new(gateway.channel().await).check(request)).await.unwrap();
    answer.into_inner().status() == ServingStatus::Serving
}

/// A gateway whose upstream nobody will ask for anything.
async fn idle() -> Gateway {
    Gateway::facing("127.0.0.1:9".parse().unwrap()).start().await
}

#[tokio::test]
async fn health_knows_its_services_and_no_other() {
    let gateway = idle().await;
    for service in ["", "huaweicloud.apic.v2.CertificateService", "liveness", "readiness"] {
        assert!(is_serving(&gateway, service).await, "{service}");
    }
    let request = HealthCheckRequest { service: "nobody".into() };
    let failure = soon(HealthClient::new(gateway.channel().await).check(request)).await.unwrap_err();
    assert_eq!(failure.code(), Code::NotFound);
}

#[tokio::test]
async fn a_watched_service_that_is_unknown_is_told_so_and_the_stream_stays() {
    let gateway = idle().await;
    let mut health = HealthClient::new(gateway.channel().await);
    let mut watched = soon(health.watch(HealthCheckRequest { service: "nobody".into() })).await.unwrap().into_inner();
    assert_eq!(soon(watched.message()).await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    // The end of the gateway ends it, and nothing before.
    let mut readiness =
        soon(health.watch(HealthCheckRequest { service: "readiness".into() })).await.unwrap().into_inner();
    assert_eq!(soon(readiness.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert!(futures_util::poll!(std::pin::pin!(watched.message())).is_pending());
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let gateway = idle().await;
    let channel = gateway.channel().await;
    for service in ["readiness", "nobody"] {
        let mut request = Request::new(HealthCheckRequest { service: service.into() });
        // tonic's own timer ends with the head of the response.
        request.set_timeout(Duration::from_millis(300));
        let mut watched = soon(HealthClient::new(channel.clone()).watch(request)).await.unwrap().into_inner();
        assert!(soon(watched.message()).await.unwrap().is_some(), "{service}");
        let failure = failed(soon(watched.message()).await);
        assert_eq!(failure.verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{service}");
    }
    let mut request = Request::new(futures_util::stream::pending());
    request.set_timeout(Duration::from_millis(300));
    let mut reflection = v1::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = soon(reflection.server_reflection_info(request)).await.unwrap().into_inner();
    assert_eq!(failed(soon(answers.message()).await).verdict(), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
}

#[tokio::test]
async fn a_draining_gateway_is_alive_and_not_ready() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("drain-delay", "1h").start().await;
    assert_eq!(gateway.admin("/readyz").await.0, 200);
    let watch = HealthCheckRequest { service: "readiness".into() };
    let mut watched = soon(HealthClient::new(gateway.channel().await).watch(watch)).await.unwrap().into_inner();
    assert_eq!(soon(watched.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    gateway.stop();
    assert_eq!(soon(watched.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(!is_serving(&gateway, "").await);
    assert!(is_serving(&gateway, "liveness").await);
    assert_eq!(gateway.admin("/livez").await.0, 200);
    assert_eq!(gateway.admin("/readyz").await.0, 503);
    // Until the delay is over, endpoints and meshes may still send callers here.
    gateway.caller().await.attach(documented()).await.unwrap();
}

#[tokio::test]
async fn both_reflections_list_the_same_services() {
    let gateway = idle().await;
    let mut v1 = v1::server_reflection_client::ServerReflectionClient::new(gateway.channel().await);
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        soon(v1.server_reflection_info(futures_util::stream::iter([request]))).await.unwrap().into_inner();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        soon(answers.message()).await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();

    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(gateway.channel().await);
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        soon(old.server_reflection_info(futures_util::stream::iter([request]))).await.unwrap().into_inner();
    let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        soon(answers.message()).await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let mut old_names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    old_names.sort();
    assert_eq!(names, old_names);
    assert_eq!(names, SERVICES);
}

/// A client that has Google's own packages must not meet a file of theirs under another name.
#[tokio::test]
async fn reflection_has_the_files_of_google_under_their_own_names() {
    let gateway = idle().await;
    let mut reflection = v1::server_reflection_client::ServerReflectionClient::new(gateway.channel().await);
    for (symbol, file) in [
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
        ("google.api.HttpRule", "google/api/http.proto"),
        ("google.protobuf.Timestamp", "google/protobuf/timestamp.proto"),
    ] {
        let request = v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(v1::server_reflection_request::MessageRequest::FileContainingSymbol(symbol.into())),
        };
        let answers = soon(reflection.server_reflection_info(futures_util::stream::iter([request]))).await;
        let answer = soon(answers.unwrap().into_inner().message()).await.unwrap().unwrap();
        let Some(v1::server_reflection_response::MessageResponse::FileDescriptorResponse(found)) =
            answer.message_response
        else {
            panic!("{symbol} is not there")
        };
        // The name is the first field of a file's description.
        let name = [&[0x0a, u8::try_from(file.len()).unwrap()], file.as_bytes()].concat();
        assert!(found.file_descriptor_proto.iter().any(|encoded| encoded.starts_with(&name)), "{symbol}");
    }
}

#[tokio::test]
async fn metrics_count_calls_and_requests_upstream() {
    let cloud = Cloud::answering([Reply::attached(), Reply::refused(404, "APIG.3020", "m")]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let caller = gateway.caller().await;
    caller.attach(documented()).await.unwrap();
    caller.attach(documented()).await.unwrap_err();
    let (status, text) = gateway.admin("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"rpc_server_call_duration_seconds_count{rpc_method="huaweicloud.apic.v2.CertificateService/AttachDomains",rpc_response_status_code="OK"} 1"#,
        r#"rpc_server_call_duration_seconds_count{rpc_method="huaweicloud.apic.v2.CertificateService/AttachDomains",rpc_response_status_code="NOT_FOUND"} 1"#,
        r#"http_client_request_duration_seconds_count{http_request_method="POST",http_response_status_code="204"} 1"#,
        r#"http_client_request_duration_seconds_count{http_request_method="POST",http_response_status_code="404"} 1"#,
        "apig_gateway_calls_in_progress 0",
        "apig_gateway_connections 1",
        "apig_gateway_panics_total 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
}
