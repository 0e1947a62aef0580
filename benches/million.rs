//! A million generated answers of the cloud through the pure mapping: every bound held, time and peak memory printed.
//! `cargo bench --bench million`

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

#[allow(dead_code, reason = "the fuzz target uses what this does not")]
#[path = "../fuzz/answer.rs"]
mod answer;

use std::time::Instant;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

const ANSWERS: usize = 1_000_000;

fn body() -> impl Strategy<Value = Vec<u8>> {
    let code = "(APIG|APIC|APIGW|NEW)\\.[0-9]{4}";
    let object = (code, ".{0,60}", 0usize..5).prop_map(|(code, message, shape)| {
        let text = match shape {
            0 => serde_json::json!({ "error_code": code, "error_msg": message }),
            1 => serde_json::json!({ "errorCode": code, "errorMsg": message }),
            2 => serde_json::json!({ "error": { "code": code, "message": message } }),
            3 => serde_json::json!({ "error_msg": format!("parameterName:{message}"), "error_code": code, "request_id": "r" }),
            _ => serde_json::json!({ "error_code": code, "error_msg": message.repeat(100) }),
        };
        text.to_string().into_bytes()
    });
    let cut = (object.clone(), any::<prop::sample::Index>()).prop_map(|(mut body, at)| {
        body.truncate(at.index(body.len()));
        body
    });
    prop_oneof![
        6 => object,
        2 => cut,
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => "<html>[a-z <>/]{0,200}".prop_map(String::into_bytes),
    ]
}

fn main() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = (100u16..1000, prop::option::of("[0-9]{1,6}|[ -~]{0,30}"), body());
    let started = Instant::now();
    for _ in 0..ANSWERS {
        let (status, retry_after, body) = strategy.new_tree(&mut runner).unwrap().current();
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(&text).unwrap());
        }
        answer::check_answer(StatusCode::from_u16(status).unwrap(), headers, &body);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
    println!(
        "{ANSWERS} answers, every bound held: {:.1} s with their generation, peak memory {peak}",
        started.elapsed().as_secs_f64()
    );
}
