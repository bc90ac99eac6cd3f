//! The Invoke API over HTTP, for clients that AWS made.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::net::TcpListener;

use crate::harness::{Call, Invoker};
use crate::{Invocation, InvokeError, limits};

/// More than any payload that gets the answer that it is too large.
const MAX_BODY_BYTES: usize = 64 << 20;

pub(crate) async fn start(invoker: Invoker) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(invoker);
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

/// `name`, `account:function:name` or a whole ARN, each with or without a qualifier.
fn plain_name(name: &str) -> &str {
    let after = name.rsplit_once("function:").map_or(name, |(_, rest)| rest);
    after.split(':').next().unwrap_or(after)
}

async fn invoke(
    State(invoker): State<Invoker>,
    Path(name): Path<String>,
    headers: HeaderMap,
    payload: Bytes,
) -> Response<Body> {
    let id = invoker.settings().request_id();
    match answer(&invoker, plain_name(&name), &headers, payload).await {
        Ok(mut response) => {
            insert(&mut response, "x-amzn-requestid", &id);
            response
        }
        Err(error) => {
            let mut response = Response::new(Body::from(error.body()));
            *response.status_mut() = StatusCode::from_u16(error.status()).unwrap_or_default();
            insert(&mut response, "x-amzn-requestid", &id);
            insert(&mut response, "x-amzn-errortype", error.name());
            insert(&mut response, "content-type", "application/json");
            if error == InvokeError::TooManyRequests {
                insert(&mut response, "retry-after", "1");
            }
            response
        }
    }
}

async fn answer(
    invoker: &Invoker,
    name: &str,
    headers: &HeaderMap,
    payload: Bytes,
) -> Result<Response<Body>, InvokeError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let client_context = match text("x-amz-client-context") {
        None => None,
        Some(encoded) => {
            let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let wrong = || {
                InvokeError::InvalidRequestContent(
                    "Client context must be a valid Base64-encoded JSON".to_owned(),
                )
            };
            Some(decoded.ok_or_else(wrong)?)
        }
    };
    let trace_id = text("x-amzn-trace-id").map(str::to_owned);
    let call = Call { payload, client_context, cognito_identity: None, trace_id };
    let mut response = Response::new(Body::empty());
    match text("x-amz-invocation-type").unwrap_or("RequestResponse") {
        "RequestResponse" => {
            let invocation = invoker.invoke(name, call).await?;
            let tail = (text("x-amz-log-type") == Some("Tail")).then(|| tail(&invocation));
            if let Some(error) = invocation.function_error {
                insert(&mut response, "x-amz-function-error", error);
            }
            if let Some(tail) = tail {
                insert(&mut response, "x-amz-log-result", &tail);
            }
            insert(&mut response, "content-type", "application/json");
            *response.body_mut() = Body::from(invocation.payload);
        }
        "Event" => {
            invoker.invoke_async(name, call)?;
            *response.status_mut() = StatusCode::ACCEPTED;
        }
        "DryRun" => {
            invoker.dry_run(name)?;
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        other => {
            let message = format!(
                "1 validation error detected: Value '{other}' at 'invocationType' failed to satisfy constraint: \
                 Member must satisfy enum value set: [Event, DryRun, RequestResponse]"
            );
            return Err(InvokeError::InvalidParameterValue(message));
        }
    }
    insert(&mut response, "x-amz-executed-version", "$LATEST");
    Ok(response)
}

/// The last of the log, base64.
fn tail(invocation: &Invocation) -> String {
    let log = invocation.log.as_bytes();
    STANDARD.encode(&log[log.len().saturating_sub(limits::LOG_TAIL_BYTES)..])
}

fn insert(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
