//! Records that another service carries: peels containers off, one layer at a time.
//!
//! What it is: a frame to the records in it. Layers, in any order and up to [`MAX_LAYERS`] of them:
//! subscription records of CloudWatch Logs (`logEvents[].message`), lines of their exports to S3 (a time,
//! a space, the message), EventBridge envelopes (`detail`), records of Kinesis and of CloudWatch Logs as
//! Lambda functions get them (`kinesis.data`, `awslogs.data`), and diagnostic logs of AKS
//! (`properties.log`). What a layer holds is cut like an input of its own. What it is not: it reads no record, and LookupEvents' answers, which tell of the one event
//! in them, are CloudTrail's matter. In: a frame. Out: [`Carried`] records, and what the container said.
//!
//! A record is the exact slice of the frame where its container holds it as JSON, or the unescaped string
//! where it holds it as one, or what its base64 and gzip give. What a layer says beside its records is kept
//! nowhere but in [`Origin`]. Time and memory are those of the frame for each layer, since a string is
//! never longer unescaped, and of [`MAX_DECODED_BYTES`] that a frame may give decoded, all layers together.
//!
//! Sources: "Log group-level subscription filters" and "Exporting log data to Amazon S3" of the Amazon
//! CloudWatch Logs user guide; "Events structure reference" of the Amazon EventBridge user guide; "Using Lambda
//! with Kinesis Data Streams" and "with CloudWatch Logs" of the AWS Lambda developer guide; "Monitoring data
//! reference" of Azure Kubernetes Service.

use std::borrow::Cow;
use std::io::Read as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use keytrail_model::row::text;
use keytrail_model::{Column, Reject, Rejection};
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

/// What base64 and gzip in one frame may give. CloudWatch Logs and Kinesis carry some megabytes.
pub const MAX_DECODED_BYTES: usize = 64 << 20;

/// What a container says of the records in it; empty where it says nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Origin<'a> {
    /// Account that owns the log group.
    pub account: Cow<'a, str>,
    /// Log group of CloudWatch Logs.
    pub log_group: Cow<'a, str>,
    /// Log stream of CloudWatch Logs.
    pub log_stream: Cow<'a, str>,
    /// What a chain says of the line that its record carries ([`crate::chained`]).
    pub envelope: Cow<'a, str>,
}

impl<'a> Origin<'a> {
    /// What the container of a row's record said of it, as far as the row's columns depend on it.
    pub fn of_row(format: Format, columns: &'a [u8]) -> Self {
        let origin = match format {
            Format::CloudHsm => cloudhsm::origin(columns),
            _ => Self::default(),
        };
        let envelope = text(columns, Column::KeytrailLedgerEnvelope).unwrap_or_default();
        Self { envelope: envelope.into(), ..origin }
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
    let mut peeling = Peeling { sink, controls: 0, room: MAX_DECODED_BYTES };
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
    /// Bytes that may still be decoded.
    room: usize,
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
            Layer::Kinesis(text) => {
                parse(text).and_then(|r: Kinesis<'_>| self.encoded("kinesis", r.kinesis, part))
            }
            Layer::LogsEvent(text) => {
                parse(text).and_then(|r: LogsEvent<'_>| self.encoded("awslogs", r.awslogs, part))
            }
            Layer::Diagnostic(text) => self.diagnostic(text, part),
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

    /// `data` in base64 inside of the object `name`, gzip or not.
    fn encoded(&mut self, name: &str, object: Open<'_>, part: &Part<'_>) -> Result<(), Rejection> {
        let object: Encoded<'_> = parse(object_of(name, object)?)?;
        let data = present("data", object.data)?;
        let wrong = || Rejection::new(Reject::FieldType, format!("expected base64 in `{name}.data`"));
        let text = string(data)?;
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| wrong())?;
        let bytes = if bytes.starts_with(&[0x1f, 0x8b]) { self.inflated(&bytes)? } else { bytes };
        let room = self.room.checked_sub(bytes.len());
        // Where one was too large, no other is tried: each would take as long.
        self.room = room.unwrap_or(0);
        if room.is_none() {
            return Err(no_room());
        }
        let at = if part.layer == 0 { part.at + offset(part.record, data) } else { part.at };
        self.cut("`data`", &Part { record: &bytes, at, ..*part });
        Ok(())
    }

    fn inflated(&self, bytes: &[u8]) -> Result<Vec<u8>, Rejection> {
        let mut inflated = Vec::new();
        // More than there is room for shows where it is taken.
        let mut decoder = MultiGzDecoder::new(bytes).take(self.room as u64 + 1);
        decoder.read_to_end(&mut inflated).map_err(|e| {
            Rejection::new(Reject::CompressionBroken, format!("compressed data cannot be read: {e}"))
        })?;
        Ok(inflated)
    }

    /// A diagnostic log of AKS.
    fn diagnostic(&mut self, text: &str, part: &Part<'_>) -> Result<(), Rejection> {
        let record: Diagnostic<'_> = parse(text)?;
        let properties: Properties<'_> = parse(object_of("properties", record.properties)?)?;
        let log = present("log", properties.log)?;
        let event = string(log)?;
        let at = if part.layer == 0 { part.at + offset(part.record, log) } else { part.at };
        self.cut("`log`", &Part { record: event.as_bytes(), at, ..*part });
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
            envelope: "".into(),
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
    /// A record of Kinesis in a Lambda event.
    Kinesis(&'a str),
    /// A Lambda event of CloudWatch Logs.
    LogsEvent(&'a str),
    /// A diagnostic log of AKS.
    Diagnostic(&'a str),
}

/// What the text of every container that is an object has somewhere.
const MARKS: [&[u8]; 5] =
    [b"\"logEvents\"", b"\"detail-type\"", b"\"aws:kinesis\"", b"\"awslogs\"", b"\"kube-audit"];

/// The container that a record is. Known by the keys of its outermost object, so that the same text
/// inside a record makes it none.
fn layer_of(record: &[u8]) -> Option<Layer<'_>> {
    let prefix = export_prefix(record);
    if prefix > 0 {
        return Some(Layer::Export(prefix));
    }
    if record.first() != Some(&b'{') || !MARKS.iter().any(|mark| memmem::find(record, mark).is_some()) {
        return None;
    }
    let text = std::str::from_utf8(record).ok()?;
    let (mut keys, mut foreign) = (0, false);
    walk::top_keys(text, |key, value| {
        let is = |text: &str| value.trim_ascii_start().starts_with(text);
        keys |= match key {
            "messageType" => 1,
            "logEvents" => 2,
            "detail-type" => 4,
            "detail" => 8,
            "kinesis" => 16,
            "eventSource" if is("\"aws:kinesis\"") => 32,
            "awslogs" => 64,
            "category" if is("\"kube-audit\"") || is("\"kube-audit-admin\"") => 128,
            "properties" => 256,
            // A record of a source, whatever else it has.
            "eventVersion" | "eventName" | "type" | "kind" | "prev" => {
                foreign = true;
                0
            }
            _ => 0,
        };
        true
    });
    match keys {
        // A record of Kinesis has the version and the name of an event, too.
        48 => Some(Layer::Kinesis(text)),
        _ if foreign => None,
        3 => Some(Layer::Subscription(text)),
        12 => Some(Layer::Envelope(text)),
        64 => Some(Layer::LogsEvent(text)),
        384 => Some(Layer::Diagnostic(text)),
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

fields! {
    struct Kinesis<'a> {
        #[serde(borrow)]
        kinesis: Open<'a> = "kinesis",
    }
}

fields! {
    struct LogsEvent<'a> {
        #[serde(borrow)]
        awslogs: Open<'a> = "awslogs",
    }
}

fields! {
    struct Encoded<'a> {
        #[serde(borrow)]
        data: Open<'a> = "data",
    }
}

fields! {
    struct Diagnostic<'a> {
        #[serde(borrow)]
        properties: Open<'a> = "properties",
    }
}

fields! {
    struct Properties<'a> {
        #[serde(borrow)]
        log: Open<'a> = "log",
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

fn no_room() -> Rejection {
    let why = format!("the containers of one frame hold more than {MAX_DECODED_BYTES} bytes");
    Rejection::new(Reject::InflatedTooLarge, why)
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

/// The JSON of an object.
fn object_of<'a>(name: &str, value: Open<'a>) -> Result<&'a str, Rejection> {
    let json = present(name, value)?;
    if json.starts_with('{') {
        return Ok(json);
    }
    Err(Rejection::new(Reject::FieldType, format!("`{name}` has the wrong type, expected an object")))
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
