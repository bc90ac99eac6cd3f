//! The Runtime API (2018-06-01) and the Extensions API (2020-01-01) of one execution environment.
//!
//! Each environment has a server of its own, so that `AWS_LAMBDA_RUNTIME_API` tells them apart. What comes in becomes
//! an [`Event`]; the environment decides what it means.

use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::limits;

/// A runtime that sends more than this is cut off.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Something that a process of the environment did.
pub(crate) enum Event {
    /// The runtime is ready for an invocation.
    Next(oneshot::Sender<Delivery>),
    /// The function answered. The runtime hears of it once `taken` is sent.
    Response { body: Bytes, taken: oneshot::Sender<()> },
    /// The function's answer was over the limit.
    ResponseTooLarge,
    /// The function failed.
    Failure { body: Bytes, taken: oneshot::Sender<()> },
    /// The runtime failed before it was ready.
    InitError { body: Bytes },
    /// An extension is known now.
    Registered,
    /// An extension is ready.
    ExtensionNext { index: usize, event: oneshot::Sender<String> },
    /// An extension said that it failed.
    ExtensionError { kind: String },
    /// A process ended.
    Exited { who: Who, status: ExitStatus },
}

/// A process of an environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Runtime,
    Extension(usize),
}

/// An invocation on its way to the runtime.
pub(crate) struct Delivery {
    pub payload: Bytes,
    pub request_id: String,
    pub deadline_ms: u64,
    pub function_arn: String,
    pub trace_id: String,
    pub client_context: Option<String>,
    pub cognito_identity: Option<String>,
}

/// An extension that registered.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub name: String,
    pub invoke: bool,
    pub shutdown: bool,
    pub internal: bool,
}

/// What the server and the environment both know.
#[derive(Default)]
struct Known {
    /// The invocation that the runtime may answer.
    current: Option<String>,
    registered: Vec<Registered>,
    closed: bool,
}

/// The environment's side of its server.
pub(crate) struct Api {
    shared: Arc<Shared>,
    server: AbortHandle,
    pub address: String,
}

struct Shared {
    known: Mutex<Known>,
    events: mpsc::UnboundedSender<Event>,
    /// File names of the external extensions.
    external: Vec<String>,
    function: String,
    handler: String,
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Api {
    pub async fn start(
        external: Vec<String>,
        function: &str,
        handler: &str,
        events: mpsc::UnboundedSender<Event>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared {
            known: Mutex::default(),
            events,
            external,
            function: function.to_owned(),
            handler: handler.to_owned(),
        });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failure))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .route("/2020-01-01/extension/register", post(register))
            .route("/2020-01-01/extension/event/next", get(extension_next))
            .route("/2020-01-01/extension/init/error", post(extension_error))
            .route("/2020-01-01/extension/exit/error", post(extension_error))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(Arc::clone(&shared));
        // Answers are small and each is waited for.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { shared, server: server.abort_handle(), address })
    }

    /// From now on the runtime may answer this invocation.
    pub fn expect(&self, request_id: &str) {
        self.shared.known().current = Some(request_id.to_owned());
    }

    /// From now on it may answer none.
    pub fn expect_none(&self) {
        self.shared.known().current = None;
    }

    /// No extension may register any more.
    pub fn close_registration(&self) {
        self.shared.known().closed = true;
    }

    pub fn registered(&self) -> Vec<Registered> {
        self.shared.known().registered.clone()
    }
}

type Answer = Response<Body>;

fn answer(status: StatusCode, body: impl Into<Body>) -> Answer {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", axum::http::HeaderValue::from_static("application/json"));
    response
}

fn refused(status: StatusCode, kind: &str, message: &str) -> Answer {
    answer(status, serde_json::json!({"errorMessage": message, "errorType": kind}).to_string())
}

fn accepted() -> Answer {
    answer(StatusCode::ACCEPTED, "{\"status\":\"OK\"}\n")
}

/// The environment is going down: whoever asked will not live to read it.
fn gone() -> Answer {
    refused(
        StatusCode::INTERNAL_SERVER_ERROR,
        "InternalServerError",
        "the execution environment is shut down",
    )
}

async fn next(State(shared): State<Arc<Shared>>) -> Answer {
    let (sender, receiver) = oneshot::channel();
    if shared.events.send(Event::Next(sender)).is_err() {
        return gone();
    }
    let Ok(delivery) = receiver.await else { return gone() };
    let deadline = delivery.deadline_ms.to_string();
    let mut headers = vec![
        ("lambda-runtime-aws-request-id", delivery.request_id),
        ("lambda-runtime-deadline-ms", deadline),
        ("lambda-runtime-invoked-function-arn", delivery.function_arn),
        ("lambda-runtime-trace-id", delivery.trace_id),
    ];
    headers.extend(delivery.client_context.map(|v| ("lambda-runtime-client-context", v)));
    headers.extend(delivery.cognito_identity.map(|v| ("lambda-runtime-cognito-identity", v)));
    let mut response = answer(StatusCode::OK, delivery.payload);
    for (name, value) in headers {
        // A client context comes from outside: what no header can hold is left out.
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

impl Shared {
    /// Takes the answer to the current invocation: of each there is one.
    fn take(&self, id: &str) -> Result<(), Box<Answer>> {
        let mut known = self.known();
        if known.current.as_deref() != Some(id) {
            let refusal = refused(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID");
            return Err(Box::new(refusal));
        }
        known.current = None;
        Ok(())
    }
}

async fn response(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Answer {
    if let Err(refusal) = shared.take(&id) {
        return *refusal;
    }
    if body.len() > limits::RESPONSE_BYTES {
        drop(shared.events.send(Event::ResponseTooLarge));
        let message = format!("Exceeded maximum allowed payload size ({} bytes).", limits::RESPONSE_BYTES);
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message);
    }
    let (taken, receiver) = oneshot::channel();
    if shared.events.send(Event::Response { body, taken }).is_err() || receiver.await.is_err() {
        return gone();
    }
    accepted()
}

async fn failure(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    if let Err(refusal) = shared.take(&id) {
        return *refusal;
    }
    let body = described(body, &headers);
    let (taken, receiver) = oneshot::channel();
    if shared.events.send(Event::Failure { body, taken }).is_err() || receiver.await.is_err() {
        return gone();
    }
    accepted()
}

/// The body of an error; an empty one says what the header says.
fn described(body: Bytes, headers: &HeaderMap) -> Bytes {
    if !body.is_empty() {
        return body;
    }
    let kind = headers.get("lambda-runtime-function-error-type").and_then(|v| v.to_str().ok());
    Bytes::from(
        serde_json::json!({"errorType": kind.unwrap_or("Runtime.Unknown"), "errorMessage": ""}).to_string(),
    )
}

async fn init_error(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Answer {
    match shared.events.send(Event::InitError { body: described(body, &headers) }) {
        Ok(()) => accepted(),
        Err(_) => gone(),
    }
}

#[derive(Deserialize)]
struct Registration {
    events: Vec<String>,
}

async fn register(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Answer {
    let forbidden = |kind: &str, message: &str| refused(StatusCode::FORBIDDEN, kind, message);
    let Some(name) =
        headers.get("lambda-extension-name").and_then(|v| v.to_str().ok()).filter(|n| !n.is_empty())
    else {
        return forbidden("Extension.InvalidExtensionName", "Empty extension name");
    };
    let Ok(registration) = serde_json::from_slice::<Registration>(&body) else {
        return forbidden("InvalidRequestFormat", "expected `{\"events\":[...]}`");
    };
    let internal = !shared.external.iter().any(|external| external == name);
    let (mut invoke, mut shutdown) = (false, false);
    for event in &registration.events {
        match event.as_str() {
            "INVOKE" => invoke = true,
            "SHUTDOWN" if !internal => shutdown = true,
            "SHUTDOWN" => {
                let message = "SHUTDOWN: event is not supported for internal extensions";
                return forbidden("ShutdownEventNotSupportedForInternalExtension", message);
            }
            other => return forbidden("Extension.InvalidEventType", &format!("{other}: invalid event type")),
        }
    }
    let index = {
        let mut known = shared.known();
        if known.closed {
            return forbidden("Extension.RegistrationClosed", "Extension registration closed already");
        }
        if known.registered.iter().any(|e| e.name == name) {
            return forbidden("Extension.AlreadyRegistered", "Extension with this name already registered");
        }
        known.registered.push(Registered { name: name.to_owned(), invoke, shutdown, internal });
        known.registered.len() - 1
    };
    drop(shared.events.send(Event::Registered));
    let body = serde_json::json!({
        "functionName": shared.function, "functionVersion": "$LATEST", "handler": shared.handler,
    });
    let mut response = answer(StatusCode::OK, body.to_string());
    if let Ok(identifier) = identifier(index).parse() {
        response.headers_mut().insert("lambda-extension-identifier", identifier);
    }
    response
}

/// Shaped as a UUID; told apart by its last digits.
fn identifier(index: usize) -> String {
    format!("e0000000-0000-4000-8000-{index:012x}")
}

impl Shared {
    fn extension(&self, headers: &HeaderMap) -> Result<usize, Box<Answer>> {
        let forbidden = |kind: &str, message: &str| Box::new(refused(StatusCode::FORBIDDEN, kind, message));
        let Some(value) = headers.get("lambda-extension-identifier") else {
            let message = "Missing Lambda-Extension-Identifier header";
            return Err(forbidden("Extension.MissingExtensionIdentifier", message));
        };
        let known = self.known().registered.len();
        (0..known)
            .find(|index| identifier(*index).as_bytes() == value.as_bytes())
            .ok_or_else(|| forbidden("Extension.UnknownExtensionIdentifier", "Unknown extension identifier"))
    }
}

async fn extension_next(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Answer {
    let index = match shared.extension(&headers) {
        Ok(index) => index,
        Err(refusal) => return *refusal,
    };
    let (event, receiver) = oneshot::channel();
    if shared.events.send(Event::ExtensionNext { index, event }).is_err() {
        return gone();
    }
    match receiver.await {
        Ok(body) => {
            let mut response = answer(StatusCode::OK, body);
            if let Ok(identifier) = identifier(index).parse() {
                response.headers_mut().insert("lambda-extension-event-identifier", identifier);
            }
            response
        }
        Err(_) => gone(),
    }
}

async fn extension_error(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Answer {
    if let Err(refusal) = shared.extension(&headers) {
        return *refusal;
    }
    let Some(kind) = headers.get("lambda-extension-function-error-type").and_then(|v| v.to_str().ok()) else {
        let message = "Missing Lambda-Extension-Function-Error-Type header";
        return refused(StatusCode::FORBIDDEN, "Extension.MissingHeader", message);
    };
    match shared.events.send(Event::ExtensionError { kind: kind.to_owned() }) {
        Ok(()) => accepted(),
        Err(_) => gone(),
    }
}
