//! Where a record stands in what its producer numbers: key-operation events by source, epoch and seq, the
//! audit log of CloudHSM by HSM, reboot counter and sequence. What is missing between two of them was
//! dropped (`GAP`).
//!
//! What it is: the position that a row or a refused record claims. What it is not: it judges nothing.
//! In: a row's columns, or the bytes of a quarantine entry. Out: [`Position`]s.

use std::borrow::Cow;

use keytrail_model::row::{Encoded, columns, text};
use keytrail_model::{Column, Hash};

use crate::containers::{self, Origin};
use crate::{Format, chained, cloudhsm};

/// A place in a sequence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position<'a> {
    /// What kind of record it is.
    pub format: Format,
    /// Within what the numbers run: the chain's source, or the HSM's id.
    pub source: Cow<'a, str>,
    /// The epoch, or the reboot counter: the sequence begins anew with it.
    pub epoch: i64,
    /// The number.
    pub seq: i64,
    /// Hash of the record before, where the records are chained; else empty.
    pub prev: Cow<'a, str>,
    /// Its own hash in the chain, where that is not the one of its bytes alone.
    pub leaf: Option<Hash>,
}

impl Format {
    /// Whether its producer numbers its records without a hole.
    pub const fn is_numbered(self) -> bool {
        matches!(self, Self::CloudHsm | Self::KeyOperation)
    }
}

/// Whether a row's record is one of a chain, or a line that one carries.
pub fn is_chained(row: &[u8]) -> bool {
    text(row, Column::KeytrailLedgerSource).is_some()
}

impl<'a> Position<'a> {
    /// The columns that tell it.
    pub const COLUMNS: [Column; 8] = [
        Column::EventSequence,
        Column::KeytrailHsmId,
        Column::KeytrailHsmRebootCounter,
        Column::KeytrailLedgerEpoch,
        Column::KeytrailLedgerLeafHash,
        Column::KeytrailLedgerPrev,
        Column::KeytrailLedgerSeq,
        Column::KeytrailLedgerSource,
    ];

    /// That of a row; `None` where it is not numbered, or its HSM is not known. A line that a chain carries has its
    /// place in the chain, whatever its own format.
    pub fn of_row(format: Format, row: &'a [u8]) -> Option<Self> {
        let format = if is_chained(row) { Format::KeyOperation } else { format };
        let (of_source, of_epoch, of_seq) = match format {
            Format::CloudHsm => {
                (Column::KeytrailHsmId, Column::KeytrailHsmRebootCounter, Column::EventSequence)
            }
            Format::KeyOperation => {
                (Column::KeytrailLedgerSource, Column::KeytrailLedgerEpoch, Column::KeytrailLedgerSeq)
            }
            _ => return None,
        };
        let (mut source, mut epoch, mut seq, mut prev, mut leaf) = (None, None, None, "", None);
        for (column, value) in columns(row) {
            match value {
                Encoded::Text(t) if column == of_source => source = Some(t),
                Encoded::Text(t) if column == Column::KeytrailLedgerPrev => prev = t,
                Encoded::Text(t) if column == Column::KeytrailLedgerLeafHash => leaf = Hash::from_hex(t),
                Encoded::Int(n) if column == of_epoch => epoch = Some(n),
                Encoded::Int(n) if column == of_seq => seq = Some(n),
                _ => {}
            }
        }
        Some(Self { format, source: source?.into(), epoch: epoch?, seq: seq?, prev: prev.into(), leaf })
    }
}

/// Positions that refused records claim: they are there, whatever else is wrong with them. `hsm` is the id
/// that was declared for their source; what a container says goes before it.
pub fn of_refused(refused: &[u8], hsm: Option<&str>, each: &mut dyn FnMut(Position<'_>)) {
    if let Some(position) = chained::position(refused) {
        each(position);
        return;
    }
    let opened = containers::open(refused, &mut |carried| {
        if let Some(position) = claimed(carried.record, carried.origin, hsm) {
            each(position);
        }
    });
    if opened.is_none()
        && let Some(position) = claimed(refused, &Origin::default(), hsm)
    {
        each(position);
    }
}

fn claimed<'a>(record: &'a [u8], origin: &'a Origin<'_>, hsm: Option<&'a str>) -> Option<Position<'a>> {
    match Format::recognise(record)? {
        format @ Format::CloudHsm => {
            let source = cloudhsm::hsm_of(origin).or(hsm)?;
            let (epoch, seq) = cloudhsm::numbers(std::str::from_utf8(record).ok()?)?;
            Some(Position { format, source: source.into(), epoch, seq, prev: "".into(), leaf: None })
        }
        Format::KeyOperation => chained::position(record),
        _ => None,
    }
}
