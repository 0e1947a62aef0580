//! Sends spans to a collector: OTLP over gRPC, or protobuf over HTTP. An export is repeated when the protocol says so, until
//! its time is over. Exports use no proxy, have no spans themselves, and their error texts are masked.

use std::{io::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_client::TraceServiceClient,
    },
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use prost::Message as _;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tonic::{
    Code, Request, Status,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Channel, Endpoint as ChannelEndpoint},
};
use tonic_types::StatusExt as _;

use crate::{
    mask::Masker,
    telemetry::Metrics,
    upstream::{self, Upstream},
};

/// The first pause is anything up to this; each further one up to twice as much.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// No pause of our own choosing is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// The time between pings on a connection with exports under way, and the longest wait for their answers.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

static PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
static GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// The protocol of exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

/// A collector.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) protocol: Protocol,
    /// The collector's host, and certificates for it.
    pub(crate) upstream: upstream::Settings,
    /// The path of exports over HTTP.
    pub(crate) path: String,
    /// Headers of each export, which may be secrets.
    pub(crate) headers: HeaderMap,
    /// Whether messages are compressed with gzip.
    pub(crate) is_gzip: bool,
}

/// Sends batches of spans.
pub(super) struct Exporter {
    transport: Transport,
    headers: HeaderMap,
    is_gzip: bool,
    resource: ResourceAttributesWithSchema,
}

enum Transport {
    Grpc(Box<TraceServiceClient<Channel>>),
    Http { upstream: Box<Upstream>, path: String },
}

/// Spans that the collector does not have.
#[derive(Debug)]
pub(super) struct Rejected {
    /// `None`: the whole batch.
    pub(super) spans: Option<usize>,
    pub(super) cause: String,
}

/// A failed attempt.
struct Failed {
    cause: String,
    repeat: Repeat,
}

/// Whether a repeat may help.
enum Repeat {
    Never,
    AfterBackoff,
    /// After the pause that the collector asked for.
    After(Duration),
}

impl Repeat {
    fn after(asked: Option<Duration>) -> Self {
        asked.map_or(Self::AfterBackoff, Self::After)
    }
}

impl Exporter {
    /// Opens no connection yet.
    ///
    /// # Errors
    ///
    /// The collector's address or certificates can't be used.
    pub(super) fn new(endpoint: &Endpoint, resource: &Resource, metrics: &Arc<Metrics>) -> Result<Self, String> {
        let transport = match endpoint.protocol {
            Protocol::Grpc => {
                let mut client = TraceServiceClient::new(channel(&endpoint.upstream)?);
                if endpoint.is_gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                Transport::Grpc(Box::new(client))
            }
            Protocol::Http => {
                let upstream = Upstream::new(&endpoint.upstream, Arc::clone(metrics))?;
                Transport::Http { upstream: Box::new(upstream), path: endpoint.path.clone() }
            }
        };
        let (headers, is_gzip) = (endpoint.headers.clone(), endpoint.is_gzip);
        Ok(Self { transport, headers, is_gzip, resource: ResourceAttributesWithSchema::from(resource) })
    }

    /// Sends one batch until the collector has it, or until this moment.
    ///
    /// # Errors
    ///
    /// The collector has not taken all of it.
    pub(super) async fn export(&self, batch: Vec<SpanData>, until: Instant) -> Result<(), Rejected> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let message = ExportTraceServiceRequest { resource_spans };
        let whole = |cause| Rejected { spans: None, cause };
        let mut longest = FIRST_DELAY;
        loop {
            let attempt = async {
                match &self.transport {
                    Transport::Grpc(client) => self.call(client, message.clone()).await,
                    Transport::Http { upstream, path } => self.post(upstream, path, &message).await,
                }
            };
            let failed = match tokio::time::timeout_at(until, attempt).await {
                Err(_) => return Err(whole("no answer in time".to_owned())),
                Ok(Ok(answer)) => return answer.partial_success.map_or(Ok(()), |partial| self.partial(&partial)),
                Ok(Err(failed)) => failed,
            };
            let delay = match failed.repeat {
                Repeat::Never => return Err(whole(failed.cause)),
                Repeat::After(asked) => asked,
                Repeat::AfterBackoff => longest.mul_f64(fastrand::f64()),
            };
            if delay >= until.saturating_duration_since(Instant::now()) {
                return Err(whole(failed.cause));
            }
            tokio::time::sleep(delay).await;
            longest = (longest * 2).min(LONGEST_DELAY);
        }
    }

    /// An answer that may reject a part of the batch.
    fn partial(&self, partial: &ExportTracePartialSuccess) -> Result<(), Rejected> {
        match usize::try_from(partial.rejected_spans) {
            Ok(spans) if spans > 0 => {
                let cause = self.masker().mask(&partial.error_message).into_owned();
                Err(Rejected { spans: Some(spans), cause })
            }
            _ => Ok(()),
        }
    }

    async fn call(
        &self,
        client: &TraceServiceClient<Channel>,
        message: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Failed> {
        let mut request = Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        match client.clone().export(request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                let cause = format!("{:?}: {}", status.code(), status.message());
                Err(Failed { cause: self.masker().mask(&cause).into_owned(), repeat: repeat(&status) })
            }
        }
    }

    async fn post(
        &self,
        upstream: &Upstream,
        path: &str,
        message: &ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Failed> {
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_TYPE, PROTOBUF.clone());
        let mut body = message.encode_to_vec();
        if self.is_gzip {
            headers.insert(header::CONTENT_ENCODING, GZIP.clone());
            body = gzip(&body);
        }
        let masker = self.masker();
        let sent = upstream.fetch(Method::POST, path, "", headers, Some(Bytes::from(body)), &masker).await;
        let answer = sent.map_err(|cause| Failed { cause, repeat: Repeat::AfterBackoff })?;
        if answer.status.is_success() {
            // An answer in another form has nothing to tell.
            return Ok(ExportTraceServiceResponse::decode(answer.body).unwrap_or_default());
        }
        let seconds = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let repeat = match answer.status.as_u16() {
            429 | 502..=504 => Repeat::after(seconds.map(Duration::from_secs)),
            _ => Repeat::Never,
        };
        Err(Failed { cause: format!("HTTP status {}", answer.status.as_u16()), repeat })
    }

    fn masker(&self) -> Masker<'_> {
        Masker::new(self.headers.values().map(HeaderValue::as_bytes))
    }
}

/// Whether OTLP has a status repeated.
fn repeat(status: &Status) -> Repeat {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Repeat::after(asked),
        Code::ResourceExhausted if asked.is_some() => Repeat::after(asked),
        _ => Repeat::Never,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let written = packed.write_all(bytes).and_then(|()| packed.finish());
    written.expect("memory takes all that is written")
}

/// A connection that is opened for the first export, and again when it is lost.
fn channel(settings: &upstream::Settings) -> Result<Channel, String> {
    let host = settings.base.host_str().unwrap_or_default().to_owned();
    let port = settings.base.port_or_known_default().unwrap_or_default();
    let unusable = |error: &dyn std::error::Error| format!("can't be used: {error}");
    // TLS is the connector's, so that tonic must not see `https`.
    let endpoint = ChannelEndpoint::from_shared(format!("http://{host}:{port}"));
    let endpoint = endpoint.and_then(|endpoint| endpoint.user_agent(upstream::USER_AGENT));
    let endpoint = endpoint
        .map_err(|error| unusable(&error))?
        .connect_timeout(settings.connect_timeout)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    if settings.base.scheme() != "https" {
        return Ok(endpoint.connect_lazy());
    }
    let origin: Uri = format!("https://{host}:{port}").parse().map_err(|error| unusable(&error))?;
    let mut config = settings.tls_config()?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| unusable(&error))?;
    let connect = move |_: Uri| {
        let (tls, name, address) = (tls.clone(), name.clone(), format!("{host}:{port}"));
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            tls.connect(name, stream).await.map(TokioIo::new)
        }
    };
    Ok(endpoint.origin(origin).connect_with_connector_lazy(tower::service_fn(connect)))
}
