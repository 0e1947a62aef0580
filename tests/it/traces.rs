//! Traces as a collector has them: the spans of a call, their parents and attributes.

mod collectors;
mod variables;

use std::{collections::BTreeMap, time::Duration};

use apig_grpc_gateway::pb::AttachDomainsRequest;
use prost::Message as _;
use tonic::{Code, Request, Status};

use crate::support::{
    ATTACH, Cloud, Collector, Gateway, Manner, Plan, Reply, Span, documented, domain, failed, frame, on_certificate,
    send_bytes, soon,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const METHOD: &str = "huaweicloud.apic.v2.CertificateService/AttachDomains";
const TEMPLATE: &str = "/v2/{project_id}/apic/certificates/{certificate_id}/domains/attach";

/// The same gateway with traces that are exported at once, over HTTP.
pub(super) fn traced(plan: Plan, collector: &str) -> Plan {
    plan.variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector).variable("OTEL_BSP_SCHEDULE_DELAY", "10")
}

async fn gateway(cloud: &Cloud, collector: &Collector) -> Gateway {
    traced(Gateway::facing(cloud.address), &collector.url()).start().await
}

/// A call in a trace.
fn call(traceparent: &str) -> Request<AttachDomainsRequest> {
    let mut request = Request::new(documented());
    for (name, value) in [
        ("x-auth-token", "t"),
        ("traceparent", traceparent),
        ("tracestate", "vendor=1,other=2"),
        ("baggage", "user=alice"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

async fn send(gateway: &Gateway, traceparent: &str) -> Result<(), Status> {
    gateway.caller().await.send(call(traceparent)).await.map(drop)
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The only server span, below the caller's, and its clients' spans, each below it.
async fn trace(collector: &Collector, clients: usize) -> (Span, Vec<Span>) {
    let (servers, found) = collector.spans(1 + clients).await;
    let [server] = <[Span; 1]>::try_from(servers).unwrap();
    assert_eq!((server.trace.as_str(), server.parent.as_str()), (TRACE, PARENT));
    assert_eq!((server.name.as_str(), server.state.as_str()), (METHOD, "vendor=1,other=2"));
    for client in &found {
        assert_eq!((client.trace.as_str(), &client.parent), (TRACE, &server.id));
    }
    (server, found)
}

#[tokio::test]
async fn a_success_is_one_trace_over_either_protocol() {
    for (protocol, compression) in
        [("grpc", "none"), ("grpc", "gzip"), ("http/protobuf", "none"), ("http/protobuf", "gzip")]
    {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let collector = Collector::that(Manner::Takes).await;
        let plan = traced(Gateway::facing(cloud.address), &collector.url())
            .variable("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .variable("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
            .variable("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20k%2Cy, x-tenant = a")
            .variable("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=lost");
        let gateway = plan.variable("OTEL_SERVICE_NAME", "certificates").start().await;
        send(&gateway, SAMPLED).await.unwrap();
        let (server, clients) = trace(&collector, 1).await;
        let expected = [
            ("rpc.system.name", "grpc"),
            ("rpc.method", METHOD),
            ("rpc.response.status_code", "OK"),
            ("apig_gateway.apig_request_id", "cloud-1"),
        ];
        assert_eq!(server.attributes, map(&expected));
        assert_eq!((server.is_error, server.events.len()), (false, 0));
        let port = cloud.address.port().to_string();
        let host = cloud.address.ip().to_string();
        let expected = [
            ("http.request.method", "POST"),
            ("url.template", TEMPLATE),
            ("server.address", &host),
            ("server.port", &port),
            ("http.response.status_code", "204"),
        ];
        assert_eq!(clients[0].attributes, map(&expected));
        assert_eq!((clients[0].name.as_str(), clients[0].is_error), (&*format!("POST {TEMPLATE}"), false));

        let request = cloud.only_request();
        assert_eq!(request.header("traceparent"), Some(&*clients[0].traceparent()));
        assert_eq!(request.header("tracestate"), Some("vendor=1,other=2"));
        assert_eq!(request.header("baggage"), None);
        let headers = collector.headers();
        assert_eq!(
            (&headers["authorization"], &headers["x-tenant"]),
            (&"Bearer k,y".parse().unwrap(), &"a".parse().unwrap())
        );
        let resource = collector.resource();
        assert_eq!(resource["service.name"], "certificates");
        assert_eq!(resource["deployment.environment.name"], "test");
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    }
}

#[tokio::test]
async fn a_repeat_is_a_further_request_and_an_event() {
    let busy = Reply::with(503, &[("Retry-After", "0")], b"");
    let cloud = Cloud::answering([busy, Reply::attached()]).await;
    let collector = Collector::that(Manner::Takes).await;
    let gateway = gateway(&cloud, &collector).await;
    send(&gateway, SAMPLED).await.unwrap();
    let (server, clients) = trace(&collector, 2).await;
    let [first, second] = clients.as_slice() else { panic!("{clients:?}") };
    assert_eq!(first.attribute("http.response.status_code"), Some("503"));
    assert_eq!((first.attribute("error.type"), first.is_error), (Some("503"), true));
    assert_eq!(first.attribute("http.request.resend_count"), None);
    assert_eq!(second.attribute("http.request.resend_count"), Some("1"));
    assert_eq!((second.attribute("http.response.status_code"), second.is_error), (Some("204"), false));
    let events = server.events("apig_gateway.retry");
    assert_eq!(events.len(), 1, "{server:?}");
    assert_eq!(events[0]["apig_gateway.attempt"], "1");
    assert!(events[0]["apig_gateway.delay"].parse::<f64>().unwrap() < 1.0);
    assert_eq!((server.attribute("rpc.response.status_code"), server.is_error), (Some("OK"), false));
    let parents: Vec<_> = cloud.seen().iter().map(|seen| seen.header("traceparent").unwrap().to_owned()).collect();
    assert_eq!(parents, [first.traceparent(), second.traceparent()]);
}

#[tokio::test]
async fn a_look_up_is_a_request_and_an_event() {
    let list = r#"{"size":1,"total":1,"bound_domains":[{"url_domain":"a.com","instance_id":"i","id":"1","status":1}]}"#;
    let cloud = Cloud::answering([Reply::close(), Reply::json(200, list)]).await;
    let collector = Collector::that(Manner::Takes).await;
    let gateway = traced(Gateway::facing(cloud.address).with("read-back", "true"), &collector.url()).start().await;
    let mut request = call(SAMPLED);
    let mut wanted = domain("a.com");
    wanted.instance_ids.push("i".into());
    request.get_mut().domains = vec![wanted];
    gateway.caller().await.send(request).await.unwrap();
    let (server, clients) = trace(&collector, 2).await;
    let [change, reading] = clients.as_slice() else { panic!("{clients:?}") };
    assert_eq!((change.attribute("error.type"), change.is_error), (Some("UPSTREAM_CONNECTION_LOST"), true));
    assert_eq!(change.attribute("http.response.status_code"), None);
    let template = "/v2/{project_id}/apic/certificates/{certificate_id}/attached-domains";
    assert_eq!(reading.attribute("url.template"), Some(template));
    assert_eq!(reading.attribute("http.request.resend_count"), None);
    let events = server.events("apig_gateway.read_back");
    assert_eq!(events, [&map(&[("apig_gateway.result", "confirmed")])]);
    assert_eq!(server.attribute("apig_gateway.outcome"), Some("confirmed"));
    assert_eq!(cloud.last_request().header("traceparent"), Some(&*reading.traceparent()));
}

#[tokio::test]
async fn failures_have_their_reason_and_only_those_of_the_server_are_errors() {
    let table = [
        (Reply::refused(404, "APIG.3020", "m"), Code::NotFound, "APIG_3020", "404", false, None),
        (Reply::refused(500, "APIG.9999", "m"), Code::Internal, "APIG_9999", "500", true, Some("unknown")),
        (
            Reply::with(302, &[("Location", "/")], b""),
            Code::Internal,
            "UPSTREAM_REDIRECT",
            "302",
            true,
            Some("unknown"),
        ),
    ];
    for (reply, code, reason, status, is_error, outcome) in table {
        let cloud = Cloud::answering([reply]).await;
        let collector = Collector::that(Manner::Takes).await;
        let gateway = gateway(&cloud, &collector).await;
        let failure = failed(send(&gateway, SAMPLED).await);
        assert_eq!(failure.verdict(), (code, reason));
        let (server, clients) = trace(&collector, 1).await;
        assert_eq!((server.attribute("error.type"), server.is_error), (Some(reason), is_error), "{server:?}");
        assert_eq!(server.attribute("apig_gateway.outcome"), outcome);
        let error = if status == "302" { reason } else { status };
        assert_eq!((clients[0].attribute("error.type"), clients[0].is_error), (Some(error), true));
        assert_eq!(clients[0].attribute("http.response.status_code"), Some(status));
    }
}

#[tokio::test]
async fn calls_that_reach_no_cloud_have_a_span() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let collector = Collector::that(Manner::Takes).await;
    let gateway = gateway(&cloud, &collector).await;
    let mut invalid = call(SAMPLED);
    invalid.get_mut().domains.clear();
    assert_eq!(gateway.caller().await.send(invalid).await.unwrap_err().code(), Code::InvalidArgument);
    let (server, _) = trace(&collector, 0).await;
    assert_eq!((server.attribute("error.type"), server.is_error), (Some("INVALID_REQUEST"), false));

    // A stranger's path is no name.
    send_bytes(&gateway, "/any.Service/Secret", &[], frame(0, b"")).await;
    let (servers, _) = collector.spans(2).await;
    assert_eq!(servers[1].name, "_OTHER");
    assert_eq!((servers[1].parent.as_str(), servers[1].is_error), ("", true));
    assert!(!collector.text().contains("Secret"));
    assert_eq!(cloud.seen().len(), 0);
}

#[tokio::test]
async fn the_deadline_and_a_caller_that_leaves_cancel_the_request() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let collector = Collector::that(Manner::Takes).await;
    let gateway = gateway(&cloud, &collector).await;
    let headers = [("x-auth-token", "t"), ("grpc-timeout", "200m"), ("traceparent", SAMPLED)];
    send_bytes(&gateway, ATTACH, &headers, frame(0, &documented().encode_to_vec())).await;
    let caller = gateway.caller().await;
    let leaves = tokio::spawn(async move { caller.send(call(SAMPLED)).await });
    cloud.requests(2).await;
    leaves.abort();
    let (servers, clients) = collector.spans(4).await;
    assert_eq!(servers[0].attribute("rpc.response.status_code"), Some("DEADLINE_EXCEEDED"));
    assert_eq!((servers[0].attribute("apig_gateway.outcome"), servers[0].is_error), (Some("unknown"), true));
    assert_eq!(servers[1].attribute("rpc.response.status_code"), Some("CANCELLED"));
    assert!(clients.iter().all(|client| client.attribute("error.type") == Some("cancelled") && client.is_error));
}

#[tokio::test]
async fn a_wait_for_a_certificate_is_an_event() {
    let cloud = Cloud::answering([Reply::hang()]).await;
    let collector = Collector::that(Manner::Takes).await;
    let gateway = gateway(&cloud, &collector).await;
    let caller = gateway.caller().await;
    let first = tokio::spawn(async move { caller.send(call(SAMPLED)).await });
    cloud.requests(1).await;
    // The first call has the certificate for longer than this one waits.
    let state = ("tracestate", "vendor=1,other=2");
    let headers = [("x-auth-token", "t"), ("grpc-timeout", "300m"), ("traceparent", SAMPLED), state];
    send_bytes(&gateway, ATTACH, &headers, frame(0, &documented().encode_to_vec())).await;
    let (server, _) = trace(&collector, 0).await;
    let events = server.events("apig_gateway.wait");
    assert_eq!(events.len(), 1, "{server:?}");
    assert_eq!(events[0]["apig_gateway.wait.reason"], "certificate_lock");
    assert!(events[0]["apig_gateway.wait.duration"].parse::<f64>().unwrap() > 0.1);
    first.abort();
}

#[tokio::test]
async fn a_wait_for_the_rate_limit_is_an_event() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let collector = Collector::that(Manner::Takes).await;
    let plan = Gateway::facing(cloud.address).with("max-requests-per-second", "1");
    let gateway = traced(plan, &collector.url()).start().await;
    let caller = gateway.caller().await;
    let attach = |number| {
        let mut request = call(SAMPLED);
        *request.get_mut() = on_certificate(number);
        caller.send(request)
    };
    // At the same time, so that one of them waits for the next second.
    let (one, other) = tokio::join!(attach(1), attach(2));
    one.and(other).unwrap();
    let (servers, _) = collector.spans(4).await;
    let events: Vec<_> = servers.iter().flat_map(|server| server.events("apig_gateway.wait")).collect();
    assert_eq!(events.len(), 1, "{servers:?}");
    assert_eq!(events[0]["apig_gateway.wait.reason"], "rate_limit");
}

#[tokio::test]
async fn an_unsampled_caller_has_no_spans_and_the_cloud_hears_of_it() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let collector = Collector::that(Manner::Takes).await;
    let gateway = gateway(&cloud, &collector).await;
    send(&gateway, UNSAMPLED).await.unwrap();
    let parent = cloud.only_request().header("traceparent").unwrap().to_owned();
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"), "{parent}");
    assert_eq!(cloud.only_request().header("tracestate"), Some("vendor=1,other=2"));
    // Its spans would be there before those of the next call.
    send(&gateway, SAMPLED).await.unwrap();
    trace(&collector, 1).await;
}

#[tokio::test]
async fn samplers_decide_about_calls_without_a_parent() {
    let table = [
        ("always_on", UNSAMPLED, true),
        ("always_off", SAMPLED, false),
        ("parentbased_always_off", SAMPLED, true),
        ("parentbased_always_off", "", false),
        ("parentbased_traceidratio", "", false),
        ("traceidratio", SAMPLED, false),
        ("parentbased_always_on", "no context", true),
        ("parentbased_always_on", UNSAMPLED, false),
    ];
    for (sampler, traceparent, is_sampled) in table {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let collector = Collector::that(Manner::Takes).await;
        let plan = traced(Gateway::facing(cloud.address), &collector.url());
        let plan = plan.variable("OTEL_TRACES_SAMPLER", sampler).variable("OTEL_TRACES_SAMPLER_ARG", "0");
        let mut gateway = plan.start().await;
        let mut request = call(traceparent);
        if traceparent.is_empty() {
            request.metadata_mut().remove("traceparent");
        }
        gateway.caller().await.send(request).await.unwrap();
        let parent = cloud.only_request().header("traceparent").unwrap().to_owned();
        assert_eq!(parent.ends_with("-01"), is_sampled, "{sampler} {traceparent}: {parent}");
        assert_eq!(parent.contains(TRACE), traceparent.contains(TRACE), "{sampler} {traceparent}: {parent}");
        gateway.stop();
        gateway.drained().await;
        assert_eq!(collector.count(), if is_sampled { 2 } else { 0 }, "{sampler} {traceparent}");
    }
}

#[tokio::test]
async fn health_checks_have_no_spans_and_a_drain_exports_the_last_ones() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let collector = Collector::that(Manner::Takes).await;
    let plan = traced(Gateway::facing(cloud.address), &collector.url()).variable("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let mut gateway = plan.start().await;
    let channel = gateway.channel().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    soon(health.check(tonic_health::pb::HealthCheckRequest { service: String::new() })).await.unwrap();
    send(&gateway, SAMPLED).await.unwrap();
    assert_eq!(collector.count(), 0);
    drop(health);
    gateway.stop();
    gateway.drained().await;
    trace(&collector, 1).await;
}

#[tokio::test]
async fn log_lines_name_the_trace() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let collector = Collector::that(Manner::Takes).await;
    let upstream = format!("http://{}", cloud.address);
    let (url, delay) = (collector.url(), ("OTEL_BSP_SCHEDULE_DELAY", "10"));
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), delay];
    let (mut program, address) = crate::support::Program::serve(&["--upstream", &upstream], &variables).await;
    let caller = crate::support::Caller::of(&address).await;
    caller.send(call(SAMPLED)).await.unwrap();
    let line = program.log_line("call ended").await;
    assert!(line.contains(&format!(r#""trace_id":"{TRACE}""#)), "{line}");
    program.signal("TERM").await;
    assert!(program.ended(Duration::from_secs(10)).await.success());
}
