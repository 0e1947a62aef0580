//! Generated code, by buf with the plugins for prost and tonic and by a build script, compiled: `sdk`, no arguments.

mod by_buf {
    include!("../gen/huaweicloud/apic/v2/huaweicloud.apic.v2.rs");
}

#[allow(dead_code, reason = "this program calls no method")]
mod by_build_script {
    tonic::include_proto!("huaweicloud.apic.v2");
}

use prost::Message as _;
use tonic::transport::Channel;

fn main() {
    let domain = by_buf::AttachOrDetachDomainInfo { domain: "www.example.com".into(), ..Default::default() };
    let domains = vec![domain];
    let sent = by_buf::AttachDomainsRequest { project_id: "p".into(), certificate_id: "c".into(), domains };
    let wire = sent.encode_to_vec();
    assert_eq!(by_buf::AttachDomainsRequest::decode(&*wire).expect("a message"), sent);
    let received = by_build_script::AttachDomainsRequest::decode(&*wire).expect("a message");
    assert_eq!(received.domains[0].domain, "www.example.com");
    println!("ok - rust: a message survives the wire, between both ways to generate code");

    // That this compiles is the check.
    let _ = by_buf::certificate_service_client::CertificateServiceClient::<Channel>::new;
    let _ = by_build_script::certificate_service_client::CertificateServiceClient::<Channel>::new;
    println!("ok - rust: the client of the service compiles");
}
