//! The admin port: `/livez`, `/readyz`, `/metrics` over HTTP/1.1, within bounds that no crowd of peers exhausts. It has no
//! secrets and changes nothing.

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

/// Connections at once; the oldest is closed for one more.
const MOST_CONNECTIONS: usize = 64;

/// The time for the head of a request, the wait for it on an idle connection included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest head of a request.
const MOST_HEAD: usize = 16 * 1024;

/// Serves the port until the handle is dropped.
pub(super) fn serve(listener: TcpListener, shared: Arc<Shared>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(accept(listener, shared)))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let connections =
        Evictable::new(MOST_CONNECTIONS, Duration::ZERO, shared.metrics.admin_connections_evicted.clone());
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
                    tasks.spawn(converse(stream, ticket, router.clone()));
                    if has_evicted {
                        // It has a descriptor until its task has run.
                        tokio::task::yield_now().await;
                    }
                }
                Err(fault) => {
                    debug!(error = %fault, "can't accept a connection on the admin port");
                    // Liveness must not depend on callers that have not even greeted.
                    shared.greeting.evict_oldest();
                    connections.relieve().await;
                }
            }
        }
    }
}

/// Bodies of requests are not read: no handler asks for one, and a connection that still brings one is closed.
async fn converse(stream: TcpStream, ticket: Ticket, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MOST_HEAD)
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
