//! Success: the request that reaches the cloud, and the response that its answer becomes.

use super::{Sample, call, samples};
use crate::support::{Cloud, Gateway, Reply, Seen};

fn success(sample: &Sample) -> Reply {
    match &sample.answer {
        Some((body, _)) => Reply::json(200, body),
        None => Reply::attached(),
    }
}

/// The parameters of a query as a set: their order means nothing.
fn parameters(query: &str) -> Vec<&str> {
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    pairs
}

fn assert_sent(sample: &Sample, family: &str, query: &str, body: Option<&str>, seen: &Seen) {
    let name = sample.name;
    let (line, sent) = seen.line.split_once('?').unwrap_or((&seen.line, ""));
    assert_eq!(line, sample.line.replacen("/apic/", &format!("/{family}/"), 1));
    assert_eq!(parameters(sent), parameters(query), "{name}");
    assert_eq!(seen.body, body.unwrap_or_default(), "{name}");
    let mut headers: Vec<&str> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    headers.sort_unstable();
    let expected: &[&str] = match body {
        Some(_) => &["accept", "content-length", "content-type", "host", "user-agent", "x-auth-token", "x-request-id"],
        None => &["accept", "host", "user-agent", "x-auth-token", "x-request-id"],
    };
    assert_eq!(headers, expected, "{name}");
    assert_eq!(seen.header("accept"), Some("application/json"), "{name}");
    assert_eq!(seen.header("content-type"), body.map(|_| "application/json"), "{name}");
    assert_eq!(seen.header("x-auth-token"), Some("t"), "{name}");
}

#[tokio::test]
async fn the_request_is_the_documented_one_and_the_response_has_every_field() {
    for family in ["apic", "apigw"] {
        let cloud = Cloud::answering(samples().iter().flat_map(|sample| [success(sample), success(sample)])).await;
        let gateway = Gateway::facing(cloud.address).with("api-family", family).start().await;
        let channel = gateway.channel().await;
        for sample in samples() {
            let bodies = (sample.body.map(|body| body.0), sample.body.map(|body| body.1));
            let requests = [(&sample.full, sample.query.0, bodies.0), (&sample.least, sample.query.1, bodies.1)];
            for (message, query, body) in requests {
                let before = cloud.seen().len();
                let response = call(&channel, &sample, message).await.unwrap();
                assert_eq!(response.metadata().get("apig-request-id").unwrap(), "cloud-1", "{}", sample.name);
                let expected = sample.answer.as_ref().map(|(_, response)| response.clone()).unwrap_or_default();
                assert_eq!(*response.get_ref(), expected, "{}", sample.name);
                assert_sent(&sample, family, query, body, &cloud.last_request());
                assert_eq!(cloud.seen().len(), before + 1, "{}", sample.name);
            }
        }
    }
}

#[tokio::test]
async fn a_project_that_is_left_out_is_the_default() {
    let cloud = Cloud::answering(samples().iter().map(success)).await;
    let gateway = Gateway::facing(cloud.address).with("project-id", "ours").start().await;
    let channel = gateway.channel().await;
    for sample in samples() {
        // `project_id = 1` with two bytes.
        let message = sample.least.strip_prefix(b"\x0a\x02p1").unwrap();
        call(&channel, &sample, message).await.unwrap();
        let line = cloud.last_request().line;
        assert!(line.starts_with(&sample.line.replacen("/p1/", "/ours/", 1)), "{}: {line}", sample.name);
    }
}
