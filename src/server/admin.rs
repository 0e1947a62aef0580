//! The admin port, over HTTP/1.1: probes, metrics, the configuration and a page for people, with bounds on connections,
//! heads and time. All endpoints are read-only and expose no secret.

mod console;
mod html;
mod page;
mod readiness;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

pub(super) use self::console::{Console, Facts};
use super::{
    eviction::{Evictable, Ticket},
    recent::SAMPLE_EVERY,
};
use crate::build_info;

/// Concurrent connections; the oldest is closed for a new one.
const MAX_CONNECTIONS: usize = 64;

/// Timeout for the head of a request, which includes the idle time of the connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest head of a request.
const MAX_HEAD: usize = 16 * 1024;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the port until the handle is dropped.
pub(super) fn serve(listener: TcpListener, console: Arc<Console>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(accept(listener, console)))
}

async fn accept(listener: TcpListener, console: Arc<Console>) {
    let evicted = console.metrics().admin_connections_evicted.clone();
    let connections = Arc::new(Evictable::new(MAX_CONNECTIONS, Duration::ZERO, evicted));
    let router = router(Arc::clone(&console));
    let mut tasks = JoinSet::new();
    let mut samples = tokio::time::interval(SAMPLE_EVERY);
    samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(_) = tasks.join_next() => {}
            _ = samples.tick() => console.sample(),
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let (ticket, has_evicted) = connections.admit(Some(address.ip()));
                    tasks.spawn(serve_connection(stream, ticket, router.clone()));
                    if has_evicted {
                        // Lets the task of the evicted connection run, which closes the descriptor.
                        tokio::task::yield_now().await;
                    }
                }
                Err(fault) => {
                    debug!(error = %fault, "can't accept a connection on the admin port");
                    // Connections in their handshake must not make liveness checks fail.
                    console.shared().handshakes.evict_oldest();
                    connections.relieve().await;
                }
            }
        }
    }
}

/// Serves one connection. Request bodies are not read; a connection that sends one is closed.
async fn serve_connection(stream: TcpStream, ticket: Ticket, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        ended = connection => if let Err(fault) = ended {
            debug!(error = %fault, "connection on the admin port ended");
        },
        () = ticket.evicted() => {}
    }
}

fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/config", get(config))
        .route("/version", get(version))
        .fallback(missing)
        .with_state(console)
        .layer(map_response(protected))
}

/// A response is current, and is neither shown inside another page nor taken for another type.
async fn protected(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CACHE_CONTROL, "no-store");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    response
}

async fn page(State(console): State<Arc<Console>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let html = page::html(&console, has(query.as_deref(), "refresh"));
    ([(header::CONTENT_TYPE, HTML), (header::CONTENT_SECURITY_POLICY, &**page::POLICY)], html).into_response()
}

async fn ready(State(console): State<Arc<Console>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let is_ready = console.shared().is_ready();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if has(query.as_deref(), "verbose") {
        readiness::verbose(&readiness::conditions(&console), is_ready)
    } else if is_ready {
        "ok\n".to_owned()
    } else {
        "not ready\n".to_owned()
    };
    (status, text)
}

async fn metrics(State(console): State<Arc<Console>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], console.metrics_text())
}

/// The effective configuration, as `check` shows it.
async fn config(State(console): State<Arc<Console>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, TEXT)], console.facts().description.clone())
}

async fn version() -> String {
    format!("{}\n", build_info::Line)
}

/// A path without an endpoint.
async fn missing(method: Method) -> Response {
    if matches!(method, Method::GET | Method::HEAD) {
        (StatusCode::NOT_FOUND, "not found\n").into_response()
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET,HEAD")]).into_response()
    }
}

/// Whether a query has this parameter, with any value or none.
fn has(query: Option<&str>, name: &str) -> bool {
    query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some(name)))
}
