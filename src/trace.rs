//! Traces: a server span for each call and a client span for each request to the cloud, with the attributes of OpenTelemetry's
//! semantic conventions, and the W3C trace context that joins them to the spans of callers and of the cloud.
//!
//! Spans that end are queued (`queue`) and exported in the background (`export`). Attributes are names of the program and
//! bounded, masked values: no path, query, message or metadata of a call.

mod context;
mod export;
mod queue;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, StatusCode};
use opentelemetry::{
    Context, InstrumentationScope, KeyValue, StringValue,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span},
};
use tokio_util::task::AbortOnDropHandle;

use self::{export::Exporter, queue::Queue};
pub(crate) use self::{
    export::{Endpoint, Protocol},
    queue::{Exports, Limits},
};
use crate::telemetry::Metrics;

/// Waits that are shorter leave no event.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The longest value of an attribute that is not the program's own.
const LONGEST_VALUE: usize = 128;

/// Where spans go, and which calls have some.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) limits: Limits,
    pub(crate) sampler: Sampler,
    /// The attributes of the program, such as `service.name`.
    pub(crate) resource: Vec<KeyValue>,
}

/// Makes the spans of calls.
#[derive(Debug)]
pub(crate) struct Tracer(SdkTracer);

impl Tracer {
    /// Starts the task that exports spans. Needs a runtime; opens no connection before the first export.
    ///
    /// # Errors
    ///
    /// The client for the collector can't be set up.
    pub(crate) fn start(settings: &Settings, metrics: &Arc<Metrics>) -> Result<(Self, Exports), String> {
        let resource = Resource::builder_empty().with_attributes(settings.resource.iter().cloned()).build();
        let exporter = Exporter::new(&settings.endpoint, &resource, metrics)?;
        let (queue, spans) = Queue::new(settings.limits, metrics.spans_lost.clone());
        let provider = SdkTracerProvider::builder()
            .with_sampler(settings.sampler.clone())
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"));
        let tracer = provider.tracer_with_scope(scope.build());
        let closing = spans.closing();
        let task = AbortOnDropHandle::new(tokio::spawn(spans.export(exporter)));
        Ok((Self(tracer), Exports::new(task, closing)))
    }

    /// Starts the span of a call, below the span that its trace context names.
    pub(crate) fn call(
        &self,
        method: &'static str,
        parent: Option<&HeaderValue>,
        state: Option<&HeaderValue>,
    ) -> CallSpan {
        let parent = parent.and_then(|parent| context::read(parent, state));
        let parent = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let builder = SpanBuilder::from_name(method).with_kind(SpanKind::Server);
        let mut span = self.0.build_with_context(builder, &parent);
        if span.is_recording() {
            span.set_attribute(KeyValue::new("rpc.system.name", "grpc"));
            span.set_attribute(KeyValue::new("rpc.method", method));
        }
        CallSpan(Arc::new(Call {
            tracer: self.0.clone(),
            context: span.span_context().clone(),
            span: span.is_recording().then(|| Mutex::new(span)),
            requests: AtomicU32::new(0),
        }))
    }
}

/// The span of a call. Clones are the same span; it is exported when it has ended.
#[derive(Debug, Clone)]
pub(crate) struct CallSpan(Arc<Call>);

#[derive(Debug)]
struct Call {
    tracer: SdkTracer,
    context: SpanContext,
    /// `None` if the call is not sampled.
    span: Option<Mutex<Span>>,
    /// Requests to the cloud so far.
    requests: AtomicU32,
}

/// The end of a call.
#[derive(Debug)]
pub(crate) struct End<'a> {
    /// The name of its gRPC code.
    pub(crate) code: &'static str,
    /// `None` for a success.
    pub(crate) error: Option<&'a str>,
    /// The gateway or the cloud failed, rather than the caller.
    pub(crate) is_fault: bool,
    /// The effect of a change that did not succeed.
    pub(crate) outcome: Option<&'static str>,
    /// The cloud's id for the request.
    pub(crate) cloud_id: Option<&'a str>,
}

/// A request to the cloud.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) verb: &'a str,
    /// The path with the names of its parameters.
    pub(crate) template: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// It may be one more attempt of the same call.
    pub(crate) is_attempt: bool,
}

impl CallSpan {
    /// The id of the trace, as hexadecimal digits.
    pub(crate) fn trace_id(&self) -> String {
        self.0.context.trace_id().to_string()
    }

    /// Whether the span is recorded, so that it is worth the description of a request.
    pub(crate) fn is_recording(&self) -> bool {
        self.0.span.is_some()
    }

    /// Starts the span of a request; `None` if the call is not sampled.
    pub(crate) fn request(&self, request: &Request<'_>) -> Option<RequestSpan> {
        if !self.is_recording() {
            return None;
        }
        let name = format!("{} {}", request.verb, request.template);
        let mut attributes = vec![
            KeyValue::new("http.request.method", request.verb.to_owned()),
            KeyValue::new("url.template", request.template.to_owned()),
            KeyValue::new("server.address", request.host.trim_matches(['[', ']']).to_owned()),
            KeyValue::new("server.port", i64::from(request.port)),
        ];
        if request.is_attempt {
            let before = self.0.requests.fetch_add(1, Ordering::Relaxed);
            if before > 0 {
                attributes.push(KeyValue::new("http.request.resend_count", i64::from(before)));
            }
        }
        let parent = Context::new().with_remote_span_context(self.0.context.clone());
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Client).with_attributes(attributes);
        Some(RequestSpan { span: Box::new(self.0.tracer.build_with_context(builder, &parent)), is_settled: false })
    }

    /// Adds the trace context to the headers of a request.
    pub(crate) fn inject(&self, request: Option<&RequestSpan>, headers: &mut HeaderMap) {
        context::write(request.map_or(&self.0.context, |request| request.span.span_context()), headers);
    }

    /// Notes the time from now until the value is dropped, if it is worth an event.
    pub(crate) fn wait(&self, reason: &'static str) -> Option<Wait<'_>> {
        self.is_recording().then(|| Wait { call: self, reason, started: Instant::now() })
    }

    /// Notes that attempt number `attempt` failed and is repeated after a pause.
    pub(crate) fn retry(&self, attempt: u32, delay: Duration) {
        self.event("apig_gateway.retry", || {
            vec![
                KeyValue::new("apig_gateway.attempt", i64::from(attempt)),
                KeyValue::new("apig_gateway.delay", delay.as_secs_f64()),
            ]
        });
    }

    /// Notes the result of the look-up of an unknown outcome.
    pub(crate) fn read_back(&self, result: &'static str) {
        self.event("apig_gateway.read_back", || vec![KeyValue::new("apig_gateway.result", result)]);
    }

    /// Ends the span.
    pub(crate) fn end(&self, end: &End<'_>) {
        let Some(mut span) = self.span() else { return };
        span.set_attribute(KeyValue::new("rpc.response.status_code", end.code));
        if let Some(error) = end.error {
            span.set_attribute(KeyValue::new("error.type", bounded(error)));
        }
        if let Some(outcome) = end.outcome {
            span.set_attribute(KeyValue::new("apig_gateway.outcome", outcome));
        }
        if let Some(id) = end.cloud_id {
            span.set_attribute(KeyValue::new("apig_gateway.apig_request_id", bounded(id)));
        }
        if end.is_fault {
            span.set_status(Status::error(""));
        }
        span.end();
    }

    fn event(&self, name: &'static str, attributes: impl FnOnce() -> Vec<KeyValue>) {
        if let Some(mut span) = self.span() {
            span.add_event(name, attributes());
        }
    }

    fn span(&self) -> Option<MutexGuard<'_, Span>> {
        let span = self.0.span.as_ref()?;
        Some(span.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A value from outside, cut.
fn bounded(text: &str) -> String {
    text.chars().take(LONGEST_VALUE).collect()
}

/// A wait within a call. Dropped, also when the call ends first, it becomes an event.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    call: &'a CallSpan,
    reason: &'static str,
    started: Instant,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = self.started.elapsed();
        if waited >= SHORTEST_WAIT {
            self.call.event("apig_gateway.wait", || {
                vec![
                    KeyValue::new("apig_gateway.wait.reason", self.reason),
                    KeyValue::new("apig_gateway.wait.duration", waited.as_secs_f64()),
                ]
            });
        }
    }
}

/// The span of a request to the cloud. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct RequestSpan {
    span: Box<Span>,
    /// The result is known.
    is_settled: bool,
}

impl RequestSpan {
    /// Ends the span with the status of the answer, if there is one, and the name of the error. A status that is an error is
    /// its own name.
    pub(crate) fn end(mut self, status: Option<StatusCode>, error: Option<&'static str>) {
        self.is_settled = true;
        if let Some(status) = status {
            self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        }
        match status.filter(|status| status.as_u16() >= 400) {
            Some(status) => self.failed(status.as_str().to_owned()),
            None => error.into_iter().for_each(|error| self.failed(error)),
        }
    }

    fn failed(&mut self, error: impl Into<StringValue>) {
        self.span.set_attribute(KeyValue::new("error.type", error.into()));
        self.span.set_status(Status::error(""));
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        // The deadline has passed, or the caller has left.
        if !self.is_settled {
            self.failed("cancelled");
        }
    }
}
