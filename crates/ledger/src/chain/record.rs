//! What one record of a chain says.

use std::borrow::Cow;

use keytrail_model::key_operation::Id;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::{Hash, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The version of the envelope that is read here.
const VERSION: u64 = 1;

/// The largest number of an epoch or record.
pub(super) const MAX_NUMBER: u64 = i64::MAX.cast_unsigned();

/// Kind of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// First of an epoch.
    EpochOpen,
    /// Before the HSM is asked.
    Intent,
    /// What came of it.
    Outcome,
    /// Refused by policy.
    Deny,
    /// Sign of life.
    Heartbeat,
    /// Signed checkpoint of the records before.
    Head,
    /// Records that were lost.
    Gap,
    /// Last of an epoch that ended well.
    EpochClose,
    /// Somebody else's line.
    Foreign,
    /// Of another version, or not readable: its position counts, its content does not.
    Unknown,
}

impl Phase {
    fn parse(name: &str) -> Self {
        match name {
            "epoch_open" => Self::EpochOpen,
            "intent" => Self::Intent,
            "outcome" => Self::Outcome,
            "deny" => Self::Deny,
            "heartbeat" => Self::Heartbeat,
            "head" => Self::Head,
            "gap" => Self::Gap,
            "epoch_close" => Self::EpochClose,
            "foreign" => Self::Foreign,
            _ => Self::Unknown,
        }
    }
}

/// When a record was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clocks {
    /// Nanoseconds since 1970-01-01 UTC, to the microsecond.
    pub wall_ns: i64,
    /// Nanoseconds since the epoch was opened.
    pub mono_ns: u64,
}

/// What one record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Whose chain.
    pub source: Cow<'a, str>,
    /// Its epoch.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// Leaf hash of the record before; zeros for the first one.
    pub prev: Hash,
    /// RFC 6962 leaf hash of all of its bytes.
    pub leaf: Hash,
    /// When it was made; `None` where the phase is [`Phase::Unknown`].
    pub clocks: Option<Clocks>,
    /// Its kind.
    pub phase: Phase,
    /// The operation of an intent or outcome.
    pub op_id: Option<Cow<'a, str>>,
    /// JSON of the body, where it has one. What is checked of it is that of `epoch_open`, `head`, `gap` and
    /// `epoch_close`.
    pub body: Option<&'a str>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    source: Id<'a>,
    epoch: u64,
    seq: u64,
    prev: Hash,
    // What else there is may be of any form.
    #[serde(borrow)]
    v: Option<&'a RawValue>,
    #[serde(borrow)]
    phase: Option<&'a RawValue>,
    #[serde(borrow)]
    op_id: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    mono_ns: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// A value of an envelope, if it is of that type.
fn value<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Record<'a> {
    /// Reads a record's bytes: its JSON, or for somebody else's line an envelope without body, a line feed
    /// and that line. `None`: it does not say where it stands, or with a number beyond 63 bits.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Envelope<'a>>();
        let envelope = values.next()?.ok()?;
        let rest = &bytes[values.byte_offset()..];
        if envelope.epoch > MAX_NUMBER || envelope.seq > MAX_NUMBER {
            return None;
        }
        let mut record = Self {
            source: envelope.source.0,
            epoch: envelope.epoch,
            seq: envelope.seq,
            prev: envelope.prev,
            leaf: leaf_hash(bytes),
            clocks: None,
            phase: Phase::Unknown,
            op_id: None,
            body: None,
        };
        let phase = value::<Text<'_>>(envelope.phase).map_or(Phase::Unknown, |t| Phase::parse(&t.0));
        let op_id = value::<Id<'_>>(envelope.op_id).map(|t| t.0);
        let clocks = value::<Text<'_>>(envelope.time)
            .and_then(|t| Timestamp::parse(&t.0))
            .zip(value(envelope.mono_ns))
            .map(|(wall, mono_ns)| Clocks { wall_ns: wall.0.saturating_mul(1_000), mono_ns });
        let whole = match phase {
            Phase::Foreign => rest.first() == Some(&b'\n'),
            _ => rest.iter().all(u8::is_ascii_whitespace),
        };
        let named = op_id.is_some() || !matches!(phase, Phase::Intent | Phase::Outcome);
        let known = phase != Phase::Unknown && value(envelope.v) == Some(VERSION);
        if known && clocks.is_some() && whole && named {
            (record.phase, record.clocks, record.op_id) = (phase, clocks, op_id);
            record.body = envelope.body.map(RawValue::get);
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn text(fields: &str) -> String {
        format!(r#"{{"v":1,"source":"a/p0","epoch":3,"seq":7,"prev":"{ZEROS}",{fields}}}"#)
    }

    #[test]
    fn a_record_is_read() {
        let own = text(
            r#""phase":"intent","op_id":"op\/1","time":"2026-11-18T11:06:40.123456789Z","mono_ns":42,"body":{"a":1}"#,
        );
        let record = Record::parse(own.as_bytes()).unwrap();
        assert_eq!((&*record.source, record.epoch, record.seq), ("a/p0", 3, 7));
        assert_eq!((record.phase, record.op_id.as_deref()), (Phase::Intent, Some("op/1")));
        let clocks = Clocks { wall_ns: 1_795_000_000_123_456_000, mono_ns: 42 };
        assert_eq!((record.clocks, record.body), (Some(clocks), Some(r#"{"a":1}"#)));
        assert_eq!(record.leaf, leaf_hash(own.as_bytes()));

        let envelope = text(r#""phase":"foreign","time":"2026-11-18T11:06:40Z","mono_ns":42"#);
        let foreign = [envelope.as_bytes(), b"\n{\"any\":\n\xff}"].concat();
        let record = Record::parse(&foreign).unwrap();
        assert_eq!((record.phase, record.leaf), (Phase::Foreign, leaf_hash(&foreign)));
    }

    #[test]
    fn what_is_not_known_has_its_position() {
        let rest = r#""time":"2026-11-18T11:06:40Z","mono_ns":42"#;
        for odd in [
            text(r#""phase":{"new":1}"#),
            text(&format!(r#""phase":"newer",{rest}"#)),
            text(&format!(r#""phase":"intent",{rest}"#)),
            text(&format!(r#""phase":"heartbeat",{rest}"#)) + "more",
            text(&format!(r#""phase":"heartbeat",{rest}"#)).replace("\"v\":1", "\"v\":2"),
            text(r#""phase":"heartbeat","time":"today","mono_ns":42,"body":7"#),
            text(r#""phase":"heartbeat","time":"2026-11-18T11:06:40Z","mono_ns":-1"#),
        ] {
            let record = Record::parse(odd.as_bytes()).unwrap();
            assert_eq!((record.seq, record.phase, record.clocks), (7, Phase::Unknown, None), "{odd}");
        }
        for none in [
            String::new(),
            "7".into(),
            text("\"seq\":8"),
            text("\"a\":0").replace("a/p0", "a\\n"),
            text("\"a\":0").replace("\"seq\":7", "\"seq\":9223372036854775808"),
            text("\"a\":0").replace("00\",", "0\","),
        ] {
            assert_eq!(Record::parse(none.as_bytes()), None, "{none}");
        }
    }
}
