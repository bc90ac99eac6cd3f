//! Refusals as answers of HTTP: the one place that maps them (ARCHITECTURE section 6).

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::journal::Refusal;
use keytrail_model::Receipt;

/// Header that a receipt comes in.
pub const RECEIPT: HeaderName = HeaderName::from_static("keytrail-receipt");

/// Status of an answer.
pub fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Body(_) => StatusCode::BAD_REQUEST,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::OperationUnknown => StatusCode::NOT_FOUND,
        Refusal::OperationExists => StatusCode::CONFLICT,
        Refusal::Full | Refusal::Unsealed | Refusal::Busy | Refusal::Stopping | Refusal::Slow => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Refusal::Poisoned => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A refusal as one line of JSON.
pub fn to_json(refusal: &Refusal) -> String {
    serde_json::json!({ "code": refusal.code(), "message": refusal.to_string() }).to_string()
}

/// An answer with the receipt of a durable record.
pub fn recorded(status: StatusCode, body: String, receipt: &Receipt) -> Response {
    let mut response = json(status, body);
    if let Ok(value) = HeaderValue::try_from(receipt.to_header()) {
        response.headers_mut().insert(RECEIPT, value);
    }
    response
}

/// An answer of JSON.
pub fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = status(&self);
        let mut response = json(status, to_json(&self));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
