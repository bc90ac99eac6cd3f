//! What becomes of a batch ("Configuring partial batch response with Kinesis Data Streams and Lambda").

use serde_json::Value;

/// What the function's answer says of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// All records are done.
    Success,
    /// Those before this one are; at 0, none.
    From(usize),
    /// None is, or nobody knows.
    Failure,
}

/// Reads an answer of a function whose mapping has `ReportBatchItemFailures`; `index` finds a sequence number in the
/// batch.
pub(super) fn verdict(answer: &[u8], index: impl Fn(&str) -> Option<usize>) -> Verdict {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return Verdict::Failure };
    let failures = match &answer {
        // An empty answer, and one of null.
        Value::Null => return Verdict::Success,
        Value::Object(fields) => match fields.get("batchItemFailures") {
            None | Some(Value::Null) => return Verdict::Success,
            Some(Value::Array(failures)) => failures,
            Some(_) => return Verdict::Failure,
        },
        Value::String(text) if text.is_empty() => return Verdict::Success,
        _ => return Verdict::Failure,
    };
    let mut lowest = None;
    for failure in failures {
        // Empty, null, under another name, or not of the batch: all of it failed.
        let Some(at) = failure["itemIdentifier"].as_str().and_then(&index) else { return Verdict::Failure };
        lowest = Some(lowest.map_or(at, |lowest: usize| lowest.min(at)));
    }
    match lowest {
        None => Verdict::Success,
        Some(at) => Verdict::From(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(answer: &str) -> Verdict {
        verdict(answer.as_bytes(), |id| ["10", "11", "12"].iter().position(|known| *known == id))
    }

    #[test]
    fn nothing_reported_is_success() {
        for answer in ["null", "{}", r#"{"batchItemFailures":[]}"#, r#"{"batchItemFailures":null}"#, r#""""#]
        {
            assert_eq!(judged(answer), Verdict::Success, "{answer}");
        }
    }

    #[test]
    fn the_lowest_number_counts() {
        let answer = r#"{"batchItemFailures":[{"itemIdentifier":"12"},{"itemIdentifier":"11"}]}"#;
        assert_eq!(judged(answer), Verdict::From(1));
        let answer = r#"{"batchItemFailures":[{"itemIdentifier":"10"}]}"#;
        assert_eq!(judged(answer), Verdict::From(0));
    }

    #[test]
    fn what_cannot_be_read_fails_the_batch() {
        for answer in [
            "",
            "nonsense",
            "[]",
            r#"{"batchItemFailures":"11"}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"identifier":"11"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"11"},{"itemIdentifier":"99"}]}"#,
        ] {
            assert_eq!(judged(answer), Verdict::Failure, "{answer}");
        }
    }
}
