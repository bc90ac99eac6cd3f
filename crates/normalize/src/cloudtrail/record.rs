//! The parts of a CloudTrail record that every event has, as AWS documents them ("CloudTrail record
//! contents", event versions 1.01 to 1.11).
//!
//! In: the JSON text of one record. Out: a [`Record`] that borrows from it. Fields of the documented
//! record are typed and a wrong type is refused; what each service defines for itself
//! (`requestParameters` and its like) stays raw and is read only where it has a meaning for keys.

use std::borrow::Cow;
use std::fmt;

use keytrail_model::{Reject, Rejection};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use super::walk;
use crate::json_rejection;
use crate::object::Object;

/// A string of the record, borrowed unless it holds escapes. Absent, `null` and `""` are the same:
/// producers write all three for "none".
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Text<'a>(pub Cow<'a, str>);

impl<'a> Text<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This text, or the other one where this is empty.
    pub fn or<'b>(&'b self, other: &'b Self) -> &'b Self {
        if self.is_empty() { other } else { self }
    }

    /// The text as long as the record, if there is one.
    pub fn get(&self) -> Option<Cow<'a, str>> {
        (!self.is_empty()).then(|| self.0.clone())
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(v)))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(v.to_owned())))
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Text::default())
            }
        }
        d.deserialize_any(Reader)
    }
}

/// A flag that AWS writes as a boolean or as its text; absent and `null` are `None`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Flag(pub Option<bool>);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true` or `false`")
            }

            fn visit_bool<E: Error>(self, v: bool) -> Result<Flag, E> {
                Ok(Flag(Some(v)))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Flag, E> {
                match v {
                    "true" => Ok(Flag(Some(true))),
                    "false" => Ok(Flag(Some(false))),
                    "" => Ok(Flag(None)),
                    _ => Err(E::custom("a field has the wrong type, expected `true` or `false`")),
                }
            }

            fn visit_unit<E: Error>(self) -> Result<Flag, E> {
                Ok(Flag(None))
            }
        }
        d.deserialize_any(Reader)
    }
}

/// A sub-tree whose form is the service's own.
pub(super) type Open<'a> = Option<&'a RawValue>;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    pub user_identity: Object<UserIdentity<'a>>,
    pub event_time: Text<'a>,
    pub event_source: Text<'a>,
    pub event_name: Text<'a>,
    pub aws_region: Text<'a>,
    #[serde(rename = "sourceIPAddress")]
    pub source_ip_address: Text<'a>,
    pub user_agent: Text<'a>,
    pub error_code: Text<'a>,
    pub error_message: Text<'a>,
    pub request_parameters: Open<'a>,
    pub response_elements: Open<'a>,
    pub additional_event_data: Open<'a>,
    pub service_event_details: Open<'a>,
    #[serde(rename = "requestID")]
    pub request_id: Text<'a>,
    #[serde(rename = "eventID")]
    pub event_id: Text<'a>,
    pub event_type: Text<'a>,
    pub event_category: Text<'a>,
    pub read_only: Flag,
    pub resources: Option<Vec<Object<Resource<'a>>>>,
    pub recipient_account_id: Text<'a>,
    #[serde(rename = "sharedEventID")]
    pub shared_event_id: Text<'a>,
    pub vpc_endpoint_id: Text<'a>,
    pub tls_details: Object<TlsDetails<'a>>,
    pub insight_details: Object<InsightDetails<'a>>,
    pub addendum: Object<Addendum<'a>>,
}

/// Who made the call ("CloudTrail userIdentity element").
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct UserIdentity<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Text<'a>,
    pub principal_id: Text<'a>,
    pub arn: Text<'a>,
    pub account_id: Text<'a>,
    pub access_key_id: Text<'a>,
    pub user_name: Text<'a>,
    pub invoked_by: Text<'a>,
    pub session_context: Object<SessionContext<'a>>,
    pub on_behalf_of: Object<OnBehalfOf<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SessionContext<'a> {
    #[serde(borrow)]
    pub session_issuer: Object<SessionIssuer<'a>>,
    pub attributes: Object<SessionAttributes>,
    pub source_identity: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SessionIssuer<'a> {
    #[serde(borrow)]
    pub arn: Text<'a>,
    pub user_name: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SessionAttributes {
    pub mfa_authenticated: Flag,
}

/// The person of IAM Identity Center behind a call.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct OnBehalfOf<'a> {
    #[serde(borrow)]
    pub user_id: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Resource<'a> {
    #[serde(rename = "ARN", borrow)]
    pub arn: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct TlsDetails<'a> {
    #[serde(borrow)]
    pub tls_version: Text<'a>,
    pub cipher_suite: Text<'a>,
    pub client_provided_host_header: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct InsightDetails<'a> {
    #[serde(borrow)]
    pub state: Text<'a>,
    pub event_source: Text<'a>,
    pub event_name: Text<'a>,
    pub insight_type: Text<'a>,
    pub error_code: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Addendum<'a> {
    #[serde(borrow)]
    pub reason: Text<'a>,
}

/// Reads a whole JSON text; a refusal names the field.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Rejection> {
    serde_json::from_str(json).map_err(|e| refuse(json, "", &e))
}

/// Reads a sub-tree that is an object; any other value has nothing that is read.
pub(super) fn open<'a, T: Deserialize<'a> + Default>(field: &str, raw: Open<'a>) -> Result<T, Rejection> {
    match raw {
        Some(raw) if raw.get().starts_with('{') => {
            serde_json::from_str(raw.get()).map_err(|e| refuse(raw.get(), field, &e))
        }
        _ => Ok(T::default()),
    }
}

/// The rejection of a parser's error, with the path of the field where the parser stopped.
fn refuse(json: &str, parent: &str, error: &serde_json::Error) -> Rejection {
    let mut rejection = json_rejection(error);
    if matches!(rejection.code, Reject::FieldType | Reject::JsonDuplicateKey) {
        let path = walk::path_at(json, offset(json, error));
        let whole = match (parent, path.as_str()) {
            ("", "") => return rejection,
            ("", path) => path.to_owned(),
            (parent, "") => parent.to_owned(),
            (parent, path) => format!("{parent}.{path}"),
        };
        rejection.reason = match rejection.code {
            Reject::FieldType => {
                let expected = rejection.reason.rsplit(", expected ").next().unwrap_or("another type");
                let expected = expected.split(" at line ").next().unwrap_or(expected);
                let expected = if expected == "a sequence" { "an array" } else { expected };
                format!("`{whole}` has the wrong type, expected {expected}")
            }
            _ => format!("`{whole}` stands twice"),
        };
    }
    rejection
}

/// The byte offset of a parser's line and column; the column counts bytes from 1.
fn offset(json: &str, error: &serde_json::Error) -> usize {
    let mut start = 0;
    for _ in 1..error.line() {
        match memchr::memchr(b'\n', &json.as_bytes()[start..]) {
            Some(n) => start += n + 1,
            None => break,
        }
    }
    (start + error.column()).min(json.len())
}
