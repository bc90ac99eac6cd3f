//! Documents that a server refuses for ever, kept where people look for them.

use keytrail_index::{Bulk, IndexName, Item, Op, Period};
use keytrail_model::{Day, Timestamp, Uid};
use serde_json::{Value, json};

use super::Settings;

/// Bytes of a document that are kept beside the reason.
const MOST_BYTES: usize = 256 << 10;

/// A document that was refused.
pub struct DeadLetter {
    uid: Uid,
    index: IndexName,
    /// As it stands in the index of dead letters, without the document.
    head: Value,
    document: Option<Value>,
}

impl DeadLetter {
    /// Of an item that was refused with an error of that type, for that reason.
    pub fn of(bulk: &Bulk, item: &Item, error: (&str, &str), settings: &Settings, now: Timestamp) -> Self {
        let document = bulk.document(item);
        let parsed: Value = serde_json::from_slice(document).unwrap_or_default();
        let time = parsed["@timestamp"].as_str().and_then(Timestamp::parse);
        let head = json!({
            "@timestamp": parsed["@timestamp"],
            "event": {"created": now.to_rfc3339(), "dataset": parsed["event"]["dataset"], "hash": parsed["event"]["hash"]},
            "error": {"type": error.0, "message": error.1},
            "keytrail": {"uid": parsed["keytrail"]["uid"], "index": {"name": bulk.index_of(item).as_str()}},
        });
        // A day's index for a few refused documents would be many.
        let index = IndexName::dead_letters(&settings.namespace, Period::Month, Day::of(time));
        // A letter is not replaced when its event is withheld: it holds nothing that would have to go then.
        let mut kept = parsed;
        if let Some(event) = kept.get_mut("event").and_then(Value::as_object_mut) {
            event.remove("original");
        }
        let document = Some(kept).filter(|kept| kept.is_object() && document.len() <= MOST_BYTES);
        Self { uid: item.uid, index, head, document }
    }

    /// Appends it to a body, with the document or without.
    pub fn push(&self, bulk: &mut Bulk, whole: bool) {
        let mut head = self.head.clone();
        if let Some(document) = self.document.as_ref().filter(|_| whole) {
            head["keytrail"]["index"]["document"] = document.clone();
        }
        bulk.push_with(Op::Index, &self.index, self.uid, |out| {
            // Values of JSON always serialise.
            out.extend(serde_json::to_vec(&head).unwrap_or_default());
        });
    }
}
