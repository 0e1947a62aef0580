//! A collector of traces, for OTLP over gRPC and over HTTP on one port.

use std::{collections::BTreeMap, fmt::Write as _, io::Read as _, net::SocketAddr, sync::Arc};

use axum::{extract, response::IntoResponse as _, routing::post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{self, span::SpanKind, status::StatusCode as Code},
};
use prost::Message as _;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Request, Response, Status,
    service::Routes,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};

use super::{Pair, soon};

/// The reaction to exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes all.
    Takes,
    /// Takes all but the first, which it asks to repeat.
    TakesTheSecond,
    /// Refuses all, and tells the value of `authorization`.
    Refuses,
    /// Rejects one span of each export, and tells the value of `authorization`.
    RejectsOne,
    /// Never answers.
    Hangs,
}

/// A collector.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    seen: watch::Sender<Seen>,
}

/// Everything that came so far.
#[derive(Debug, Clone, Default)]
struct Seen {
    exports: usize,
    spans: Vec<Span>,
    headers: HeaderMap,
    resource: BTreeMap<String, String>,
    text: String,
}

/// A span.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) is_server: bool,
    pub(crate) is_error: bool,
    pub(crate) state: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) events: Vec<(String, BTreeMap<String, String>)>,
}

impl Span {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// The `traceparent` of its children.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }

    /// The events of one name.
    pub(crate) fn events(&self, name: &str) -> Vec<&BTreeMap<String, String>> {
        self.events.iter().filter(|event| event.0 == name).map(|event| &event.1).collect()
    }
}

impl Collector {
    /// A collector in plain text.
    pub(crate) async fn that(manner: Manner) -> Self {
        Self::serve(manner, None).await
    }

    /// A collector for gRPC over TLS.
    pub(crate) async fn with_tls(pair: &Pair) -> Self {
        Self::serve(Manner::Takes, Some(pair)).await
    }

    async fn serve(manner: Manner, pair: Option<&Pair>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { manner, seen: watch::channel(Seen::default()).0 });
        let service = TraceServiceServer::new(Grpc(Arc::clone(&state)));
        let service = service.accept_compressed(tonic::codec::CompressionEncoding::Gzip);
        let serving = match pair {
            None => {
                let router = Routes::new(service).into_axum_router();
                let http = axum::Router::new().route("/v1/traces", post(http)).with_state(Arc::clone(&state));
                let router = router.merge(http);
                tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
            }
            Some(pair) => {
                let tls = ServerTlsConfig::new().identity(pair.identity());
                let mut server = Server::builder().tls_config(tls).unwrap();
                let serving = server.add_service(service).serve_with_incoming(TcpIncoming::from(listener));
                tokio::spawn(async move { serving.await.unwrap() })
            }
        };
        Self { address, state, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Its URL, in plain text.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for this many spans, and returns the servers' and the clients', in the order of their ends.
    pub(crate) async fn spans(&self, number: usize) -> (Vec<Span>, Vec<Span>) {
        let mut seen = self.state.seen.subscribe();
        let spans = soon(seen.wait_for(|seen| seen.spans.len() >= number)).await.unwrap().spans.clone();
        assert_eq!(spans.len(), number, "{spans:#?}");
        spans.into_iter().partition(|span| span.is_server)
    }

    /// Waits for this many exports.
    pub(crate) async fn exports(&self, number: usize) {
        let mut seen = self.state.seen.subscribe();
        soon(seen.wait_for(|seen| seen.exports >= number)).await.unwrap();
    }

    /// The number of spans so far.
    pub(crate) fn count(&self) -> usize {
        self.state.seen.borrow().spans.len()
    }

    /// The headers of the last export.
    pub(crate) fn headers(&self) -> HeaderMap {
        self.state.seen.borrow().headers.clone()
    }

    /// The attributes of the program.
    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        self.state.seen.borrow().resource.clone()
    }

    /// Every export as text.
    pub(crate) fn text(&self) -> String {
        self.state.seen.borrow().text.clone()
    }
}

/// The answer to an export.
enum Answer {
    Taken,
    Busy,
    Refused(String),
    Partial(ExportTraceServiceResponse),
}

impl State {
    async fn export(&self, headers: &HeaderMap, message: ExportTraceServiceRequest) -> Answer {
        let key = headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
        let number = {
            let mut number = 0;
            self.seen.send_modify(|seen| {
                seen.exports += 1;
                number = seen.exports;
                seen.headers = headers.clone();
                writeln!(seen.text, "{message:?}").unwrap();
            });
            number
        };
        match self.manner {
            Manner::TakesTheSecond if number == 1 => return Answer::Busy,
            Manner::Refuses => return Answer::Refused(format!("the key {key} is wrong")),
            Manner::Hangs => std::future::pending().await,
            Manner::Takes | Manner::TakesTheSecond | Manner::RejectsOne => {}
        }
        self.seen.send_modify(|seen| {
            for of_resource in message.resource_spans {
                seen.resource = attributes(of_resource.resource.unwrap().attributes);
                seen.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(span));
            }
        });
        if self.manner == Manner::RejectsOne {
            let mut response = ExportTraceServiceResponse::default();
            let partial = response.partial_success.get_or_insert_default();
            (partial.rejected_spans, partial.error_message) = (1, format!("the key {key} is used up"));
            return Answer::Partial(response);
        }
        Answer::Taken
    }
}

/// The service for gRPC.
#[derive(Debug)]
struct Grpc(Arc<State>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        match self.0.export(&metadata.into_headers(), message).await {
            Answer::Taken => Ok(Response::new(ExportTraceServiceResponse::default())),
            Answer::Partial(response) => Ok(Response::new(response)),
            Answer::Busy => Err(Status::unavailable("not now")),
            Answer::Refused(text) => Err(Status::permission_denied(text)),
        }
    }
}

/// The same over HTTP.
async fn http(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let mut bytes = Vec::new();
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut bytes).unwrap();
    } else {
        bytes.extend_from_slice(&body);
    }
    match state.export(&headers, ExportTraceServiceRequest::decode(&*bytes).unwrap()).await {
        Answer::Taken => StatusCode::OK.into_response(),
        Answer::Partial(response) => response.encode_to_vec().into_response(),
        Answer::Busy => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response(),
        Answer::Refused(text) => (StatusCode::FORBIDDEN, text).into_response(),
    }
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    list.into_iter().map(|entry| (entry.key, text(entry.value.unwrap().value.unwrap()))).collect()
}

fn span(span: v1::Span) -> Span {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano);
    let is_server = span.kind() == SpanKind::Server;
    assert!(is_server || span.kind() == SpanKind::Client);
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        is_server,
        is_error: span.status.is_some_and(|status| status.code() == Code::Error),
        name: span.name,
        state: span.trace_state,
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(|event| (event.name, attributes(event.attributes))).collect(),
    }
}
