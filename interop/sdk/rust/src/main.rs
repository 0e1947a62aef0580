//! Code that buf's plugins for prost and tonic generate, compiled: `sdk`, no arguments.

mod apic {
    include!("../gen/huaweicloud/apic/v2/huaweicloud.apic.v2.rs");
}

use apic::{certificate_service_client::CertificateServiceClient, AttachDomainsRequest, AttachOrDetachDomainInfo};
use prost::Message as _;

fn main() {
    let domain = AttachOrDetachDomainInfo { domain: "www.example.com".into(), ..Default::default() };
    let message = AttachDomainsRequest { project_id: "p".into(), certificate_id: "c".into(), domains: vec![domain] };
    assert_eq!(AttachDomainsRequest::decode(&*message.encode_to_vec()).expect("a message"), message);
    println!("ok - rust: a message survives the wire");
    // That this compiles is the check.
    let _: fn(tonic::transport::Channel) -> CertificateServiceClient<tonic::transport::Channel> =
        CertificateServiceClient::new;
    println!("ok - rust: the client of the service compiles");
}
