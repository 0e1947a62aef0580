//! The admin port: `/livez`, `/readyz`, `/metrics`. It has no secrets and changes nothing.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::Shared;

/// Serves the port until the handle is dropped.
pub(super) fn serve(listener: TcpListener, shared: Arc<Shared>) -> AbortOnDropHandle<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared);
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(fault) = axum::serve(listener, router).await {
            warn!(%fault, "the admin port ended");
        }
    }))
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.is_ready() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], shared.metrics.text())
}
