//! What a server says of a search that it does not answer, in words.

use serde_json::Value;

use crate::text::cut;

/// Bytes of a server's reason that are kept: it quotes what was asked.
const MOST_REASON_BYTES: usize = 1_000;

/// Why there is no page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A query that the server does not understand, or a value that is none of its field.
    Mistake(String),
    /// The server does not let this client read.
    Denied(String),
    /// The point in time is gone.
    Gone,
    /// Not now.
    Failed(String),
}

impl Refusal {
    /// What an answer refuses.
    pub fn of(status: u16, body: &[u8]) -> Self {
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &said["error"];
        // What each shard says is the same; above it stands that all of them failed.
        let shard = &error["failed_shards"][0]["reason"];
        let cause = if shard.is_object() { shard } else { error };
        let kind = cause["type"].as_str().unwrap_or_default();
        let reason = cut(&reason(cause), MOST_REASON_BYTES).to_owned();
        let said = match (kind, reason.as_str()) {
            ("", "") => format!("status {status}"),
            (kind, reason) => format!("{status} {kind}: {reason}"),
        };
        match status {
            400 => Refusal::Mistake(reason),
            401 | 403 => Refusal::Denied(said),
            404 if kind == "search_context_missing_exception" => Refusal::Gone,
            _ => Refusal::Failed(said),
        }
    }
}

/// The reason in words, without those around it and the list of everything that would have been right.
fn reason(cause: &Value) -> String {
    let mut reason = cause["reason"].as_str().unwrap_or_default();
    let mut query = None;
    if let Some(rest) = reason.strip_prefix("Failed to parse query [") {
        query = rest.strip_suffix(']');
        let mut inner = &cause["caused_by"];
        while inner.is_object() {
            reason = inner["reason"].as_str().unwrap_or(reason);
            inner = &inner["caused_by"];
        }
    }
    reason = reason.strip_prefix("failed to create query: ").unwrap_or(reason);
    let line = reason.lines().next().unwrap_or_default();
    let line = line.split(": [failed to parse").next().unwrap_or_default().trim_end_matches('.');
    let line = plain(line);
    match query {
        Some(query) => format!("`{query}`: {line}"),
        None => line,
    }
}

/// What the parser of query strings says, as a person would.
fn plain(said: &str) -> String {
    if let Some((place, rest)) =
        said.strip_prefix("Lexical error at ").and_then(|said| said.split_once(".  "))
    {
        let what = if rest.contains("<EOF>") { "unexpected end" } else { "unexpected character" };
        return format!("{what} at {}", position(place, 0));
    }
    if let Some(place) = said.strip_prefix("Encountered \"<EOF>\" at ") {
        return format!("unexpected end at {}", position(place, 1));
    }
    // `" ":" ": "" at line 1, column 3`: its kind, and itself.
    let token = said.strip_prefix("Encountered \" ").and_then(|said| said.split_once(" \"\" at "));
    match token.and_then(|(token, place)| Some((token.split_once(' ')?.1.trim_start_matches('"'), place))) {
        Some((token, place)) => format!("unexpected `{token}` at {}", position(place, 1)),
        None => said.to_owned(),
    }
}

/// A place as people count; the parser of the words that it was given begins with 0.
fn position(place: &str, first: u32) -> String {
    let of = |place: &str| {
        let (line, column) = place.strip_prefix("line ")?.split_once(", column ")?;
        let column = column.parse::<u32>().ok()?.saturating_add(first);
        Some(if line == "1" {
            format!("character {column}")
        } else {
            format!("line {line}, character {column}")
        })
    };
    of(place).unwrap_or_else(|| place.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(status: u16, body: &[u8]) -> Refusal {
        Refusal::of(status, body)
    }

    /// As Elasticsearch 9.1 and OpenSearch 3.6 answered.
    #[test]
    fn refusals_say_place_and_reason() {
        let shard = |reason: Value| {
            let body = json!({"error": {"type": "search_phase_execution_exception", "reason": "all shards failed",
                "failed_shards": [{"shard": 0, "reason": reason}]}, "status": 400});
            page(400, body.to_string().as_bytes())
        };
        let parse = |query: &str, inner: &str| {
            shard(
                json!({"type": "query_shard_exception", "reason": format!("Failed to parse query [{query}]"),
                "caused_by": {"type": "parse_exception", "reason": format!("Cannot parse '{query}': {inner}"),
                "caused_by": {"type": "parse_exception", "reason": inner}}}),
            )
        };
        let mistake = |text: &str| Refusal::Mistake(text.into());
        let list = "\nWas expecting one of:\n    <NOT> ...\n    \"+\" ...\n    ";
        assert_eq!(
            parse("Alice AND (", &format!("Encountered \"<EOF>\" at line 1, column 11.{list}")),
            mistake("`Alice AND (`: unexpected end at character 12")
        );
        assert_eq!(
            parse("a:b:c", &format!("Encountered \" \":\" \": \"\" at line 1, column 3.{list}")),
            mistake("`a:b:c`: unexpected `:` at character 4")
        );
        assert_eq!(
            parse(
                "\"Alice",
                "Lexical error at line 1, column 7.  Encountered: <EOF> after prefix \"\\\"Alice\" (in lexical state 2)"
            ),
            mistake("`\"Alice`: unexpected end at character 7")
        );
        assert_eq!(
            parse("*crypt", "'*' or '?' not allowed as first character in WildcardQuery"),
            mistake("`*crypt`: '*' or '?' not allowed as first character in WildcardQuery")
        );
        assert_eq!(
            shard(
                json!({"type": "query_shard_exception", "reason": "failed to create query: 'foo' is not an IP string literal."})
            ),
            mistake("'foo' is not an IP string literal")
        );
        let gone = br#"{"error":{"type":"search_phase_execution_exception","reason":"all shards failed","failed_shards":[
            {"reason":{"type":"search_context_missing_exception","reason":"No search context found for id [34]"}}]},"status":404}"#;
        assert_eq!(page(404, gone), Refusal::Gone);
        let denied = br#"{"error":{"type":"security_exception","reason":"no"},"status":403}"#;
        assert_eq!(page(403, denied), Refusal::Denied("403 security_exception: no".into()));
        assert_eq!(page(503, b"<html>"), Refusal::Failed("status 503".into()));
    }
}
