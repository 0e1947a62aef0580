//! What it costs to make a status of one answer. `cargo bench --bench mapping`

#![allow(missing_docs, clippy::unwrap_used, reason = "a program for developers")]

use std::hint::black_box;

use apig_grpc_gateway::{
    bench_support,
    pb::{AttachDomainsRequest, AttachOrDetachDomainInfo},
};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, StatusCode};

fn mapping(criterion: &mut Criterion) {
    let request = AttachDomainsRequest {
        project_id: "73d69ae0cfcf460190522d06b60f05ad".into(),
        certificate_id: "a27be832f2e9441c8127fe48e3b5ac67".into(),
        domains: vec![AttachOrDetachDomainInfo {
            domain: "apigtest.xxx.com".into(),
            instance_ids: Vec::new(),
            verified_client_certificate_enabled: None,
        }],
    };
    let long = format!(r#"{{"error_code":"APIG.2012","error_msg":"{}"}}"#, "x".repeat(60_000));
    let answers: [(&str, u16, &str); 4] = [
        ("not found", 404, r#"{"error_code":"APIG.3020","error_msg":"The URL domain does not exist."}"#),
        (
            "throttled",
            429,
            r#"{"error_code":"APIG.0308","error_msg":"The throttling threshold has been reached: policy user over ratelimit,limit:200,time:5 minute"}"#,
        ),
        ("html", 502, "<html><body><h1>502 Bad Gateway</h1></body></html>"),
        ("60 kB message", 400, &long),
    ];
    for (name, status, body) in answers {
        let status = StatusCode::from_u16(status).unwrap();
        criterion.bench_function(&format!("answer to status: {name}"), |bencher| {
            bencher.iter(|| {
                bench_support::answer(black_box(&request), status, HeaderMap::new(), black_box(body.as_bytes()))
            });
        });
        criterion.bench_function(&format!("answer to headers: {name}"), |bencher| {
            bencher.iter(|| {
                let status =
                    bench_support::answer(black_box(&request), status, HeaderMap::new(), black_box(body.as_bytes()));
                status.unwrap_err().into_http::<()>()
            });
        });
    }
}

criterion_group!(benches, mapping);
criterion_main!(benches);
