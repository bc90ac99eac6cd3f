//! An audit device of OpenBao or Vault, over HTTP: a line for each POST, 200 once it is durable.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use keytrail_model::Hash;

use crate::journal::{Entry, Journal, MAX_LINE_BYTES, Recorded};

use super::reply;

/// SHA-256 of the token that callers have to know: comparing hashes tells nothing of how much was right.
pub struct Token(Hash);

impl Token {
    /// Of the token's text.
    pub fn of(text: &str) -> Self {
        Self(Hash::of(text.as_bytes()))
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
        given.is_some_and(|token| Hash::of(token) == self.0)
    }
}

#[derive(Clone)]
struct Device {
    journal: Journal,
    token: Arc<Token>,
}

/// The device's route.
pub fn router(journal: Journal, token: Token) -> Router {
    Router::new()
        .route("/v1/lines", post(line))
        .layer(DefaultBodyLimit::max(MAX_LINE_BYTES + 1))
        .with_state(Device { journal, token: Arc::new(token) })
}

async fn line(State(device): State<Device>, headers: HeaderMap, body: Bytes) -> Response {
    if !device.token.is_in(&headers) {
        let text = r#"{"code":"Rejected.Token","message":"expected the device's bearer token"}"#;
        return reply::json(StatusCode::UNAUTHORIZED, text.to_owned());
    }
    let line = match body.strip_suffix(b"\n") {
        Some(line) => body.slice_ref(line),
        None => body,
    };
    match device.journal.record(Entry::Foreign(line)).await {
        Ok(Recorded { receipt, .. }) => reply::recorded(StatusCode::OK, receipt.to_json(), &receipt),
        Err(refusal) => refusal.into_response(),
    }
}
