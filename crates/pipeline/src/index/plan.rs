//! What of the log is not indexed yet.
//!
//! What it is: the readable objects that hold rows of entries from the cursor on, and what is done with their rows.
//! What it is not: it reads no object. A compaction alone changes no row; what it was made of may not have been
//! indexed, and then its rows are.

use keytrail_index::Op;
use keytrail_model::manifest::ManifestKind;

use crate::readable::{Readable, SealedObject};

/// An object whose rows are sent.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The object.
    pub object: SealedObject,
    /// What is done with its rows.
    pub op: Op,
}

/// Objects to be sent, in the order of the log.
pub fn pending(readable: &Readable, next: u64) -> Vec<Pending> {
    let mut pending: Vec<Pending> = readable
        .objects()
        .filter(|o| o.leaf >= next)
        .filter_map(|o| Some(Pending { op: op(readable, o, next)?, object: o.clone() }))
        .collect();
    pending.sort_by_key(|p| p.object.leaf);
    pending
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
