//! Columns derived again from the kept bytes, by this version's normalizers (INTEGRITY section 4).
//!
//! What is not in the original stays as the row has it: identity and place (frozen functions), provenance,
//! and what a container or a declaration said of the record. A record that this version refuses, one
//! without its original bytes, and one whose identity would come out another keep their columns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use keytrail_archive::StoredRow;
use keytrail_model::manifest::{Decision, ManifestKind};
use keytrail_model::row::{Provenance, text};
use keytrail_model::{Column, Day, Fatal, Partition, RowBuffer, Timestamp};
use keytrail_normalize::{Context, Declaration, Format, Origin, normalize_of};

use crate::readable::{Readable, SealedObject};
use crate::rewrite::{self, Changed, Rewriter, Sealer};
use crate::trail::Trail;

/// What to derive again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selected {
    /// `event.dataset`.
    pub dataset: String,
    /// Objects with events from this time on, microseconds since 1970.
    pub from: Option<i64>,
    /// Objects with events before this time.
    pub to: Option<i64>,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Renormalized {
    /// Objects that were replaced.
    pub objects: u64,
    /// Rows whose columns were derived again, by the normalizer that they had.
    pub rows: BTreeMap<String, u64>,
    /// Rows of older normalizers that kept their columns: withheld, refused, or of another identity.
    pub kept: u64,
    /// Why objects were left as they are.
    pub skipped: Vec<String>,
}

/// The objects in which a row is of another normalizer than this version has.
pub fn plan(readable: &Readable, selected: &Selected) -> Result<Vec<(Partition, SealedObject)>, Fatal> {
    let format = format(&selected.dataset)?;
    let wanted = |o: &&SealedObject| {
        o.rows.normalizers.iter().any(|n| n != format.normalizer())
            && selected.to.is_none_or(|to| o.rows.time_min.is_none_or(|min| min < to))
            && selected.from.is_none_or(|from| o.rows.time_max.is_none_or(|max| max >= from))
    };
    let partitions = readable.partitions.iter().filter(|(p, _)| p.dataset == selected.dataset);
    Ok(partitions
        .flat_map(|(p, objects)| objects.iter().filter(wanted).map(|o| (p.clone(), o.clone())))
        .collect())
}

/// Derives the columns of all [planned](plan) objects again; gives the size of the log before. What is
/// damaged is left alone and named; a `stop` ends it between two objects.
pub fn renormalize(
    trail: &Trail<'_>,
    selected: &Selected,
    threads: usize,
    stop: &AtomicBool,
) -> Result<(u64, Renormalized), Fatal> {
    let format = format(&selected.dataset)?;
    rewrite::upon(trail, |readable| {
        let first_leaf = readable.size;
        let (rewriter, mut sealer) = (Rewriter::new(trail, threads), Sealer::new(trail));
        let mut done = Renormalized::default();
        for (partition, object) in plan(readable, selected)? {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let older: Vec<&str> = object.rows.normalizers.iter().map(String::as_str).collect();
            let decision = Decision {
                before: None,
                dataset: None,
                reason: format!("{} to {}", older.join(", "), format.normalizer()),
                uids: Vec::new(),
                undated: false,
            };
            let mut again = Again {
                trail,
                format,
                day: partition.day,
                rows: RowBuffer::new(),
                derived: BTreeMap::new(),
                kept: 0,
            };
            let change = &mut |row: &StoredRow<'_>, columns: &mut Vec<u8>| Ok(again.derive(row, columns));
            match rewriter.change(&partition, &object, ManifestKind::Renormalize, decision, change) {
                Ok(None) => done.kept += again.kept,
                Ok(Some(manifest)) => {
                    done.objects += 1;
                    done.kept += again.kept;
                    again
                        .derived
                        .into_iter()
                        .for_each(|(by, rows)| *done.rows.entry(by).or_default() += rows);
                    sealer.add(readable, manifest)?;
                }
                Err(e) if rewrite::is_damage(&e) => done.skipped.push(e.message),
                Err(e) => return Err(e),
            }
        }
        sealer.finish(readable)?;
        Ok((first_leaf, done))
    })
}

/// Derives columns of one object again.
struct Again<'a> {
    trail: &'a Trail<'a>,
    format: Format,
    day: Day,
    rows: RowBuffer,
    /// Rows so far, by the normalizer that they had.
    derived: BTreeMap<String, u64>,
    kept: u64,
}

impl Again<'_> {
    fn derive(&mut self, row: &StoredRow<'_>, columns: &mut Vec<u8>) -> Changed {
        let version = text(row.columns, Column::KeytrailNormalizer).unwrap_or_default();
        if version == self.format.normalizer() {
            return Changed::Nothing;
        }
        let Some(time) = row.original.and_then(|original| self.normalized(row, original)) else {
            self.kept += 1;
            return Changed::Nothing;
        };
        columns.extend_from_slice(self.rows.row(0).columns);
        *self.derived.entry(version.to_owned()).or_default() += 1;
        Changed::Columns(time)
    }

    /// Leaves the derived row in `rows`; gives its time.
    fn normalized(&mut self, row: &StoredRow<'_>, original: &[u8]) -> Option<Option<Timestamp>> {
        self.rows.clear();
        // It was received long ago; whether its time is too far ahead was decided then.
        let declared = Declaration::of_row(self.format, row.columns);
        let ctx = Context { now: Timestamp(i64::MAX), masker: self.trail.masker, declared };
        let origin = Origin::of_row(self.format, row.columns);
        let from = Provenance { input: 0, offset: 0 };
        normalize_of(self.format, original, &origin, from, &ctx, &mut self.rows).ok()?;
        let head = self.rows.row(0).head;
        // Without a producer's key the uid depends on the input that the record came in.
        let same = head.keyless || (head.uid, Some(head.group)) == (row.uid, row.group);
        (same && head.day == self.day && Some(head.hash) == row.hash).then_some(head.time)
    }
}

fn format(dataset: &str) -> Result<Format, Fatal> {
    Format::ALL.into_iter().find(|f| f.dataset() == dataset).ok_or_else(|| {
        let known = Format::ALL.map(Format::dataset).join(", ");
        Fatal::new(
            "Usage.Dataset",
            format!("`{dataset}` is no dataset of this version, expected one of {known}"),
        )
    })
}
