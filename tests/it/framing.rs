//! Messages as bytes: too large, compressed, malformed, for methods that do not exist.

use tonic::{Code, Request, codec::CompressionEncoding};

use crate::support::{ATTACH, Cloud, Gateway, Reply, documented, failed, frame, send_bytes, soon};

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_fault() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    for bytes in [
        frame(0, b"\xff\xff\xff\xff"),
        frame(0, b"\x0a\x02\xff\xfe"),
        frame(7, b""),
        frame(1, b"no gzip"),
        vec![0, 0, 0, 0, 9, 1],
        Vec::new(),
    ] {
        let failure = send_bytes(&gateway, ATTACH, &[], bytes.clone()).await;
        assert_eq!(failure.verdict(), (Code::InvalidArgument, "INVALID_REQUEST"), "{bytes:?}");
        assert!(failure.status.metadata().contains_key("x-request-id"));
    }
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_whatever_its_wrapping() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).with("max-message-size", "64KiB").start().await;
    let mut request = documented();
    request.domains[0].domain = "a".repeat(100_000);
    let client = gateway.caller().await.client();
    for mut client in [client.clone(), client.send_compressed(CompressionEncoding::Gzip)] {
        let failure = failed(soon(client.attach_domains(Request::new(request.clone()))).await);
        assert_eq!(failure.verdict(), (Code::ResourceExhausted, "INVALID_REQUEST"));
        assert_eq!(failure.fact("max_message_size"), Some("65536"));
    }
    assert_eq!(cloud.connections(), 0);
}

#[tokio::test]
async fn a_frame_that_only_claims_to_be_huge_is_refused_at_once() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let failure = send_bytes(&gateway, ATTACH, &[], vec![0, 0xff, 0xff, 0xff, 0xff]).await;
    assert_eq!(failure.verdict(), (Code::ResourceExhausted, "INVALID_REQUEST"));
}

#[tokio::test]
async fn gzip_is_understood() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let mut client = gateway.caller().await.client().send_compressed(CompressionEncoding::Gzip);
    let mut request = Request::new(documented());
    request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    soon(client.attach_domains(request)).await.unwrap();
    assert!(cloud.only_request().body.contains("apigtest.xxx.com"));
}

#[tokio::test]
async fn another_compression_is_refused_with_what_is_understood() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let failure = send_bytes(&gateway, ATTACH, &[("grpc-encoding", "zstd")], frame(1, b"x")).await;
    assert_eq!(failure.verdict(), (Code::Unimplemented, "INVALID_REQUEST"));
    let understood = failure.status.metadata().get("grpc-accept-encoding").unwrap().to_str().unwrap();
    assert!(understood.contains("gzip"), "{understood}");
}

#[tokio::test]
async fn what_is_not_offered_is_unimplemented() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    for path in ["/huaweicloud.apic.v2.CertificateService/Nope", "/some.Service/Method", "/"] {
        let failure = send_bytes(&gateway, path, &[], frame(0, b"")).await;
        assert_eq!(failure.verdict(), (Code::Unimplemented, "INVALID_REQUEST"), "{path}");
    }
}
