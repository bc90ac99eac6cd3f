//! Lines of somebody else that a record of a chain carries (`schemas/segment.md`).
//!
//! What it is: the record taken apart, and what its envelope gives the line's event: its place in the chain, and the
//! hash that the chain has of it. What it is not: it reads no line. In: bytes of a record. Out: [`Foreign`], and
//! columns.

use std::borrow::Cow;

use keytrail_model::key_operation::ForeignEnvelope;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::{AuditEvent, Column, Hash};

use crate::key_operation;
use crate::sequence::Position;

/// A record that carries a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreign<'a> {
    /// What the chain says of it: a JSON object.
    pub envelope: &'a str,
    /// The line, byte for byte.
    pub line: &'a [u8],
}

/// Takes a record apart; `None`: it carries no line.
pub fn foreign(record: &[u8]) -> Option<Foreign<'_>> {
    let (envelope, line) = split(record)?;
    parse(envelope).map(|_| Foreign { envelope, line })
}

/// Where a record of a chain says that it stands, whatever else is wrong with it.
pub(crate) fn position(record: &[u8]) -> Option<Position<'_>> {
    match split(record) {
        Some((envelope, _)) if parse(envelope).is_some() => {
            let mut position = key_operation::position(envelope)?;
            position.leaf = Some(leaf_hash(record));
            Some(position)
        }
        _ => key_operation::position(std::str::from_utf8(record).ok()?),
    }
}

/// The first line and the rest, where the first line may be an envelope.
fn split(record: &[u8]) -> Option<(&str, &[u8])> {
    if !record.starts_with(b"{\"v\":") {
        return None;
    }
    let end = memchr::memchr(b'\n', record)?;
    Some((std::str::from_utf8(&record[..end]).ok()?, &record[end + 1..]))
}

fn parse(envelope: &str) -> Option<ForeignEnvelope<'_>> {
    let parsed: ForeignEnvelope<'_> = serde_json::from_str(envelope).ok()?;
    (parsed.v.0 == key_operation::VERSION && parsed.phase.0 == "foreign").then_some(parsed)
}

/// The record that an envelope and a line were made from.
fn record(envelope: &str, line: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(envelope.len() + 1 + line.len());
    record.extend_from_slice(envelope.as_bytes());
    record.push(b'\n');
    record.extend_from_slice(line);
    record
}

/// Gives the line's event its place in the chain; the digest of the record, which tells it from every other one
/// that carries the same line.
pub(crate) fn place<'a>(event: &mut AuditEvent<'a>, envelope: &'a str, line: &[u8]) -> Option<Hash> {
    let parsed = parse(envelope)?;
    let record = record(envelope, line);
    event.text(Column::KeytrailLedgerEnvelope, envelope);
    event.int(Column::KeytrailLedgerEpoch, parsed.epoch.0);
    event.text(Column::KeytrailLedgerLeafHash, leaf_hash(&record).to_hex());
    event.text(Column::KeytrailLedgerPrev, Cow::from(parsed.prev));
    event.int(Column::KeytrailLedgerSeq, parsed.seq.0);
    let source = Cow::from(parsed.source);
    if event.get_text(Column::KeytrailScope).is_none() {
        // One chain is one device: what it says twice of one call can be judged.
        event.text(Column::KeytrailScope, source.clone());
    }
    event.text(Column::KeytrailLedgerSource, source);
    Some(Hash::of(&record))
}
