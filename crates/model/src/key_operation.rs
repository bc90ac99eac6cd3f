//! The shape of a key operation record, as `schemas/key-operation.v1.schema.json` has it: the sidecar refuses
//! at its socket, and the normalizer at its input, what is not of this shape.
//!
//! Everything is checked while it is read: lengths, patterns, lists of values, whole numbers that fit
//! 64 bits with a sign. Unknown fields are refused, and so is null: what a record does not say, it leaves out.
//! A test compares the field names here with the schema's.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use crate::{ActionClass, Timestamp};

/// A string type: what it is in words, and the test that a value passes.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident, $expected:literal, $test:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<'a>(pub Cow<'a, str>);

        impl<'a> From<$name<'a>> for Cow<'a, str> {
            fn from(text: $name<'a>) -> Self {
                text.0
            }
        }

        impl<'de: 'a, 'a> Deserialize<'de> for $name<'a> {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Text;
                impl<'de> Visitor<'de> for Text {
                    type Value = Cow<'de, str>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
                        Ok(Cow::Borrowed(v))
                    }

                    fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                        Ok(Cow::Owned(v.to_owned()))
                    }
                }
                let text = d.deserialize_str(Text)?;
                let test: fn(&str) -> bool = $test;
                if test(&text) {
                    Ok(Self(text))
                } else {
                    // The value itself may be a secret that stands in the wrong place.
                    Err(D::Error::invalid_value(Unexpected::Other("a string"), &$expected))
                }
            }
        }
    )*};
}

texts! {
    /// Free text: ids, labels, versions, reasons.
    Text, "1 to 256 characters, none of them a control character", |t| {
        t.len() <= 1_024 && (1..=256).contains(&t.chars().count()) && !t.chars().any(char::is_control)
    };
    /// A source, or the id of an operation.
    Id, "1 to 128 of `A-Z a-z 0-9 . _ : / @ -`, a letter or digit first", |t| {
        (1..=128).contains(&t.len())
            && t.as_bytes()[0].is_ascii_alphanumeric()
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@-".contains(&b))
    };
    /// A SHA-256 or another 32 bytes.
    Hex32, "64 lower-case hex digits", |t| hex(t, 64);
    /// An Ed25519 signature.
    Hex64, "128 lower-case hex digits", |t| hex(t, 128);
    /// A personal value, hidden by the producer.
    Pseudonym, "`hmac-sha256:<8 hex digits of the key's id>:<64 hex digits>`", |t| {
        t.strip_prefix("hmac-sha256:")
            .and_then(|t| t.split_once(':'))
            .is_some_and(|(key, tag)| hex(key, 8) && hex(tag, 64))
    };
    /// PKCS#11 mechanism.
    Mechanism, "a PKCS#11 mechanism, `CKM_*`", |t| constant(t, "CKM_");
    /// PKCS#11 return value.
    Rv, "a PKCS#11 return value, `CKR_*`", |t| constant(t, "CKR_");
    /// Point in time.
    Time, "an RFC 3339 time in UTC that ends in `Z`", |t| {
        (20..=30).contains(&t.len())
            && t.is_ascii()
            && t.ends_with('Z')
            && t.as_bytes()[10] == b'T'
            && Timestamp::parse(t).is_some()
    };
    /// Address of the caller.
    Ip, "an IPv4 or IPv6 address", |t| t.parse::<IpAddr>().is_ok();
    /// C2SP checkpoint with its signatures.
    Note, "a signed note of at most 16384 bytes that ends in a line feed", |t| {
        t.len() <= 16_384 && t.ends_with('\n') && !t.chars().any(|c| c.is_control() && c != '\n')
    };
    /// Action class.
    Operation, "an action class of key management", |t| class(t).is_some();
    /// Kind of identity.
    ActorType, "`human`, `service` or `system`", |t| matches!(t, "human" | "service" | "system");
    /// NIST SP 800-57 part 1 section 7.
    KeyState, "a key state of NIST SP 800-57", |t| {
        matches!(t, "pre-active" | "active" | "suspended" | "deactivated" | "compromised" | "destroyed")
    };
    /// Where key material was made.
    KeyOrigin, "`hsm`, `imported`, `derived` or `unwrapped`", |t| {
        matches!(t, "hsm" | "imported" | "derived" | "unwrapped")
    };
    /// Policy decision.
    Decision, "`allow` or `deny`", |t| matches!(t, "allow" | "deny");
    /// When a record is durable, against its operation.
    Mode, "`strict`, `outcome-strict` or `relaxed`", |t| matches!(t, "strict" | "outcome-strict" | "relaxed");
}

fn hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn constant(text: &str, prefix: &str) -> bool {
    text.len() <= 64
        && text.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty()
                && rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        })
}

/// The action class of that name.
pub fn class(name: &str) -> Option<ActionClass> {
    ActionClass::ALL.into_iter().find(|c| c.name() == name)
}

/// A whole number from 0 up to `MAX`.
#[derive(Clone, Copy, Debug)]
pub struct Whole<const MAX: i64>(pub i64);

/// A whole number that every reader downstream can hold.
pub type Count = Whole<{ i64::MAX }>;

/// A TCP port.
pub type Port = Whole<65_535>;

impl<'de, const MAX: i64> Deserialize<'de> for Whole<MAX> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Number<const MAX: i64>;
        impl<const MAX: i64> Visitor<'_> for Number<MAX> {
            type Value = Whole<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 0 to {MAX}")
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<Self::Value, E> {
                match i64::try_from(v) {
                    Ok(n) if n <= MAX => Ok(Whole(n)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(v), &self)),
                }
            }
        }
        d.deserialize_u64(Number)
    }
}

/// A list of at most 64 texts.
#[derive(Debug)]
pub struct Texts<'a>(pub Vec<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Texts<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let list = Vec::deserialize(d)?;
        if list.len() > 64 {
            return Err(D::Error::invalid_length(list.len(), &"at most 64 items"));
        }
        Ok(Self(list))
    }
}

/// A field that may be left out, but not null.
fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// Object types: required fields, then those that may be left out. A field that no column takes starts
/// with `_` and has its name in the record behind it: it is checked and dropped.
macro_rules! objects {
    ($(
        $(#[$doc:meta])*
        $name:ident {
            $($req:ident $($req_name:literal)?: $req_ty:ty),* ;
            $($opt:ident $($opt_name:literal)?: $opt_ty:ty),*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Deserialize)]
        #[serde(remote = "Self", deny_unknown_fields, bound(deserialize = "'de: 'a"))]
        pub struct $name<'a> {
            $(
                #[doc = concat!("`", stringify!($req), "` of the record.")]
                $(#[serde(rename = $req_name)])?
                pub $req: $req_ty,
            )*
            $(
                #[doc = concat!("`", stringify!($opt), "` of the record, if it says it.")]
                $(#[serde(rename = $opt_name)])?
                #[serde(default, deserialize_with = "some")]
                pub $opt: Option<$opt_ty>,
            )*
            #[serde(skip)]
            _record: PhantomData<&'a str>,
        }

        // What is derived also takes an array as the fields in their order.
        impl<'de: 'a, 'a> Deserialize<'de> for $name<'a> {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Object<'a>(PhantomData<&'a str>);
                impl<'de: 'a, 'a> Visitor<'de> for Object<'a> {
                    type Value = $name<'a>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                        $name::deserialize(MapAccessDeserializer::new(map))
                    }
                }
                d.deserialize_map(Object(PhantomData))
            }
        }
    )*};
}

objects! {
    /// The envelope of every record.
    Envelope {
        v: Count, source: Id<'a>, epoch: Count, seq: Count, prev: Hex32<'a>, phase: Text<'a>, time: Time<'a>,
        _mono_ns "mono_ns": Count, body: &'a RawValue;
        op_id: Id<'a>
    }

    /// The envelope of a record that carries somebody else's line: no body, the line follows it.
    ForeignEnvelope {
        v: Count, source: Id<'a>, epoch: Count, seq: Count, prev: Hex32<'a>, phase: Text<'a>, _time "time": Time<'a>,
        _mono_ns "mono_ns": Count;
    }

    /// Before the HSM is asked.
    Intent {
        actor: Actor<'a>, operation: Operation<'a>, policy: Policy<'a>, hsm: Hsm<'a>;
        key: Key<'a>, target_key_id: Text<'a>, mechanism: Mechanism<'a>, count: Count,
        _input "input": Digest<'a>, timings: Timings<'a>
    }

    /// What came of it.
    Outcome {
        actor: Actor<'a>, operation: Operation<'a>, hsm: Hsm<'a>, result: Answer<'a>;
        policy: Policy<'a>, key: Key<'a>, target_key_id: Text<'a>, mechanism: Mechanism<'a>, count: Count,
        _input "input": Digest<'a>, _output "output": Digest<'a>, timings: Timings<'a>
    }

    /// Refused before the HSM was asked.
    Deny {
        actor: Actor<'a>, operation: Operation<'a>, policy: Policy<'a>, reason: Text<'a>;
        hsm: Hsm<'a>, key: Key<'a>, target_key_id: Text<'a>, mechanism: Mechanism<'a>, count: Count,
        _input "input": Digest<'a>, timings: Timings<'a>
    }

    /// First record of an epoch.
    EpochOpen {
        _boot_nonce "boot_nonce": Hex32<'a>, hsm: Hsm<'a>,
        _policy_set_sha256 "policy_set_sha256": Hex32<'a>, _software "software": Software<'a>,
        _epoch_key "epoch_key": EpochKey<'a>, _mode "mode": Mode<'a>;
        _last "last": Last<'a>, _checkpoint "checkpoint": Note<'a>
    }

    /// Sign of life.
    Heartbeat {
        _in_flight "in_flight": Count, _unshipped_records "unshipped_records": Count,
        _unshipped_bytes "unshipped_bytes": Count, _spool_free_bytes "spool_free_bytes": Count;
        _oldest_unshipped_ns "oldest_unshipped_ns": Count
    }

    /// Signed checkpoint of the records before.
    Head { _checkpoint "checkpoint": Note<'a>; }

    /// Records that were lost before they were shipped.
    Gap { _first_seq "first_seq": Count, _last_seq "last_seq": Count, cause: Text<'a>; }

    /// Last record of an epoch that ended well.
    EpochClose { _records "records": Count, reason: Text<'a>; }

    /// Who asked.
    Actor {
        id: Text<'a>, r#type: ActorType<'a>;
        name: Pseudonym<'a>, service: Text<'a>, session: Pseudonym<'a>, ip: Ip<'a>, port: Port
    }

    /// The key that is used or made.
    Key {
        id: Text<'a>;
        label: Text<'a>, version: Text<'a>, algorithm: Text<'a>, state: KeyState<'a>, usage: Text<'a>,
        origin: KeyOrigin<'a>, store: Text<'a>
    }

    /// What policy said.
    Policy {
        decision: Decision<'a>;
        ids: Texts<'a>, _ticket "ticket": Text<'a>, requester: Text<'a>, approvers: Texts<'a>
    }

    /// The HSM that is asked.
    Hsm {
        id: Text<'a>;
        serial: Text<'a>, slot: Count, firmware: Text<'a>, _reboot_counter "reboot_counter": Count
    }

    /// Parts of the time that the operation took.
    Timings { total_ns: Count; _queue_ns "queue_ns": Count, _policy_ns "policy_ns": Count, _hsm_ns "hsm_ns": Count }

    /// What the HSM said: `rv`, or why nobody knows.
    Answer { ; rv: Rv<'a>, unknown: Text<'a> }

    /// A value that stays outside: its hash and length.
    Digest { _sha256 "sha256": Hex32<'a>, _len "len": Count; }

    /// What runs.
    Software { _name "name": Text<'a>, _version "version": Text<'a>; }

    /// The key that signs this epoch's heads.
    EpochKey { _public_key "public_key": Hex32<'a>, _signature "signature": Hex64<'a>, _audit_key_id "audit_key_id": Text<'a>; }

    /// Where the epoch before ended.
    Last { _epoch "epoch": Count, _seq "seq": Count, _hash "hash": Hex32<'a>; }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    const SCHEMA: &str = include_str!("../../../schemas/key-operation.v1.schema.json");

    /// Fields that a type takes, as its refusal of another one lists them.
    fn fields<'a, T: Deserialize<'a>>() -> BTreeSet<String> {
        let error = serde_json::from_str::<T>(r#"{"?":0}"#).err().unwrap().to_string();
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_schema_has_the_same_fields() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let of = |pointer: &str| -> BTreeSet<String> {
            let properties = schema.pointer(pointer).unwrap()["properties"].as_object().unwrap();
            properties.keys().cloned().collect()
        };
        assert_eq!(of(""), fields::<Envelope<'_>>());
        for (name, got) in [
            ("intent", fields::<Intent<'_>>()),
            ("outcome", fields::<Outcome<'_>>()),
            ("deny", fields::<Deny<'_>>()),
            ("epoch_open", fields::<EpochOpen<'_>>()),
            ("heartbeat", fields::<Heartbeat<'_>>()),
            ("head", fields::<Head<'_>>()),
            ("gap", fields::<Gap<'_>>()),
            ("epoch_close", fields::<EpochClose<'_>>()),
            ("actor", fields::<Actor<'_>>()),
            ("key", fields::<Key<'_>>()),
            ("policy", fields::<Policy<'_>>()),
            ("hsm", fields::<Hsm<'_>>()),
            ("timings", fields::<Timings<'_>>()),
            ("result", fields::<Answer<'_>>()),
            ("digest", fields::<Digest<'_>>()),
            ("software", fields::<Software<'_>>()),
            ("signed_key", fields::<EpochKey<'_>>()),
            ("position", fields::<Last<'_>>()),
        ] {
            assert_eq!(of(&format!("/$defs/{name}")), got, "{name}");
        }
    }

    #[test]
    fn the_schema_is_closed_and_every_field_has_a_class() {
        fn walk(at: &str, value: &Value, objects: &mut usize) {
            if let Some(properties) = value.get("properties").and_then(Value::as_object)
                && value.get("type").is_some()
            {
                *objects += 1;
                assert_eq!(value.get("additionalProperties"), Some(&Value::Bool(false)), "{at}");
                for (name, property) in properties {
                    let class = property.get("x-class").and_then(Value::as_str);
                    assert!(matches!(class, Some("public" | "pseudonymised")), "{at}.{name}: {class:?}");
                }
            }
            match value {
                Value::Object(fields) => {
                    fields.iter().for_each(|(k, v)| walk(&format!("{at}/{k}"), v, objects))
                }
                Value::Array(items) => items.iter().for_each(|v| walk(at, v, objects)),
                _ => {}
            }
        }
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        assert_eq!(schema["x-status"], "frozen");
        let mut objects = 0;
        walk("", &schema, &mut objects);
        assert_eq!(objects, 19);
    }

    #[test]
    fn an_array_is_no_object() {
        assert!(serde_json::from_str::<Hsm<'_>>(r#"{"id":"hsm-a"}"#).is_ok());
        let error = serde_json::from_str::<Hsm<'_>>(r#"["hsm-a"]"#).err().unwrap().to_string();
        assert!(error.starts_with("invalid type: sequence, expected an object"), "{error}");
    }

    #[test]
    fn texts_are_what_they_say() {
        for (text, good) in [
            (r#""hsm-a/p0""#, true),
            (r#""""#, false),
            (r#""a\u0000b""#, false),
            (r#""-a""#, false),
            ("null", false),
            ("7", false),
        ] {
            assert_eq!(serde_json::from_str::<Id<'_>>(text).is_ok(), good, "{text}");
        }
        let long = format!("\"{}\"", "é".repeat(257));
        assert!(serde_json::from_str::<Text<'_>>(&long).is_err());
        assert!(serde_json::from_str::<Text<'_>>(&long.replacen('é', "", 1)).is_ok());
        for (time, good) in [
            ("2026-11-21T09:30:45.123456789Z", true),
            ("2026-11-21T09:30:45+00:00", false),
            ("2026-11-21 09:30:45Z", false),
            ("2026-02-30T09:30:45Z", false),
        ] {
            assert_eq!(serde_json::from_str::<Time<'_>>(&format!("\"{time}\"")).is_ok(), good, "{time}");
        }
    }

    #[test]
    fn numbers_fit_64_bits_with_a_sign() {
        assert!(serde_json::from_str::<Count>("9223372036854775807").is_ok());
        for other in ["9223372036854775808", "18446744073709551616", "-1", "1.0", "\"1\"", "null"] {
            assert!(serde_json::from_str::<Count>(other).is_err(), "{other}");
        }
        let error = serde_json::from_str::<Port>("65536").unwrap_err().to_string();
        assert!(error.contains("expected a whole number from 0 to 65535"), "{error}");
    }
}
