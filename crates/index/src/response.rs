//! What a server's answer to a bulk request says of each of its items.
//!
//! What it is: a reader of answers, item by item, paired by position; number and ids are checked. What it is not: it
//! sends nothing again. In: status and body. Out: an outcome for each item, or what happened to all of them.
//! Whether an item was written is unknown where an answer is not understood: it is sent again, and `create` makes
//! that harmless.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bulk::{Bulk, Op};
use crate::text::cut;

/// Bytes of a server's reason that are kept: it quotes documents.
const MOST_REASON_BYTES: usize = 1_000;

/// What became of one item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is there, and was not before.
    Created,
    /// It took another's place.
    Replaced,
    /// Its id was there already.
    Duplicate,
    /// To be sent again.
    Deferred(Deferral),
    /// To be sent again once its index was made.
    NoIndex,
    /// It will never be taken: a mapping does not fit.
    Rejected {
        /// The server's type of error.
        kind: String,
        /// What the server says of it.
        reason: String,
    },
    /// The server does not let this client do it.
    Denied(String),
}

/// Why items have to wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deferral {
    /// Back-pressure: the server's queues are full.
    Busy(String),
    /// A disk is above the flood stage: indices are read-only until there is room.
    DiskFull(String),
    /// An index or the cluster takes no writes.
    Blocked(String),
    /// The server failed, or its answer is not one.
    Failed(String),
}

impl Deferral {
    /// Stable code, as metrics and messages have it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Busy(_) => "Retryable.IndexBusy",
            Self::DiskFull(_) => "Retryable.IndexDiskFull",
            Self::Blocked(_) => "Retryable.IndexBlocked",
            Self::Failed(_) => "Retryable.IndexFailed",
        }
    }

    /// What the server said.
    pub fn reason(&self) -> &str {
        match self {
            Self::Busy(reason) | Self::DiskFull(reason) | Self::Blocked(reason) | Self::Failed(reason) => {
                reason
            }
        }
    }
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// An outcome for each item, in the body's order.
    Items(Vec<Outcome>),
    /// All have to wait.
    Deferred(Deferral),
    /// Too large for the server or what stands before it: to be sent in parts.
    TooLarge,
    /// Refused as a whole: one of its items is not as the server wants it, to be found by parts.
    Refused(String),
    /// The server does not let this client in.
    Denied(String),
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    items: Vec<Line<'a>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    create: Option<Result<'a>>,
    #[serde(borrow)]
    index: Option<Result<'a>>,
}

#[derive(Deserialize)]
struct Result<'a> {
    _id: Option<&'a str>,
    status: Option<u16>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Error {
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
    caused_by: Option<Box<Error>>,
}

/// Reads an answer.
pub fn answer(bulk: &Bulk, status: u16, body: &[u8]) -> Answer {
    let said = || {
        let whole: Option<Whole<'_>> = serde_json::from_slice(body).ok();
        match whole.and_then(|whole| whole.error) {
            Some(error) => {
                let (kind, reason) = error_of(error);
                format!("{status} {kind}: {reason}")
            }
            None => format!("{status} {}", cut(&String::from_utf8_lossy(body), 200)),
        }
    };
    match status {
        200 => match items(bulk, body) {
            Ok(outcomes) => Answer::Items(outcomes),
            Err(reason) => Answer::Deferred(Deferral::Failed(reason)),
        },
        400 => Answer::Refused(said()),
        401 => Answer::Denied(said()),
        403 if is_block(&said()) => Answer::Deferred(Deferral::Blocked(said())),
        403 => Answer::Denied(said()),
        413 => Answer::TooLarge,
        429 if is_block(&said()) => Answer::Deferred(Deferral::DiskFull(said())),
        429 => Answer::Deferred(Deferral::Busy(said())),
        _ => Answer::Deferred(Deferral::Failed(said())),
    }
}

/// Whether what a server said, or the type of its error, is a block of an administrator or of a full disk: nobody is
/// refused, and it ends. OpenSearch has a type of its own where no index may be made.
pub fn is_block(said: &str) -> bool {
    ["cluster_block_exception", "index_create_block_exception"].iter().any(|kind| said.contains(kind))
}

fn items(bulk: &Bulk, body: &[u8]) -> std::result::Result<Vec<Outcome>, String> {
    let body: Body<'_> =
        serde_json::from_slice(body).map_err(|e| format!("no answer to a bulk request: {e}"))?;
    if body.items.len() != bulk.items().len() {
        return Err(format!(
            "{} items were sent, the answer tells of {}",
            bulk.items().len(),
            body.items.len()
        ));
    }
    let mut outcomes = Vec::with_capacity(body.items.len());
    for (n, (line, item)) in body.items.into_iter().zip(bulk.items()).enumerate() {
        let result = match item.op {
            Op::Create => line.create,
            Op::Index => line.index,
        };
        let result = result.ok_or_else(|| format!("item {n} of the answer is of another operation"))?;
        if result._id.is_some_and(|id| id.as_bytes() != item.uid.hex()) {
            return Err(format!("item {n} of the answer is of another document"));
        }
        outcomes.push(outcome(&result));
    }
    Ok(outcomes)
}

fn outcome(result: &Result<'_>) -> Outcome {
    let error = || result.error.map_or_else(Default::default, error_of);
    match result.status {
        Some(201) => Outcome::Created,
        Some(200) => Outcome::Replaced,
        Some(409) => Outcome::Duplicate,
        None => Outcome::Deferred(Deferral::Failed("the answer has no status for it".into())),
        Some(status) => {
            let (kind, reason) = error();
            let said = format!("{status} {kind}: {reason}");
            match status {
                401 => Outcome::Denied(said),
                403 if is_block(&kind) => Outcome::Deferred(Deferral::Blocked(said)),
                403 => Outcome::Denied(said),
                404 => Outcome::NoIndex,
                // It can be opened again.
                400 if kind == "index_closed_exception" => Outcome::Deferred(Deferral::Blocked(said)),
                429 if is_block(&kind) => Outcome::Deferred(Deferral::DiskFull(said)),
                429 => Outcome::Deferred(Deferral::Busy(said)),
                400..=499 => Outcome::Rejected { kind, reason },
                _ => Outcome::Deferred(Deferral::Failed(said)),
            }
        }
    }
}

/// Type and reason, with the innermost cause.
fn error_of(error: &RawValue) -> (String, String) {
    let Ok(mut error) = serde_json::from_str::<Error>(error.get()) else {
        return (String::new(), cut(error.get(), MOST_REASON_BYTES).to_owned());
    };
    let kind = error.kind.take().unwrap_or_default();
    let mut reason = error.reason.take().unwrap_or_default();
    let mut cause = error.caused_by.take();
    while let Some(mut inner) = cause {
        if let Some(why) = inner.reason.take().filter(|why| !reason.contains(why)) {
            reason = format!("{reason}: {why}");
        }
        cause = inner.caused_by.take();
    }
    (kind, cut(&reason, MOST_REASON_BYTES).to_owned())
}

#[cfg(test)]
mod tests {
    use keytrail_model::{Day, Uid};

    use super::*;
    use crate::bulk::Limits;
    use crate::name::{IndexName, Namespace, Period};

    fn bulk(ops: &[Op]) -> Bulk {
        let index = IndexName::of("aws.cloudtrail", &Namespace::default(), Period::Month, Day::Undated);
        let mut bulk = Bulk::new(Limits::default());
        for (n, op) in (1..).zip(ops) {
            bulk.push_with(*op, &index, Uid([n; 20]), |out| out.extend_from_slice(b"{}"));
        }
        bulk
    }

    fn one(line: &str) -> Answer {
        let body = format!(r#"{{"took":1,"errors":true,"items":[{{"create":{line}}}]}}"#);
        answer(&bulk(&[Op::Create]), 200, body.as_bytes())
    }

    fn outcomes(answer: Answer) -> Vec<Outcome> {
        match answer {
            Answer::Items(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    /// As Elasticsearch 9.1 and OpenSearch 3.6 answered.
    #[test]
    fn each_item_has_its_outcome() {
        let failed = |text: &str| matches!(&outcomes(one(text))[0], Outcome::Deferred(Deferral::Failed(_)));
        let is = |text: &str, code: &str| match &outcomes(one(text))[0] {
            Outcome::Deferred(deferral) => deferral.code() == code,
            _ => false,
        };
        assert_eq!(outcomes(one(r#"{"status":201}"#)), [Outcome::Created]);
        assert_eq!(
            outcomes(one(r#"{"status":409,"error":{"type":"version_conflict_engine_exception"}}"#)),
            [Outcome::Duplicate]
        );
        assert_eq!(
            outcomes(one(r#"{"status":404,"error":{"type":"index_not_found_exception"}}"#)),
            [Outcome::NoIndex]
        );
        for kind in ["es_rejected_execution_exception", "rejected_execution_exception"] {
            assert!(is(
                &format!(r#"{{"status":429,"error":{{"type":"{kind}","reason":"full"}}}}"#),
                "Retryable.IndexBusy"
            ));
        }
        let block = r#""error":{"type":"cluster_block_exception","reason":"index [x] blocked"}}"#;
        assert!(is(&format!(r#"{{"status":429,{block}"#), "Retryable.IndexDiskFull"));
        assert!(is(&format!(r#"{{"status":403,{block}"#), "Retryable.IndexBlocked"));
        assert!(is(
            r#"{"status":403,"error":{"type":"index_create_block_exception","reason":"blocked"}}"#,
            "Retryable.IndexBlocked"
        ));
        let closed = r#"{"status":400,"error":{"type":"index_closed_exception","reason":"closed"}}"#;
        assert!(is(closed, "Retryable.IndexBlocked"));
        assert!(failed(r#"{"status":503,"error":{"type":"unavailable_shards_exception"}}"#));
        assert!(failed("{}"));
        let denied =
            &outcomes(one(r#"{"status":403,"error":{"type":"security_exception","reason":"no"}}"#))[0];
        assert_eq!(*denied, Outcome::Denied("403 security_exception: no".into()));
        let rejected = r#"{"status":400,"error":{"type":"document_parsing_exception","reason":"[1:9] failed","caused_by":{"type":"x","reason":"not an IP"}}}"#;
        let expected = ("document_parsing_exception".to_owned(), "[1:9] failed: not an IP".to_owned());
        assert_eq!(outcomes(one(rejected)), [Outcome::Rejected { kind: expected.0, reason: expected.1 }]);
    }

    #[test]
    fn answers_that_do_not_fit_say_nothing_of_items() {
        let bulk = bulk(&[Op::Create, Op::Index]);
        let (first, second) = ("01".repeat(20), "02".repeat(20));
        let good = format!(
            r#"{{"items":[{{"create":{{"_id":"{first}","status":201}}}},{{"index":{{"_id":"{second}","status":200}}}}]}}"#
        );
        assert_eq!(outcomes(answer(&bulk, 200, good.as_bytes())), [Outcome::Created, Outcome::Replaced]);
        let swapped = good.replace(&first, "x").replace(&second, &first);
        let other_op = good.replace("index", "create");
        for body in [
            r#"{"items":[]}"#,
            r#"{"items":[{},{},{}]}"#,
            "{}",
            "",
            "<html>",
            &good[..good.len() - 9],
            &swapped,
            &other_op,
        ] {
            let found = answer(&bulk, 200, body.as_bytes());
            assert!(matches!(found, Answer::Deferred(Deferral::Failed(_))), "{body}: {found:?}");
        }
    }

    #[test]
    fn requests_are_answered_as_a_whole() {
        let bulk = bulk(&[Op::Create]);
        let of = |status, body: &str| answer(&bulk, status, body.as_bytes());
        let blocked = r#"{"error":{"type":"cluster_block_exception","reason":"read-only"},"status":403}"#;
        assert!(matches!(of(403, blocked), Answer::Deferred(Deferral::Blocked(_))));
        assert!(matches!(of(403, r#"{"error":{"type":"security_exception"}}"#), Answer::Denied(_)));
        assert!(matches!(of(401, ""), Answer::Denied(_)));
        assert!(matches!(of(400, r#"{"error":"bad"}"#), Answer::Refused(reason) if reason.contains("bad")));
        assert_eq!(of(413, ""), Answer::TooLarge);
        assert!(matches!(of(429, ""), Answer::Deferred(Deferral::Busy(_))));
        for status in [500, 502, 503, 504, 302, 404] {
            assert!(matches!(of(status, "<html>"), Answer::Deferred(Deferral::Failed(_))), "{status}");
        }
    }
}
