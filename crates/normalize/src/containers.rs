//! Records that another service carries: peels containers off, one layer at a time.
//!
//! What it is: a frame to the records in it. Layers, in any order and up to [`MAX_LAYERS`] of them:
//! subscription records of CloudWatch Logs (`logEvents[].message`), lines of their exports to S3 (a time,
//! a space, the message), and EventBridge envelopes (`detail`). What a layer holds is cut like an input
//! of its own. What it is not: it reads no record, and LookupEvents' answers, which tell of the one event
//! in them, are CloudTrail's matter. In: a frame. Out: [`Carried`] records, and what the container said.
//!
//! A record is the exact slice of the frame where its container holds it as JSON, or the unescaped string
//! where it holds it as one. What a layer says beside its records is kept nowhere but in [`Origin`]. Time
//! and memory are those of the frame for each layer: a string is never longer unescaped.
//!
//! Sources: "Log group-level subscription filters" and "Exporting log data to Amazon S3" of the Amazon
//! CloudWatch Logs user guide; "Events structure reference" of the Amazon EventBridge user guide.

use std::borrow::Cow;

use keytrail_model::{Reject, Rejection};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::framing::{Frame, Limits, Splitter};
use crate::reader::{Read, fields};
use crate::value::{self, Open, Text};
use crate::walk;
use crate::{Format, cloudhsm, json_rejection};

/// More layers than any set-up has.
pub const MAX_LAYERS: usize = 8;

/// What a container says of the records in it; empty where it says nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Origin<'a> {
    /// Account that owns the log group.
    pub account: Cow<'a, str>,
    /// Log group of CloudWatch Logs.
    pub log_group: Cow<'a, str>,
    /// Log stream of CloudWatch Logs.
    pub log_stream: Cow<'a, str>,
}

impl<'a> Origin<'a> {
    /// What the container of a row's record said of it, as far as the row's columns depend on it.
    pub fn of_row(format: Format, columns: &'a [u8]) -> Self {
        match format {
            Format::CloudHsm => cloudhsm::origin(columns),
            _ => Self::default(),
        }
    }
}

/// A record that a container holds.
#[derive(Debug)]
pub struct Carried<'a> {
    /// Its bytes.
    pub record: &'a [u8],
    /// The smallest part around it that holds no other record, for quarantine: what a layer of one record
    /// says of it is of use to who looks at a refused one.
    pub unit: &'a [u8],
    /// What the containers say of it, the inner one before the outer.
    pub origin: &'a Origin<'a>,
    /// Where the outermost layer holds it, in bytes of the frame.
    pub at: usize,
    /// Whether it looks like one record, or why not.
    pub verdict: Result<(), Rejection>,
}

/// Gives the records that a frame carries, in order; `None` where it is no container. Otherwise at least
/// one record comes, or the frame is a control message of CloudWatch Logs, of which that many are in it:
/// these hold no record and say that a subscription works.
pub fn open(frame: &[u8], sink: &mut dyn FnMut(Carried<'_>)) -> Option<u64> {
    let mut peeling = Peeling { sink, controls: 0 };
    let part = Part { record: frame, unit: frame, origin: &Origin::default(), at: 0, layer: 0 };
    peeling.peel(&part).then_some(peeling.controls)
}

/// Whether a frame is a line of an export: a container that a normalizer would take for a record with a
/// prefix.
pub fn is_exported(frame: &[u8]) -> bool {
    export_prefix(frame) > 0
}

/// Something that may be a container.
#[derive(Clone, Copy)]
struct Part<'a> {
    record: &'a [u8],
    unit: &'a [u8],
    origin: &'a Origin<'a>,
    at: usize,
    layer: usize,
}

struct Peeling<'s> {
    sink: &'s mut dyn FnMut(Carried<'_>),
    controls: u64,
}

impl Peeling<'_> {
    /// Whether it was a container.
    fn peel(&mut self, part: &Part<'_>) -> bool {
        let Some(layer) = layer_of(part.record) else { return false };
        if part.layer == MAX_LAYERS {
            let why = format!("a container in {MAX_LAYERS} others, at most {MAX_LAYERS} are opened");
            self.refuse(part, Rejection::new(Reject::JsonTooDeep, why));
            return true;
        }
        let opened = match layer {
            Layer::Export(len) => {
                let inner = Part { record: &part.record[len..], at: part.at + len, ..*part };
                self.cut("the message", &inner);
                Ok(())
            }
            Layer::Envelope(text) => self.envelope(text, part),
            Layer::Subscription(text) => self.subscription(text, part),
        };
        if let Err(why) = opened {
            self.refuse(part, why);
        }
        true
    }

    fn refuse(&mut self, part: &Part<'_>, why: Rejection) {
        let Part { record, unit, origin, at, .. } = *part;
        (self.sink)(Carried { record, unit, origin, at, verdict: Err(why) });
    }

    /// Cuts what a layer holds into records and peels each.
    fn cut(&mut self, name: &str, part: &Part<'_>) {
        let mut empty = true;
        let whole = part.record.trim_ascii().len();
        // None is larger than what it is cut from.
        let limits = Limits { max_record_bytes: part.record.len() + 1 };
        Splitter::new(limits).run(part.record, true, &mut |frame: Frame<'_>| {
            empty = false;
            let unit = if frame.bytes.len() == whole { part.unit } else { frame.bytes };
            let inner = Part { record: frame.bytes, unit, layer: part.layer + 1, ..*part };
            match frame.verdict {
                Err(why) => self.refuse(&inner, why),
                Ok(()) if self.peel(&inner) => {}
                Ok(()) => {
                    let Part { record, unit, origin, at, .. } = inner;
                    (self.sink)(Carried { record, unit, origin, at, verdict: Ok(()) });
                }
            }
        });
        if empty {
            self.refuse(part, Rejection::new(Reject::FieldMissing, format!("{name} is empty")));
        }
    }

    /// An EventBridge event.
    fn envelope(&mut self, text: &str, part: &Part<'_>) -> Result<(), Rejection> {
        let envelope: Envelope<'_> = parse(text)?;
        let detail = present("detail", envelope.detail)?;
        let record = string(detail)?;
        let at = if part.layer == 0 { part.at + offset(part.record, detail) } else { part.at };
        self.cut("`detail`", &Part { record: record.as_bytes(), at, ..*part });
        Ok(())
    }

    /// A subscription record of CloudWatch Logs.
    fn subscription(&mut self, text: &str, part: &Part<'_>) -> Result<(), Rejection> {
        let record: Subscription<'_> = parse(text)?;
        let events = record.events()?;
        if record.is_control(&events) {
            self.controls += 1;
            return Ok(());
        }
        if !matches!(&*record.kind, "DATA_MESSAGE" | "CONTROL_MESSAGE") {
            let why = "expected `DATA_MESSAGE` or `CONTROL_MESSAGE` in `messageType`";
            return Err(Rejection::new(Reject::FormatUnknown, why));
        }
        if events.is_empty() {
            return Err(Rejection::new(Reject::FieldMissing, "`logEvents` is empty"));
        }
        let origin = Origin {
            account: record.owner.0,
            log_group: record.log_group.0,
            log_stream: record.log_stream.0,
        };
        for event in events {
            let event = event.get();
            let at = if part.layer == 0 { part.at + offset(part.record, event) } else { part.at };
            let bytes = event.as_bytes();
            let part = Part { record: bytes, unit: bytes, origin: &origin, at, ..*part };
            match message(event) {
                Ok(message) => {
                    let message = message.as_bytes();
                    let unit = if message.trim_ascii().is_empty() { bytes } else { message };
                    self.cut("`message`", &Part { record: message, unit, ..part });
                }
                Err(why) => self.refuse(&part, why),
            }
        }
        Ok(())
    }
}

/// A container.
enum Layer<'a> {
    /// A line of an export: how long the time before the message is.
    Export(usize),
    /// An EventBridge event.
    Envelope(&'a str),
    /// A subscription record.
    Subscription(&'a str),
}

/// The container that a record is. Known by the keys of its outermost object, so that the same text
/// inside a record makes it none.
fn layer_of(record: &[u8]) -> Option<Layer<'_>> {
    let prefix = export_prefix(record);
    if prefix > 0 {
        return Some(Layer::Export(prefix));
    }
    let holds = |key: &[u8]| memmem::find(record, key).is_some();
    if record.first() != Some(&b'{') || !(holds(b"\"logEvents\"") || holds(b"\"detail-type\"")) {
        return None;
    }
    let text = std::str::from_utf8(record).ok()?;
    let (mut keys, mut foreign) = (0, false);
    walk::top_keys(text, |key, _| {
        keys |= match key {
            "messageType" => 1,
            "logEvents" => 2,
            "detail-type" => 4,
            "detail" => 8,
            // A record of a source, whatever else it has.
            "eventVersion" | "eventName" | "type" | "kind" | "prev" => {
                foreign = true;
                0
            }
            _ => 0,
        };
        !foreign
    });
    match keys {
        _ if foreign => None,
        3 => Some(Layer::Subscription(text)),
        12 => Some(Layer::Envelope(text)),
        _ => None,
    }
}

fields! {
    struct Envelope<'a> {
        #[serde(borrow)]
        detail: Open<'a> = "detail",
    }
}

fields! {
    struct Subscription<'a> {
        #[serde(borrow)]
        kind: Text<'a> = "messageType",
        owner: Text<'a> = "owner",
        log_group: Text<'a> = "logGroup",
        log_stream: Text<'a> = "logStream",
        events: Open<'a> = "logEvents",
    }
}

fields! {
    struct LogEvent<'a> {
        #[serde(borrow)]
        message: Open<'a> = "message",
    }
}

impl<'a> Subscription<'a> {
    fn events(&self) -> Result<Vec<&'a RawValue>, Rejection> {
        let events = present("logEvents", self.events)?;
        let wrong =
            |_| Rejection::new(Reject::FieldType, "`logEvents` has the wrong type, expected an array");
        serde_json::from_str(events).map_err(wrong)
    }

    /// A message of the service's own, which says that the destination can be reached. Whatever else
    /// calls itself one is read as any other.
    fn is_control(&self, events: &[&RawValue]) -> bool {
        &*self.kind == "CONTROL_MESSAGE"
            && &*self.owner == "CloudwatchLogs"
            && self.log_group.is_empty()
            && self.log_stream.is_empty()
            && events.iter().all(|e| {
                message(e.get()).is_ok_and(|m| m.starts_with("CWL CONTROL MESSAGE: ") && !m.contains('{'))
            })
    }
}

/// The message of a log event.
fn message(event: &str) -> Result<Cow<'_, str>, Rejection> {
    if !event.starts_with('{') {
        return Err(Rejection::new(Reject::FieldType, "expected an object in `logEvents`"));
    }
    let event: LogEvent<'_> = parse(event)?;
    string(present("message", event.message)?)
}

fn present<'a>(name: &str, value: Open<'a>) -> Result<&'a str, Rejection> {
    let missing = || Rejection::new(Reject::FieldMissing, format!("`{name}` is missing"));
    value.map(value::Raw::get).ok_or_else(missing)
}

/// The text of a JSON string, or the JSON of any other value.
fn string(json: &str) -> Result<Cow<'_, str>, Rejection> {
    if !json.starts_with('"') {
        return Ok(Cow::Borrowed(json));
    }
    serde_json::from_str(json).map(Cow::Owned).map_err(|e| json_rejection(&e))
}

/// Reads an object; a refusal names the field.
fn parse<'a, T: Deserialize<'a> + Read<'a> + Default>(text: &'a str) -> Result<T, Rejection> {
    let mut object = T::default();
    crate::read(text, &mut object)?;
    Ok(object)
}

/// Where a part of a record stands in it.
fn offset(record: &[u8], part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(record.as_ptr() as usize).min(record.len())
}

/// The time and the space that an export of CloudWatch Logs puts before each message; `#` is a digit.
pub(crate) const EXPORT_PREFIX: &[u8] = b"####-##-##T##:##:##.###Z ";

/// The length of that prefix; 0 where there is none.
pub(crate) fn export_prefix(line: &[u8]) -> usize {
    if begins(line, EXPORT_PREFIX) { EXPORT_PREFIX.len() } else { 0 }
}

/// Whether a text begins with a shape, in which `#` is a digit.
pub(crate) fn begins(text: &[u8], shape: &[u8]) -> bool {
    text.len() >= shape.len()
        && shape.iter().zip(text).all(|(s, b)| if *s == b'#' { b.is_ascii_digit() } else { s == b })
}
