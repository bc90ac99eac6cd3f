//! The shape of an audit device's record, as Vault's `audit/format.go` and OpenBao's fork of it write it.
//!
//! What it is: the fields that keytrail reads, borrowed from the record. What it is not: `data` of
//! requests and responses belongs to the engines and, in KV version 1, to users; it stays unparsed
//! here and is read field by field, whatever types it holds.

use std::borrow::Cow;
use std::fmt;

use keytrail_model::{Reject, Rejection};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json_rejection;
use crate::object::{Object, object};

/// A string, borrowed where the JSON has no escapes. (`Option<Cow<str>>` alone is always copied by serde.)
#[derive(Deserialize, Debug)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'a> From<Text<'a>> for Cow<'a, str> {
    fn from(text: Text<'a>) -> Self {
        text.0
    }
}

/// One line of an audit device.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Entry<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub time: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "object")]
    pub auth: Option<Auth<'a>>,
    #[serde(borrow, default, deserialize_with = "object")]
    pub request: Option<Request<'a>>,
    #[serde(borrow, default, deserialize_with = "object")]
    pub response: Option<Response<'a>>,
    #[serde(borrow)]
    pub error: Option<Text<'a>>,
    #[serde(borrow)]
    pub errors: Option<&'a RawValue>,
}

/// Who called; in the response to a login, who has logged in.
#[derive(Deserialize, Default)]
#[serde(expecting = "an object")]
pub(super) struct Auth<'a> {
    #[serde(borrow)]
    pub accessor: Option<Text<'a>>,
    #[serde(borrow)]
    pub display_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub policies: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub token_policies: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub identity_policies: Option<Vec<Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "object")]
    pub policy_results: Option<PolicyResults<'a>>,
    #[serde(borrow, default, deserialize_with = "object")]
    pub metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    pub entity_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub token_type: Option<Text<'a>>,
}

/// What the policies said; Vault has it since 1.10, OpenBao always.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct PolicyResults<'a> {
    pub allowed: Option<bool>,
    #[serde(borrow)]
    pub granting_policies: Option<Vec<Object<Policy<'a>>>>,
}

/// A policy that allowed the call.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Policy<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
}

/// What the auth method says of the caller.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub username: Option<Text<'a>>,
    #[serde(borrow)]
    pub role_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub role: Option<Text<'a>>,
}

/// The call.
#[derive(Deserialize, Default)]
#[serde(expecting = "an object")]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub operation: Option<Text<'a>>,
    #[serde(borrow)]
    pub path: Option<Text<'a>>,
    #[serde(borrow)]
    pub mount_point: Option<Text<'a>>,
    #[serde(borrow)]
    pub mount_type: Option<Text<'a>>,
    #[serde(borrow)]
    pub mount_class: Option<Text<'a>>,
    #[serde(borrow)]
    pub mount_running_version: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "object")]
    pub namespace: Option<Namespace<'a>>,
    #[serde(borrow)]
    pub client_token_accessor: Option<Text<'a>>,
    #[serde(borrow)]
    pub remote_address: Option<Text<'a>>,
    #[serde(borrow)]
    pub remote_port: Option<&'a RawValue>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub headers: Option<&'a RawValue>,
}

/// The namespace that the call was made in; the root namespace has an id and no path.
#[derive(Deserialize, Default)]
#[serde(expecting = "an object")]
pub(super) struct Namespace<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub path: Option<Text<'a>>,
}

/// The answer.
#[derive(Deserialize, Default)]
#[serde(expecting = "an object")]
pub(super) struct Response<'a> {
    #[serde(borrow)]
    pub mount_point: Option<Text<'a>>,
    #[serde(borrow)]
    pub mount_type: Option<Text<'a>>,
    #[serde(borrow)]
    pub mount_class: Option<Text<'a>>,
    #[serde(borrow)]
    pub mount_running_plugin_version: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "object")]
    pub auth: Option<Made<'a>>,
    #[serde(borrow, default, deserialize_with = "object")]
    pub wrap_info: Option<Made<'a>>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
}

/// A token or wrapping token that the call made.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Made<'a> {
    #[serde(borrow)]
    pub accessor: Option<Text<'a>>,
    #[serde(borrow)]
    pub display_name: Option<Text<'a>>,
}

/// Audited headers; each is a list of strings, HMAC'd unless configured otherwise.
#[derive(Deserialize, Default)]
#[serde(expecting = "an object")]
pub(super) struct Headers<'a> {
    #[serde(borrow, rename = "user-agent", alias = "User-Agent")]
    pub user_agent: Option<Vec<Text<'a>>>,
}

/// Fields of `request.data` that keytrail reads.
#[derive(Deserialize, Default)]
#[serde(expecting = "an object")]
pub(super) struct RequestData<'a> {
    #[serde(borrow)]
    pub batch_input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub ciphertext: Option<&'a RawValue>,
    #[serde(borrow)]
    pub hmac: Option<&'a RawValue>,
    #[serde(borrow)]
    pub key_version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub signature: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    pub kind: Option<&'a RawValue>,
}

/// Fields of `response.data` that keytrail reads.
#[derive(Deserialize, Default)]
#[serde(expecting = "an object")]
pub(super) struct ResponseData<'a> {
    #[serde(borrow)]
    pub batch_results: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub errors: Option<&'a RawValue>,
    #[serde(borrow)]
    pub http_content_type: Option<&'a RawValue>,
    #[serde(borrow)]
    pub http_status_code: Option<&'a RawValue>,
    #[serde(borrow)]
    pub imported_key: Option<&'a RawValue>,
    #[serde(borrow)]
    pub key_version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub latest_version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub soft_deleted: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    pub kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub valid: Option<&'a RawValue>,
}

/// Reads an open object. One that is no object says nothing; a key of ours that stands twice in it is
/// refused, since readers would differ on which one counts.
pub(super) fn open<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> Result<T, Rejection> {
    let Some(raw) = raw.filter(|r| r.get().starts_with('{')) else { return Ok(T::default()) };
    serde_json::from_str(raw.get()).or_else(|e| {
        let rejection = json_rejection(&e);
        if rejection.code == Reject::JsonDuplicateKey { Err(rejection) } else { Ok(T::default()) }
    })
}

/// The string that a JSON text is.
pub(super) fn string(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let raw = raw?.get();
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    // A string inside checked JSON reads; what does not is no string.
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// The whole number that a JSON text is, as a number or as the digits of a string.
pub(super) fn number(raw: Option<&RawValue>) -> Option<i64> {
    string(raw).as_deref().or(raw.map(RawValue::get)).and_then(|t| t.parse().ok())
}

/// Whether a JSON text is this flag.
pub(super) fn is(raw: Option<&RawValue>, flag: bool) -> bool {
    raw.is_some_and(|r| r.get() == if flag { "true" } else { "false" })
}

/// Whether a JSON text says anything: not null, and no empty string, list or object.
pub(super) fn says(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|r| {
        let inside = r.get().trim_matches(['"', '[', ']', '{', '}', ' ']);
        !matches!(inside, "" | "null")
    })
}

/// What a list of a batch holds, folded without keeping the items.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Items.
    pub count: i64,
    /// Items with an `error`.
    pub errors: i64,
    /// Items whose `valid` is false.
    pub invalid: i64,
    /// The key version, where all items that have one agree.
    pub version: Option<i64>,
    mixed: bool,
}

impl Batch {
    /// Folds a list; what is no list (an HMAC'd string) gives `None`.
    pub(super) fn of(raw: Option<&RawValue>) -> Option<Self> {
        let raw = raw.filter(|r| r.get().starts_with('['))?;
        serde_json::from_str(raw.get()).ok()
    }

    fn item(&mut self, raw: &RawValue) {
        self.count += 1;
        let Ok(item) = open::<ResponseData<'_>>(Some(raw)) else { return };
        self.errors += i64::from(says(item.error));
        self.invalid += i64::from(is(item.valid, false));
        if let Some(v) = number(item.key_version).filter(|v| *v > 0) {
            self.mixed |= self.version.is_some_and(|was| was != v);
            self.version = Some(v);
        }
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = Batch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Batch, A::Error> {
                let mut batch = Batch::default();
                while let Some(item) = seq.next_element::<&RawValue>()? {
                    batch.item(item);
                }
                if batch.mixed {
                    batch.version = None;
                }
                Ok(batch)
            }
        }
        d.deserialize_seq(Items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn values_are_read_whatever_their_type() {
        assert_eq!(number(Some(&raw("3"))), Some(3));
        assert_eq!(number(Some(&raw("\"3\""))), Some(3));
        for other in ["\"hmac-sha256:ab\"", "3.5", "1e3", "null", "[3]", "99999999999999999999"] {
            assert_eq!(number(Some(&raw(other))), None, "{other}");
        }
        assert_eq!(string(Some(&raw(r#""a\n\"""#))).as_deref(), Some("a\n\""));
        assert_eq!(string(Some(&raw("7"))), None);
        for nothing in ["null", "\"\"", "[]", "{}", "[ ]"] {
            assert!(!says(Some(&raw(nothing))), "{nothing}");
        }
        assert!(says(Some(&raw("false"))));
    }

    #[test]
    fn batches_are_folded() {
        let b =
            Batch::of(Some(&raw(r#"[{"key_version":2},{"error":"x"},7,{"key_version":2,"valid":false}]"#)));
        assert_eq!(b, Some(Batch { count: 4, errors: 1, invalid: 1, version: Some(2), mixed: false }));
        let mixed = Batch::of(Some(&raw(r#"[{"key_version":1},{"key_version":2}]"#))).unwrap();
        assert_eq!((mixed.count, mixed.version), (2, None));
        assert_eq!(Batch::of(Some(&raw("\"hmac-sha256:ab\""))), None);
    }

    #[test]
    fn a_doubled_key_in_open_data_is_refused() {
        let doubled = raw(r#"{"error":"a","error":null}"#);
        assert_eq!(
            open::<ResponseData<'_>>(Some(&doubled)).err().map(|r| r.code),
            Some(Reject::JsonDuplicateKey)
        );
        assert!(open::<ResponseData<'_>>(Some(&raw(r#"{"user":1,"user":2,"valid":[]}"#))).is_ok());
    }
}
