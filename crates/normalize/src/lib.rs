//! Bytes of a record to an audit event: framing, containers, detection, and a module for each source.
//!
//! What it is: pure functions from bytes to [`keytrail_model::Row`]s or a [`Rejection`].
//! What it is not: it opens no file, reads no clock, knows nothing of Parquet.
//! In: inflated bytes of an input object. Out: rows in a [`RowBuffer`].

mod address;
mod category;
pub mod chained;
pub mod cloudhsm;
pub mod cloudtrail;
pub mod containers;
pub mod framing;
pub mod gcp;
pub mod key_operation;
pub mod keyvault;
pub mod kubernetes;
mod lists;
pub mod mask;
mod object;
mod reader;
pub mod sequence;
mod value;
pub mod vault;
mod walk;

use keytrail_model::json::{self, MAX_DEPTH, ScanError};
use keytrail_model::merkle::leaf_hash;
use keytrail_model::row::{Content, Encoded, Provenance, text};
use keytrail_model::{AuditEvent, Column, Reject, Rejection, RowBuffer, SCHEMA_VERSION, Timestamp};
use serde::Deserialize;

pub use containers::Origin;
pub use mask::Masker;

/// A source's format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Format {
    /// AWS CloudHSM audit log, as blocks of text.
    CloudHsm,
    /// AWS CloudTrail events, as log files, lines or LookupEvents answers.
    CloudTrail,
    /// Cloud Audit Logs of Google Cloud.
    Gcp,
    /// Key operation events v1 of the HSM-fronting service.
    KeyOperation,
    /// Audit records of Azure Key Vault and Managed HSM.
    KeyVault,
    /// Audit events of Kubernetes API servers.
    Kubernetes,
    /// Audit device output of HashiCorp Vault and OpenBao.
    Vault,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 7] = [
        Self::CloudHsm,
        Self::CloudTrail,
        Self::Gcp,
        Self::KeyOperation,
        Self::KeyVault,
        Self::Kubernetes,
        Self::Vault,
    ];

    /// The name of `--source` and of `keytrail_source`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CloudHsm => "cloudhsm",
            Self::CloudTrail => "cloudtrail",
            Self::Gcp => "gcp",
            Self::KeyOperation => "key-operation",
            Self::KeyVault => "keyvault",
            Self::Kubernetes => "kubernetes",
            Self::Vault => "vault",
        }
    }

    /// The dataset that its events belong to.
    pub const fn dataset(self) -> &'static str {
        match self {
            Self::CloudHsm => cloudhsm::DATASET,
            Self::CloudTrail => cloudtrail::DATASET,
            Self::Gcp => gcp::DATASET,
            Self::KeyOperation => key_operation::DATASET,
            Self::KeyVault => keyvault::DATASET,
            Self::Kubernetes => kubernetes::DATASET,
            Self::Vault => vault::DATASET,
        }
    }

    /// The normalizer that makes them and its version, as in `keytrail_normalizer`.
    pub const fn normalizer(self) -> &'static str {
        match self {
            Self::CloudHsm => cloudhsm::NORMALIZER,
            Self::CloudTrail => cloudtrail::NORMALIZER,
            Self::Gcp => gcp::NORMALIZER,
            Self::KeyOperation => key_operation::NORMALIZER,
            Self::KeyVault => keyvault::NORMALIZER,
            Self::Kubernetes => kubernetes::NORMALIZER,
            Self::Vault => vault::NORMALIZER,
        }
    }

    /// Whether its records do not say which device, HSM or cluster of several they are of: a declared
    /// instance does, and is no part of their key group.
    pub const fn has_instances(self) -> bool {
        matches!(self, Self::CloudHsm | Self::Kubernetes | Self::Vault)
    }

    /// The format of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }

    /// What the bytes of a framed record say, with or without a prefix before its `{`.
    pub fn recognise(frame: &[u8]) -> Option<Self> {
        if cloudhsm::recognises(frame) {
            return Some(Self::CloudHsm);
        }
        let start = memchr::memchr(b'{', frame)?;
        Self::detect(std::str::from_utf8(&frame[start..]).ok()?)
    }

    /// What the content of one record says; `None` when no module claims it.
    pub fn detect(record: &str) -> Option<Self> {
        if cloudtrail::recognises(record) {
            Some(Self::CloudTrail)
        } else if key_operation::recognises(record) {
            Some(Self::KeyOperation)
        } else if vault::recognises(record) {
            Some(Self::Vault)
        } else if kubernetes::recognises(record) {
            Some(Self::Kubernetes)
        } else if gcp::recognises(record) {
            Some(Self::Gcp)
        } else if keyvault::recognises(record) {
            Some(Self::KeyVault)
        } else if cloudhsm::recognises(record.as_bytes()) {
            Some(Self::CloudHsm)
        } else {
            None
        }
    }
}

/// What a normalizer may know beside the record.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// When the record was received.
    pub now: Timestamp,
    /// Hides secrets and personal data from typed columns.
    pub masker: &'a Masker,
    /// What is declared of the source that the record came from; `None`: no source declares it.
    pub declared: Option<Declaration<'a>>,
}

/// What a configuration says of a source's records (ARCHITECTURE rule 7). Nothing of it is in a uid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Declaration<'a> {
    /// Its name, `keytrail.source`.
    pub source: &'a str,
    /// Which audit device, HSM or cluster it is, where the records do not say it: the scope in which they
    /// are judged for conflicts.
    pub instance: Option<&'a str>,
    /// Accounts that they may be of; any where none is named.
    pub accounts: &'a [String],
}

impl<'a> Declaration<'a> {
    /// What was declared of a row's record, as far as the row's columns depend on it.
    pub fn of_row(format: Format, columns: &'a [u8]) -> Option<Self> {
        let undeclared = keytrail_model::row::columns(columns)
            .any(|c| c == (Column::KeytrailUndeclared, Encoded::Bool(true)));
        (!undeclared).then(|| Self {
            source: text(columns, Column::KeytrailSource).unwrap_or_default(),
            instance: text(columns, Column::KeytrailScope).filter(|_| format.has_instances()),
            accounts: &[],
        })
    }

    /// Marks the event as the source's, unless it says itself that it is another's.
    fn apply(&self, event: &mut AuditEvent<'a>, format: Format) -> Result<(), Rejection> {
        let mismatch = |what: String| Err(Rejection::new(Reject::SourceMismatch, what));
        let source = self.source;
        if let Some(account) = event.get_text(Column::CloudAccountId)
            && !self.accounts.is_empty()
            // Azure writes the same subscription in capital letters and in small ones.
            && !self.accounts.iter().any(|a| a.eq_ignore_ascii_case(account))
        {
            return mismatch(format!("expected a record of an account that the source `{source}` declares"));
        }
        if let Some(instance) = self.instance {
            if format == Format::CloudHsm {
                if event.get_text(Column::KeytrailHsmId).is_some_and(|id| id != instance) {
                    return mismatch(format!(
                        "expected a record of `{instance}`, the HSM of the source `{source}`"
                    ));
                }
                event.text(Column::KeytrailHsmId, instance);
            }
            event.text(Column::KeytrailScope, instance);
        }
        event.text(Column::KeytrailSource, source);
        event.flag(Column::KeytrailUndeclared, false);
        Ok(())
    }
}

/// Event times may be ahead of receipt by clock skew, never by more than this: 24 hours in microseconds.
const MAX_AHEAD_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// Normalizes one framed record and appends it to `rows`, or says why not.
///
/// `frame` is the record's exact bytes. Of JSON records, bytes before the first `{` (a line prefix, as Vault's devices
/// write one on request) are kept in `event_original` and mean nothing else.
pub fn normalize(
    format: Format,
    frame: &[u8],
    from: Provenance,
    ctx: &Context<'_>,
    rows: &mut RowBuffer,
) -> Result<(), Rejection> {
    normalize_of(format, frame, &Origin::default(), from, ctx, rows)
}

/// [`normalize`] for a record from a container, with what that says of it.
pub fn normalize_of(
    format: Format,
    frame: &[u8],
    origin: &Origin<'_>,
    from: Provenance,
    ctx: &Context<'_>,
    rows: &mut RowBuffer,
) -> Result<(), Rejection> {
    let start = match format {
        Format::CloudHsm => 0,
        _ => memchr::memchr(b'{', frame).ok_or_else(no_object)?,
    };
    let text = utf8(&frame[start..])?;
    let (event, content) = match format {
        Format::CloudHsm => (cloudhsm::normalize(text, origin, ctx)?, Content::AsIs),
        Format::CloudTrail => {
            let mut record = Default::default();
            let content = match cloudtrail::read(text, &mut record) {
                Some(content) => content,
                None => {
                    let json = checked(text)?;
                    if origin.envelope.is_empty()
                        && let Some(inner) = cloudtrail::unwrap_lookup(json.text)?
                    {
                        return lookup(&inner, from, ctx, rows);
                    }
                    record = cloudtrail::parse(json.text)?;
                    json.content
                }
            };
            (cloudtrail::normalize(&record, ctx)?, content)
        }
        Format::KeyOperation => {
            let json = checked(text)?;
            (key_operation::normalize(json.text, ctx)?, json.content)
        }
        Format::Gcp => {
            let mut record = Default::default();
            let content = read(text, &mut record)?;
            (gcp::normalize(&record, ctx)?, content)
        }
        Format::KeyVault => {
            let mut record = Default::default();
            let content = read(text, &mut record)?;
            (keyvault::normalize(&record, ctx)?, content)
        }
        Format::Kubernetes => {
            let mut record = Default::default();
            let content = read(text, &mut record)?;
            (kubernetes::normalize(&record, ctx)?, content)
        }
        Format::Vault => {
            let json = checked(text)?;
            (vault::normalize(json.text, ctx)?, json.content)
        }
    };
    // A line with a prefix is no JSON text: its content is its bytes.
    let mut content = if start == 0 { content } else { Content::AsIs };
    let mut event = completed(event, format, ctx)?;
    if !origin.envelope.is_empty() {
        let record = chained::place(&mut event, &origin.envelope, frame).ok_or_else(|| {
            Rejection::new(Reject::FieldType, "expected the envelope of a foreign record around the line")
        })?;
        content = Content::PartOf(record);
    } else if format == Format::KeyOperation {
        event.text(Column::KeytrailLedgerLeafHash, leaf_hash(frame).to_hex());
    }
    rows.push(&event, frame, content, from);
    Ok(())
}

/// Reads a record that is in order into a default, else one that was checked and is refused by the field
/// that is not. Says how its content is spaced.
fn read<'a, T: reader::Read<'a> + Deserialize<'a>>(
    text: &'a str,
    into: &mut T,
) -> Result<Content, Rejection> {
    if let Some(content) = reader::read(text, into) {
        return Ok(content);
    }
    let json = checked(text)?;
    *into = value::read(json.text)?;
    Ok(json.content)
}

/// Normalizes the event inside an answer of the LookupEvents API.
fn lookup(inner: &str, from: Provenance, ctx: &Context<'_>, rows: &mut RowBuffer) -> Result<(), Rejection> {
    let mut record = Default::default();
    let content = match cloudtrail::read(inner, &mut record) {
        Some(content) => content,
        None => {
            let json = checked(inner)?;
            record = cloudtrail::parse(json.text)?;
            json.content
        }
    };
    let event = completed(cloudtrail::normalize(&record, ctx)?, Format::CloudTrail, ctx)?;
    rows.push(&event, inner.as_bytes(), content, from);
    Ok(())
}

/// A record that is read where it stands: what reading it tells is where it ends.
pub struct Standing<'a> {
    record: cloudtrail::Record<'a>,
    text: &'a str,
    content: Content,
}

impl<'a> Standing<'a> {
    /// Reads the record that a text begins with: an object from `{` to `}`, in order. `None` leaves it to
    /// framing and to [`normalize_of`], which know all cases; so it does for formats other than CloudTrail.
    pub fn read(format: Format, text: &'a str) -> Option<Self> {
        if format != Format::CloudTrail {
            return None;
        }
        let mut standing = Self { record: Default::default(), text: "", content: Content::AsIs };
        let (len, content) = cloudtrail::read_first(text, &mut standing.record)?;
        (standing.text, standing.content) = (text.get(..len)?, content);
        Some(standing)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// As [`normalize`].
    pub fn normalize(
        &self,
        from: Provenance,
        ctx: &Context<'_>,
        rows: &mut RowBuffer,
    ) -> Result<(), Rejection> {
        let event = cloudtrail::normalize(&self.record, ctx)?;
        rows.push(&completed(event, Format::CloudTrail, ctx)?, self.bytes(), self.content, from);
        Ok(())
    }
}

/// What makes a record unfit for any source: neither a JSON object nor a block of an HSM, not UTF-8, too deep,
/// lone surrogates.
pub fn check(frame: &[u8]) -> Result<(), Rejection> {
    let neither = || {
        let why =
            "expected a JSON object, or lines with `Sequence No` and an `Opcode` that begins with `CN_`";
        Rejection::new(Reject::FormatUnknown, why)
    };
    let start = memchr::memchr(b'{', frame).ok_or_else(neither)?;
    checked(utf8(&frame[start..])?).map(|_| ())
}

/// An event with what no source says of itself.
fn completed<'a>(
    mut event: AuditEvent<'a>,
    format: Format,
    ctx: &Context<'a>,
) -> Result<AuditEvent<'a>, Rejection> {
    if let Some(time) = event.time
        && time.0 > ctx.now.0.saturating_add(MAX_AHEAD_MICROS)
    {
        return Err(Rejection::new(
            Reject::TimeFuture,
            "the event's time is more than 24 hours after its receipt",
        ));
    }
    match &ctx.declared {
        Some(declared) => declared.apply(&mut event, format)?,
        None => {
            event.text(Column::KeytrailSource, format.name());
            event.flag(Column::KeytrailUndeclared, true);
        }
    }
    event.int(Column::KeytrailSchema, SCHEMA_VERSION);
    Ok(event)
}

fn no_object() -> Rejection {
    Rejection::new(Reject::JsonBroken, "expected a JSON object, found no `{`")
}

fn utf8(bytes: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(bytes).map_err(|e| {
        Rejection::new(Reject::Utf8Invalid, format!("byte {} of the record is not UTF-8", e.valid_up_to()))
    })
}

struct Checked<'a> {
    text: &'a str,
    content: Content,
}

/// Refuses what no JSON reader should be shown: not one whole object, too deep, lone surrogates.
fn checked(text: &str) -> Result<Checked<'_>, Rejection> {
    let scan = json::scan(text.as_bytes()).map_err(|e| match e {
        ScanError::Unfinished => Rejection::new(Reject::JsonBroken, "the record ends inside a JSON value"),
        ScanError::Broken(at) => {
            Rejection::new(Reject::JsonBroken, format!("the record's JSON is broken at its byte {at}"))
        }
    })?;
    if !text[scan.len..].trim_ascii().is_empty() {
        return Err(Rejection::new(
            Reject::JsonBroken,
            format!("expected the end of the record at its byte {}", scan.len),
        ));
    }
    if scan.depth > MAX_DEPTH {
        return Err(Rejection::new(
            Reject::JsonTooDeep,
            format!("nesting of {} levels, at most {MAX_DEPTH} are read", scan.depth),
        ));
    }
    if let Some(at) = scan.lone_surrogate {
        return Err(Rejection::new(
            Reject::JsonLoneSurrogate,
            format!("byte {at} of the record is half of a surrogate pair"),
        ));
    }
    Ok(Checked {
        text: &text[..scan.len],
        content: if scan.compact { Content::AsIs } else { Content::Spaced },
    })
}

/// Maps a parser's error to a rejection: codes by what serde says, no value of the record in the reason.
pub(crate) fn json_rejection(error: &serde_json::Error) -> Rejection {
    let text = error.to_string();
    let code = if text.starts_with("duplicate field") {
        Reject::JsonDuplicateKey
    } else if text.starts_with("missing field") {
        Reject::FieldMissing
    } else if error.is_data() {
        Reject::FieldType
    } else {
        Reject::JsonBroken
    };
    // serde quotes the offending value (`invalid type: string "hunter2", expected ...`): keep what was
    // expected, not what was found.
    let reason = match (code, text.rfind(", expected ")) {
        (Reject::FieldType, Some(at)) => format!("a field has the wrong type{}", &text[at..]),
        _ => text,
    };
    Rejection::new(code, reason)
}
