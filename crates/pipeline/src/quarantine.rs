//! Quarantine: records that were judged bad, with code, place, reason and their bytes.
//!
//! An entry is one object, `quarantine/<sha256 of code, a line feed and the bytes>`: a line of JSON,
//! a line feed, then the bytes verbatim. The name follows from what was rejected, so a replay adds
//! nothing; the first place that it was seen in is kept. Entries are durable before their input counts
//! as read, and the next seal names them.

use std::sync::Arc;

use keytrail_model::manifest::QuarantineItem;
use keytrail_model::{Fatal, Hash, Reject, Rejection, Timestamp};
use keytrail_normalize::Format;
use keytrail_ports::{BlobStore, Put};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::{DeclaredSource, claim};
use crate::input::Input;
use crate::tally::UNKNOWN;

/// What stands in an entry's first line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Number of bytes that follow.
    pub bytes: u64,
    /// Code of the rejection.
    pub code: String,
    /// Input object that the record was first seen in.
    pub input: String,
    /// Which device, HSM or cluster its source was declared to be.
    pub instance: Option<String>,
    /// Offset in the inflated object.
    pub offset: u64,
    /// What was expected and where.
    pub reason: String,
    /// When it was first seen, microseconds since 1970.
    pub received: i64,
    /// The source that it was counted for: declared, else the format that it was taken for, or `unknown`.
    pub source: String,
    /// Format of the entry: 1.
    pub version: u32,
}

/// A quarantine entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// `quarantine/<64 hex digits>`.
    pub key: String,
    /// Its first line.
    pub header: Header,
    /// The rejected bytes.
    pub original: Vec<u8>,
}

impl Entry {
    /// The id: the last part of the key.
    pub fn id(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }

    /// Reads a stored entry and checks that its name is that of its content.
    pub fn parse(key: &str, stored: &[u8]) -> Result<Self, String> {
        let end = memchr::memchr(b'\n', stored).ok_or("the entry has no header line")?;
        let header: Header =
            serde_json::from_slice(&stored[..end]).map_err(|e| format!("the entry's header: {e}"))?;
        let original = stored[end + 1..].to_vec();
        if header.bytes != original.len() as u64 {
            return Err(format!("the header says {} bytes, there are {}", header.bytes, original.len()));
        }
        if key != key_of(&header.code, &original) {
            return Err("the name is not the hash of code and bytes".into());
        }
        Ok(Self { key: key.to_owned(), header, original })
    }
}

/// Where a refused record was found.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The source that it is counted for.
    pub source: &'a str,
    /// What that is declared to be.
    pub instance: Option<&'a str>,
    /// Its input.
    pub input: &'a str,
    /// Offset in the inflated input.
    pub offset: u64,
}

/// `quarantine/<sha256>` of a rejection.
pub fn key_of(code: &str, original: &[u8]) -> String {
    let mut h = Sha256::new();
    h.update(code);
    h.update(b"\n");
    h.update(original);
    format!("quarantine/{}", Hash(h.finalize().into()))
}

/// Puts an entry, durable on return. A rejection that is there already keeps its first entry.
pub fn put(
    store: &dyn BlobStore,
    rejection: &Rejection,
    from: Place<'_>,
    received: Timestamp,
    original: &[u8],
) -> Result<QuarantineItem, Fatal> {
    let key = key_of(rejection.code.code(), original);
    let header = Header {
        bytes: original.len() as u64,
        code: rejection.code.code().into(),
        input: from.input.into(),
        instance: from.instance.map(str::to_owned),
        offset: from.offset,
        reason: rejection.reason.clone(),
        received: received.0,
        source: from.source.into(),
        version: 1,
    };
    // A struct of strings and numbers always serialises.
    let mut entry = serde_json::to_vec(&header).unwrap_or_default();
    entry.push(b'\n');
    entry.extend_from_slice(original);
    let sha256 = match store.put_if_absent(&key, &entry)? {
        Put::Created => Hash::of(&entry),
        Put::Exists => {
            let stored = store.get(&key)?.ok_or_else(|| {
                Fatal::new("Fatal.ObjectConflict", format!("`{key}` was there and is gone"))
            })?;
            Entry::parse(&key, &stored)
                .map_err(|e| Fatal::new("Fatal.ObjectConflict", format!("`{key}`: {e}")))?;
            Hash::of(&stored)
        }
    };
    Ok(QuarantineItem { key, sha256 })
}

/// Takes the key of an entry, and the entry or why it cannot be read.
pub type EachEntry<'a> = dyn FnMut(&str, Result<Entry, String>) -> Result<(), Fatal> + 'a;

/// All entries, ascending by id; `each` gets an error text for one that cannot be read.
pub fn entries(store: &dyn BlobStore, each: &mut EachEntry<'_>) -> Result<(), Fatal> {
    for key in store.list("quarantine/")? {
        let entry = match store.get(&key)? {
            Some(stored) => Entry::parse(&key, &stored),
            None => Err("the entry is gone".into()),
        };
        each(&key, entry)?;
    }
    Ok(())
}

/// How far an entry is read for its header.
const HEADER_BYTES: u64 = 64 << 10;

/// The header of an entry, without its bytes.
pub fn header(store: &dyn BlobStore, key: &str) -> Result<Header, Fatal> {
    let damaged = |e: String| Fatal::new("Fatal.ObjectConflict", format!("`{key}`: {e}"));
    let stored = store.open(key)?.ok_or_else(|| damaged("the entry is gone".into()))?;
    let mut first = vec![0; stored.len().min(HEADER_BYTES) as usize];
    stored.read_at(0, &mut first)?;
    let end = memchr::memchr(b'\n', &first).ok_or_else(|| damaged("the entry has no header line".into()))?;
    serde_json::from_slice(&first[..end]).map_err(|e| damaged(format!("the entry's header: {e}")))
}

/// An entry as an input, to try it again: of the source that it came from, if that is declared under the
/// name that it had, or in whose locations its file lies now. One that no source declares any more is
/// tried as undeclared.
///
/// # Errors
/// `Config.Source`: it is of a declared source, and none is declared at all.
pub fn input(store: &dyn BlobStore, key: &str, sources: &[Arc<DeclaredSource>]) -> Result<Input, Fatal> {
    let mut input = Input::quarantine(key);
    // What cannot be read is told when its turn comes.
    let Ok(header) = header(store, key) else { return Ok(input) };
    if header.source == UNKNOWN || Format::by_name(&header.source).is_some() {
        return Ok(input);
    }
    if sources.is_empty() {
        let source = &header.source;
        return Err(Fatal::new(
            "Config.Source",
            format!(
                "`{key}` is of the declared source `{source}`, and no source is declared: give --config FILE"
            ),
        ));
    }
    input.declared = sources.iter().find(|s| s.name == header.source).cloned();
    if input.declared.is_none() {
        let mut file = [Input::path(&header.input)];
        claim(&mut file, sources)?;
        let [file] = file;
        input.declared = file.declared;
    }
    Ok(input)
}

/// The entry of that key.
pub fn get(store: &dyn BlobStore, key: &str) -> Result<Entry, Fatal> {
    let damaged = |e: String| Fatal::new("Fatal.ObjectConflict", format!("`{key}`: {e}"));
    let stored = store.get(key)?.ok_or_else(|| damaged("the entry is gone".into()))?;
    Entry::parse(key, &stored).map_err(damaged)
}

/// The entry whose id starts with `prefix`, if there is exactly one.
pub fn find(store: &dyn BlobStore, prefix: &str) -> Result<Entry, Fatal> {
    let wanted = format!("quarantine/{prefix}");
    let keys = store.list(&wanted)?;
    match keys.as_slice() {
        [key] => get(store, key),
        [] => Err(Fatal::new("Usage.NotFound", format!("no quarantine entry `{prefix}`"))),
        many => Err(Fatal::new(
            "Usage.NotFound",
            format!("{} quarantine entries start with `{prefix}`, give more digits", many.len()),
        )),
    }
}

/// What a code means, for people.
pub fn explain(code: &str) -> &'static str {
    Reject::by_code(code).map_or("a code of another version", Reject::doc)
}
