//! Bodies of records that callers give: refused is what the schema does not define.

use std::fmt::{self, Write as _};

use keytrail_model::key_operation::{Deny, Intent, Outcome};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Phase;

/// Why a body is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyError(String);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A JSON text without whitespace between its tokens: a record is one line.
pub fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let kept = in_string || !matches!(c, ' ' | '\t' | '\r' | '\n');
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
        kept
    };
    json.chars().filter(keep).collect()
}

/// Whether a body is one of that phase; names of fields that the schema does not define are not repeated.
pub fn validate(phase: Phase, body: &str) -> Result<(), BodyError> {
    let verdict = match phase {
        Phase::Intent => serde_json::from_str::<Intent<'_>>(body).map(|_| ()),
        Phase::Outcome => serde_json::from_str::<Outcome<'_>>(body).and_then(|outcome| {
            if outcome.result.rv.is_some() == outcome.result.unknown.is_some() {
                return Err(serde::de::Error::custom("expected either `rv` or `unknown` in `result`"));
            }
            Ok(())
        }),
        Phase::Deny => serde_json::from_str::<Deny<'_>>(body).and_then(|deny| {
            if deny.policy.decision.0 != "deny" {
                return Err(serde::de::Error::custom("expected `deny` in `policy.decision`"));
            }
            Ok(())
        }),
        _ => return Err(BodyError("callers make no record of this phase".to_owned())),
    };
    verdict.map_err(|e| refusal(&e))
}

fn refusal(error: &serde_json::Error) -> BodyError {
    let text = error.to_string();
    if text.starts_with("unknown field") {
        let (line, column) = (error.line(), error.column());
        return BodyError(format!("a field that the schema does not define, at line {line} column {column}"));
    }
    BodyError(text)
}

/// What an intent says that its outcome repeats.
#[derive(Deserialize)]
struct Repeated<'a> {
    #[serde(borrow)]
    actor: &'a RawValue,
    operation: &'a RawValue,
    policy: Option<&'a RawValue>,
    hsm: &'a RawValue,
    key: Option<&'a RawValue>,
    target_key_id: Option<&'a RawValue>,
    mechanism: Option<&'a RawValue>,
    count: Option<&'a RawValue>,
    input: Option<&'a RawValue>,
}

/// What a caller says of an outcome: the rest stands in the intent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
    key: Option<&'a RawValue>,
    target_key_id: Option<&'a RawValue>,
    output: Option<&'a RawValue>,
    timings: Option<&'a RawValue>,
}

impl<'a> Given<'a> {
    /// Reads what a caller sent.
    pub fn parse(body: &'a str) -> Result<Self, BodyError> {
        serde_json::from_str(body).map_err(|e| refusal(&e))
    }

    /// Nobody knows what came of it, as a JSON text says why.
    pub fn unknown(result: &'a RawValue) -> Self {
        Self { result, key: None, target_key_id: None, output: None, timings: None }
    }
}

/// The whole body of an outcome: what the intent said, and what came of it. A key that the caller names stands
/// in place of the intent's: an operation may have made it.
pub fn completed(intent: &str, given: &Given<'_>) -> Result<String, BodyError> {
    let said: Repeated<'_> = serde_json::from_str(intent).map_err(|e| refusal(&e))?;
    let fields = [
        ("actor", Some(said.actor)),
        ("operation", Some(said.operation)),
        ("policy", said.policy),
        ("hsm", Some(said.hsm)),
        ("key", given.key.or(said.key)),
        ("target_key_id", given.target_key_id.or(said.target_key_id)),
        ("mechanism", said.mechanism),
        ("count", said.count),
        ("input", said.input),
        ("result", Some(given.result)),
        ("output", given.output),
        ("timings", given.timings),
    ];
    let mut body = String::with_capacity(intent.len() + 256);
    for (name, value) in fields {
        if let Some(value) = value {
            let separator = if body.is_empty() { '{' } else { ',' };
            let _fits_into_memory = write!(body, r#"{separator}"{name}":{}"#, value.get());
        }
    }
    body.push('}');
    validate(Phase::Outcome, &body)?;
    Ok(body)
}
