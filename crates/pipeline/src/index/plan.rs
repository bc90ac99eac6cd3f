//! Which rows of the archive are sent, and what is done with them.
//!
//! What it is: the readable objects that hold rows of entries from the cursor on, those of a time, or those of some
//! events. What it is not: it reads no object. A compaction alone changes no row; what it was made of may not have been
//! indexed, and then its rows are.

use std::collections::BTreeSet;
use std::rc::Rc;

use keytrail_archive::{Selection, StoredRow};
use keytrail_index::Op;
use keytrail_model::manifest::ManifestKind;
use keytrail_model::{Timestamp, Uid};

use crate::readable::{Readable, SealedObject};

/// An object whose rows are sent.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The object.
    pub object: SealedObject,
    /// What is done with its rows.
    pub op: Op,
    /// Which of them.
    pub rows: Rows,
}

/// Rows of an object.
#[derive(Clone, Debug)]
pub enum Rows {
    /// All of them.
    All,
    /// Those with `from <= time < to`.
    Between(Timestamp, Timestamp),
    /// Those of some events, whose times lie between these.
    Of(Rc<BTreeSet<Uid>>, Timestamp, Timestamp),
}

impl Rows {
    /// What is read of an object for them.
    pub fn selection(&self) -> Selection {
        match self {
            Self::All => Selection::All,
            Self::Between(from, to) | Self::Of(_, from, to) => Selection::Time { from: *from, to: *to },
        }
    }

    /// Whether one is one of them.
    pub fn has(&self, row: &StoredRow<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Between(from, to) => row.time.is_some_and(|time| (*from..*to).contains(&time)),
            Self::Of(uids, ..) => uids.contains(&row.uid),
        }
    }
}

/// Objects to be sent, in the order of the log.
pub fn pending(readable: &Readable, next: u64) -> Vec<Pending> {
    let mut pending: Vec<Pending> = readable
        .objects()
        .filter(|o| o.leaf >= next)
        .filter_map(|o| Some(Pending { op: op(readable, o, next)?, object: o.clone(), rows: Rows::All }))
        .collect();
    pending.sort_by_key(|p| p.object.leaf);
    pending
}

/// Objects with rows between two times, oldest first; their rows take the place of what is there.
pub fn between(readable: &Readable, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<Pending> {
    let rows = match (from, to) {
        (None, None) => Rows::All,
        (from, to) => Rows::Between(from.unwrap_or(Timestamp(i64::MIN)), to.unwrap_or(Timestamp(i64::MAX))),
    };
    let overlaps = |object: &SealedObject| match (&rows, object.rows.time_min, object.rows.time_max) {
        (Rows::Between(from, to), Some(min), Some(max)) => min < to.0 && max >= from.0,
        (Rows::Between(..), ..) => false,
        _ => true,
    };
    let mut between: Vec<Pending> = readable
        .objects()
        .filter(|object| overlaps(object))
        .map(|object| Pending { object: object.clone(), op: Op::Index, rows: rows.clone() })
        .collect();
    between.sort_by(|a, b| (&a.object.rows.day, a.object.leaf).cmp(&(&b.object.rows.day, b.object.leaf)));
    between
}

/// What is done with an object's rows; `None` where all of them are indexed as they are.
fn op(readable: &Readable, object: &SealedObject, next: u64) -> Option<Op> {
    let mut op = None;
    let mut open = vec![object];
    while let Some(object) = open.pop() {
        let Some(rewrite) = &object.rewrite else {
            op = op.or(Some(Op::Create));
            continue;
        };
        if matches!(rewrite.kind, ManifestKind::Renormalize | ManifestKind::Withhold) {
            return Some(Op::Index);
        }
        for leaf in rewrite.replaces.iter().filter(|leaf| **leaf >= next) {
            match readable.history().get(leaf).map(|retired| &retired.object) {
                Some(below) => open.push(below),
                // What is not known may be new.
                None => op = Some(Op::Create),
            }
        }
    }
    op
}
