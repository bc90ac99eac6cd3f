//! Metrics, liveness and readiness, over HTTP.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::journal::Journal;

/// The port's routes.
pub fn router(journal: Journal) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(journal)
}

async fn metrics(State(journal): State<Journal>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, journal.metrics()).into_response()
}

/// Alive is a process whose journal can write: one that cannot is to be started anew.
async fn alive(State(journal): State<Journal>) -> Response {
    match journal.is_poisoned() {
        false => (StatusCode::OK, "alive\n").into_response(),
        true => {
            (StatusCode::INTERNAL_SERVER_ERROR, "poisoned: the spool cannot be written\n").into_response()
        }
    }
}

/// Ready is a process that takes operations.
async fn ready(State(journal): State<Journal>) -> Response {
    match journal.refusal() {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response(),
    }
}
