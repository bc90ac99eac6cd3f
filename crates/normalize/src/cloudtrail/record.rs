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
use crate::reader::{self, Read, Reader, fields};

/// A string of the record, borrowed unless it holds escapes. Absent, `null` and `""` are the same:
/// producers write all three for "none".
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Text<'a>(pub Cow<'a, str>);

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
pub(crate) struct Flag(pub Option<bool>);

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

/// A value whose form is the service's own, as its JSON text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The JSON text.
    pub fn get(self) -> &'a str {
        self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(d).map(|raw| Self(raw.get()))
    }
}

/// A [`Raw`] value; absent and `null` are `None`.
pub(crate) type Open<'a> = Option<Raw<'a>>;

impl<'a> Read<'a> for Text<'a> {
    fn read(&mut self, from: &mut Reader<'a>) -> Option<()> {
        self.0 = from.string()?;
        Some(())
    }
}

impl Read<'_> for Flag {
    fn read(&mut self, from: &mut Reader<'_>) -> Option<()> {
        self.0 = match from.any()? {
            "true" | "\"true\"" => Some(true),
            "false" | "\"false\"" => Some(false),
            "null" | "\"\"" => None,
            _ => return None,
        };
        Some(())
    }
}

impl<'a> Read<'a> for Open<'a> {
    fn read(&mut self, from: &mut Reader<'a>) -> Option<()> {
        *self = Some(Raw(from.any()?)).filter(|raw| raw.get() != "null");
        Some(())
    }
}

impl<'a, T: Read<'a> + Default> Read<'a> for Object<T> {
    fn read(&mut self, from: &mut Reader<'a>) -> Option<()> {
        match from.peek()? {
            b'n' => from.word("null"),
            _ => self.0.insert(T::default()).read(from),
        }
    }
}

impl<'a, T: Read<'a> + Default> Read<'a> for Option<Vec<T>> {
    fn read(&mut self, from: &mut Reader<'a>) -> Option<()> {
        if from.peek()? == b'n' {
            return from.word("null");
        }
        let items = self.insert(Vec::new());
        from.array(|from| {
            let mut item = T::default();
            item.read(from)?;
            items.push(item);
            Some(())
        })
    }
}

/// A member by which a record is of another kind: there is none in what is read.
#[derive(Default, PartialEq, Debug)]
pub(crate) struct Elsewhere;

impl Read<'_> for Elsewhere {
    fn read(&mut self, _: &mut Reader<'_>) -> Option<()> {
        None
    }
}

fields! {
    pub(crate) struct Record<'a> {
        #[serde(borrow)]
        user_identity: Object<UserIdentity<'a>> = "userIdentity",
        event_time: Text<'a> = "eventTime",
        event_source: Text<'a> = "eventSource",
        event_name: Text<'a> = "eventName",
        aws_region: Text<'a> = "awsRegion",
        source_ip_address: Text<'a> = "sourceIPAddress",
        user_agent: Text<'a> = "userAgent",
        error_code: Text<'a> = "errorCode",
        error_message: Text<'a> = "errorMessage",
        request_parameters: Open<'a> = "requestParameters",
        response_elements: Open<'a> = "responseElements",
        additional_event_data: Open<'a> = "additionalEventData",
        service_event_details: Open<'a> = "serviceEventDetails",
        request_id: Text<'a> = "requestID",
        event_id: Text<'a> = "eventID",
        event_type: Text<'a> = "eventType",
        event_category: Text<'a> = "eventCategory",
        read_only: Flag = "readOnly",
        resources: Option<Vec<Object<Resource<'a>>>> = "resources",
        recipient_account_id: Text<'a> = "recipientAccountId",
        shared_event_id: Text<'a> = "sharedEventID",
        vpc_endpoint_id: Text<'a> = "vpcEndpointId",
        tls_details: Object<TlsDetails<'a>> = "tlsDetails",
        insight_details: Object<InsightDetails<'a>> = "insightDetails",
        addendum: Object<Addendum<'a>> = "addendum",
        // The wrapper of the LookupEvents API, see `unwrap_lookup`.
        #[serde(skip)]
        lookup: Elsewhere = "CloudTrailEvent",
    }
}

fields! {
    /// Who made the call ("CloudTrail userIdentity element").
    pub(crate) struct UserIdentity<'a> {
        #[serde(borrow)]
        kind: Text<'a> = "type",
        principal_id: Text<'a> = "principalId",
        arn: Text<'a> = "arn",
        account_id: Text<'a> = "accountId",
        access_key_id: Text<'a> = "accessKeyId",
        user_name: Text<'a> = "userName",
        invoked_by: Text<'a> = "invokedBy",
        session_context: Object<SessionContext<'a>> = "sessionContext",
        on_behalf_of: Object<OnBehalfOf<'a>> = "onBehalfOf",
    }
}

fields! {
    pub(crate) struct SessionContext<'a> {
        #[serde(borrow)]
        session_issuer: Object<SessionIssuer<'a>> = "sessionIssuer",
        attributes: Object<SessionAttributes> = "attributes",
        source_identity: Text<'a> = "sourceIdentity",
    }
}

fields! {
    pub(crate) struct SessionIssuer<'a> {
        #[serde(borrow)]
        arn: Text<'a> = "arn",
        user_name: Text<'a> = "userName",
    }
}

fields! {
    pub(crate) struct SessionAttributes {
        mfa_authenticated: Flag = "mfaAuthenticated",
    }
}

fields! {
    /// The person of IAM Identity Center behind a call.
    pub(crate) struct OnBehalfOf<'a> {
        #[serde(borrow)]
        user_id: Text<'a> = "userId",
    }
}

fields! {
    pub(crate) struct Resource<'a> {
        #[serde(borrow)]
        arn: Text<'a> = "ARN",
    }
}

fields! {
    pub(crate) struct TlsDetails<'a> {
        #[serde(borrow)]
        tls_version: Text<'a> = "tlsVersion",
        cipher_suite: Text<'a> = "cipherSuite",
        client_provided_host_header: Text<'a> = "clientProvidedHostHeader",
    }
}

fields! {
    pub(crate) struct InsightDetails<'a> {
        #[serde(borrow)]
        state: Text<'a> = "state",
        event_source: Text<'a> = "eventSource",
        event_name: Text<'a> = "eventName",
        insight_type: Text<'a> = "insightType",
        error_code: Text<'a> = "errorCode",
    }
}

fields! {
    pub(crate) struct Addendum<'a> {
        #[serde(borrow)]
        reason: Text<'a> = "reason",
    }
}

/// Reads a whole JSON text; a refusal names the field.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Rejection> {
    serde_json::from_str(json).map_err(|e| refuse(json, "", &e))
}

/// Reads a sub-tree that is an object into a default; any other value has nothing that is read.
pub(super) fn open<'a, T: Deserialize<'a> + Read<'a>>(
    field: &str,
    raw: Open<'a>,
    into: &mut T,
) -> Result<(), Rejection> {
    let Some(json) = raw.map(Raw::get).filter(|json| json.starts_with('{')) else { return Ok(()) };
    if reader::read(json, into).is_none() {
        *into = serde_json::from_str(json).map_err(|e| refuse(json, field, &e))?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use keytrail_model::json::MAX_DEPTH;
    use proptest::prelude::*;

    use super::*;

    /// Values of all kinds, in order and not.
    const VALUES: [&str; 36] = [
        "null",
        "true",
        "false",
        "nul",
        "truE",
        "0",
        "-0",
        "01",
        "-",
        "1.5e-7",
        "1.",
        ".5",
        "1e",
        "1e400",
        "\"\"",
        "\"true\"",
        "\"x\"",
        "\"\\u00e9\\n\\/\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\x\"",
        "\"a\tb\"",
        "\"\u{7f}\u{e9}\"",
        "\"open",
        "[]",
        "[1,\"a\"]",
        "[1,]",
        "[,1]",
        "{}",
        "{\"a\":1,}",
        "{\"ARN\":\"r\"}",
        "{\"a\":1,\"a\":2}",
        "[null,{\"ARN\":\"r\"}]",
        "[{\"ARN\":1}]",
        "[}",
        "{]",
    ];

    /// Names of fields at all levels, one that is unknown and one with an escape.
    const NAMES: [&str; 16] = [
        "eventName",
        "readOnly",
        "resources",
        "requestParameters",
        "userIdentity",
        "sessionContext",
        "sessionIssuer",
        "attributes",
        "mfaAuthenticated",
        "arn",
        "type",
        "tlsDetails",
        "tlsVersion",
        "other",
        "event\\u004eame",
        "CloudTrailEvent",
    ];

    fn spaces() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["", "", "", "", " ", "\n\t", "\u{c}"])
    }

    /// An object of such fields, which nest.
    fn objects() -> impl Strategy<Value = String> {
        let member = |value: BoxedStrategy<String>| {
            let parts = (prop::sample::select(&NAMES[..]), spaces(), spaces(), value, spaces());
            parts.prop_map(|(name, a, b, value, c)| format!("{a}\"{name}\"{b}:{value}{c}"))
        };
        let object = move |value: BoxedStrategy<String>| {
            prop::collection::vec(member(value), 0..6)
                .prop_map(|members| format!("{{{}}}", members.join(",")))
        };
        let leaf = prop::sample::select(&VALUES[..]).prop_map(str::to_owned).boxed();
        let inner = leaf.clone().prop_recursive(3, 12, 4, move |value| object(value).boxed());
        (object(prop_oneof![1 => leaf, 2 => inner].boxed()), spaces())
            .prop_map(|(object, tail)| object + tail)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// What is read in one pass is what serde reads, and all of it but what is left to serde: escapes
        /// in keys and flags, and answers of LookupEvents.
        #[test]
        fn one_pass_reads_what_serde_reads(json in objects()) {
            let slow = serde_json::from_str::<Record<'_>>(json.trim_ascii_end()).ok();
            let left = ["\\", "CloudTrailEvent"].iter().any(|part| json.contains(part));
            let mut fast = Record::default();
            match reader::read(&json, &mut fast) {
                Some(_) => prop_assert_eq!(Some(fast), slow),
                None => prop_assert!(slow.is_none() || left),
            }
        }
    }

    #[test]
    fn nesting_ends_where_the_limit_is() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let reads = |json: &str| reader::read(json, &mut Record::default()).is_some();
        assert!(reads(&nested(MAX_DEPTH as usize)) && !reads(&nested(MAX_DEPTH as usize + 1)));
    }
}
