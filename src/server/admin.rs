//! The admin port: `/livez`, `/readyz`, `/metrics` over HTTP/1.1, with bounds on connections, heads and time. All endpoints
//! are read-only and expose no secret.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::{
    Shared,
    eviction::{Evictable, Ticket},
};

/// Concurrent connections; the oldest is closed for a new one.
const MAX_CONNECTIONS: usize = 64;

/// Timeout for the head of a request, which includes the idle time of the connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest head of a request.
const MAX_HEAD: usize = 16 * 1024;

/// Serves the port until the handle is dropped.
pub(super) fn serve(listener: TcpListener, shared: Arc<Shared>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(accept(listener, shared)))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let connections = Evictable::new(MAX_CONNECTIONS, Duration::ZERO, shared.metrics.admin_connections_evicted.clone());
    let connections = Arc::new(connections);
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&shared));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = tasks.join_next() => {}
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
                    shared.handshakes.evict_oldest();
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

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.is_ready() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], shared.metrics.text())
}
