//! The socket of the service that fronts the HSM: HTTP/1.1 over a Unix socket (`schemas/sidecar-api.md`).

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Buf as _, BytesMut};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::journal::{Entry, Journal, Recorded, Refusal};

use super::reply;

/// No body of the schema is larger.
const MAX_BODY_BYTES: usize = 256 << 10;

/// Answers of a pipelined call that may wait.
const PIPELINE: usize = 4_096;

/// The socket's routes.
pub fn router(journal: Journal) -> Router {
    Router::new()
        .route("/v1/intent/{*op_id}", post(intent))
        .route("/v1/outcome/{*op_id}", post(outcome))
        .route("/v1/deny/{*op_id}", post(deny))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .merge(Router::new().route("/v1/records", post(records)).layer(DefaultBodyLimit::disable()))
        .with_state(journal)
}

async fn intent(State(journal): State<Journal>, Path(op_id): Path<String>, body: Bytes) -> Response {
    answer(&journal, text(&body).map(|body| Entry::Intent { op_id, body }), StatusCode::CREATED).await
}

async fn outcome(State(journal): State<Journal>, Path(op_id): Path<String>, body: Bytes) -> Response {
    answer(&journal, text(&body).map(|body| Entry::Outcome { op_id, body }), StatusCode::OK).await
}

async fn deny(State(journal): State<Journal>, Path(op_id): Path<String>, body: Bytes) -> Response {
    answer(&journal, text(&body).map(|body| Entry::Deny { op_id, body }), StatusCode::CREATED).await
}

async fn answer(journal: &Journal, entry: Result<Entry, Refusal>, status: StatusCode) -> Response {
    let recorded = match entry {
        Ok(entry) => journal.record(entry).await,
        Err(refusal) => Err(refusal),
    };
    match recorded {
        Ok(recorded) => reply::recorded(status, to_json(&recorded), &recorded.receipt),
        Err(refusal) => refusal.into_response(),
    }
}

fn text(body: &[u8]) -> Result<String, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::Body("expected UTF-8".to_owned()))?;
    Ok(text.to_owned())
}

fn to_json(recorded: &Recorded) -> String {
    let intent = recorded.intent.as_ref().map_or(String::new(), |r| format!(r#","intent":{}"#, r.to_json()));
    format!(r#"{{"durable":{},"receipt":{}{intent}}}"#, recorded.durable, recorded.receipt.to_json())
}

/// A line of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    phase: &'a str,
    op_id: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

impl Line<'_> {
    fn parse(line: &[u8]) -> Result<Entry, Refusal> {
        let line: Line<'_> = serde_json::from_slice(line).map_err(|e| Refusal::Body(e.to_string()))?;
        let (op_id, body) = (line.op_id, line.body.get().to_owned());
        match line.phase {
            "intent" => Ok(Entry::Intent { op_id, body }),
            "outcome" => Ok(Entry::Outcome { op_id, body }),
            "deny" => Ok(Entry::Deny { op_id, body }),
            _ => Err(Refusal::Body("expected `intent`, `outcome` or `deny` in `phase`".to_owned())),
        }
    }
}

/// Lines in, a line out for each, in their order and as soon as it is durable: a batch where the caller sends
/// all lines first, a pipeline where it goes on sending.
async fn records(State(journal): State<Journal>, body: Body) -> Response {
    let (sender, mut answers) = mpsc::channel(PIPELINE);
    tokio::spawn(async move {
        let mut stream = body.into_data_stream();
        let mut buffer = BytesMut::new();
        while let Some(Ok(chunk)) = stream.next().await {
            buffer.extend_from_slice(&chunk);
            while let Some(end) = memchr::memchr(b'\n', &buffer) {
                let line = buffer.split_to(end);
                buffer.advance(1);
                if !send(&line, &journal, &sender).await {
                    return;
                }
            }
            if buffer.len() > MAX_BODY_BYTES {
                let _caller_is_gone = sender.send(Err(Refusal::TooLarge)).await;
                return;
            }
        }
        send(&buffer, &journal, &sender).await;
    });
    let stream = futures::stream::poll_fn(move |context| answers.poll_recv(context)).then(|pending| async {
        let recorded = match pending {
            Ok(pending) => pending.wait().await,
            Err(refusal) => Err(refusal),
        };
        let mut line = match recorded {
            Ok(recorded) => to_json(&recorded),
            Err(refusal) => reply::to_json(&refusal),
        };
        line.push('\n');
        Ok::<_, std::convert::Infallible>(line)
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response()
}

/// Hands a line over; false where nobody waits for its answer any more.
async fn send(
    line: &[u8],
    journal: &Journal,
    answers: &mpsc::Sender<Result<crate::journal::Pending, Refusal>>,
) -> bool {
    if line.iter().all(u8::is_ascii_whitespace) {
        return true;
    }
    let pending = match Line::parse(line) {
        Ok(entry) => journal.submit_when_free(entry).await,
        Err(refusal) => Err(refusal),
    };
    answers.send(pending).await.is_ok()
}
