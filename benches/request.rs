//! What it costs to make a request of a message, and to sign it. `cargo bench --bench request`

#![allow(missing_docs, clippy::unwrap_used, reason = "a program for developers")]

use std::{
    hint::black_box,
    time::{Duration, SystemTime},
};

use apig_grpc_gateway::{
    bench_support,
    pb::{AttachDomainsRequest, AttachOrDetachDomainInfo},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;

fn message(domains: usize) -> Vec<u8> {
    let domain = |number: usize| AttachOrDetachDomainInfo {
        domain: format!("name-{number:05}.example.com"),
        instance_ids: vec!["f0fa1789-3b76-433b-a787-9892951c620e".into(), "7d39549681c54d968ec2910da9da95cd".into()],
        verified_client_certificate_enabled: None,
    };
    let request = AttachDomainsRequest {
        project_id: "73d69ae0cfcf460190522d06b60f05ad".into(),
        certificate_id: "a27be832f2e9441c8127fe48e3b5ac67".into(),
        domains: (0..domains).map(domain).collect(),
    };
    request.encode_to_vec()
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message to path and JSON");
    for domains in [1, 10, 1000] {
        let message = message(domains);
        group.throughput(Throughput::Bytes(message.len().try_into().unwrap()));
        group.bench_function(format!("{domains} domains"), |bencher| {
            bencher.iter(|| bench_support::request(black_box(&message)).unwrap());
        });
    }
}

fn signing(criterion: &mut Criterion) {
    let sign = bench_support::signer();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut group = criterion.benchmark_group("signature");
    for domains in [1, 1000] {
        let (path, body) = bench_support::request(&message(domains)).unwrap();
        group.throughput(Throughput::Bytes(body.len().try_into().unwrap()));
        group.bench_function(format!("{domains} domains"), |bencher| {
            bencher.iter(|| sign(black_box(&path), black_box(&body), now));
        });
    }
}

criterion_group!(benches, requests, signing);
criterion_main!(benches);
