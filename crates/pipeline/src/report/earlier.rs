//! Which rows of an object were sealed before a size of the log, though the object itself may be younger: it may
//! hold rows of objects that were compacted since.
//!
//! In: the object, what the log retired, and the lists that say where rows come from. Out: a [`Part`].

use std::collections::BTreeMap;

use keytrail_model::Fatal;
use keytrail_ports::BlobStore;

use crate::readable::{Retired, SealedObject, sealed_detail};

/// Some rows of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of them.
    All,
    /// None.
    None,
    /// Those that are `true`, by their number.
    Rows(Vec<bool>),
}

impl Part {
    /// Whether a row is among them.
    pub fn has(&self, row: u64) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Rows(rows) => usize::try_from(row).is_ok_and(|row| rows.get(row).copied().unwrap_or(false)),
        }
    }
}

/// The rows of an object that entries below `size` sealed first.
///
/// # Errors
/// `Fatal.ObjectMissing`, `Fatal.ObjectConflict`: a list is not what was sealed.
pub fn part(
    store: &dyn BlobStore,
    history: &BTreeMap<u64, Retired>,
    object: &SealedObject,
    size: u64,
) -> Result<Part, Fatal> {
    if object.leaf < size {
        return Ok(Part::All);
    }
    let Some(rewrite) = &object.rewrite else { return Ok(Part::None) };
    let inputs = rewrite.replaces.iter().map(|leaf| match history.get(leaf) {
        // What an entry replaces is older than it is: this ends.
        Some(retired) if retired.object.leaf < object.leaf => part(store, history, &retired.object, size),
        _ => Ok(Part::None),
    });
    let inputs: Vec<Part> = inputs.collect::<Result<_, _>>()?;
    for whole in [Part::All, Part::None] {
        if inputs.iter().all(|input| *input == whole) {
            return Ok(whole);
        }
    }
    let mut rows = Vec::new();
    for run in sealed_detail(store, &rewrite.detail)?.rows {
        let input = inputs.get(run.input as usize).unwrap_or(&Part::None);
        rows.extend((0..u64::from(run.count)).map(|row| input.has(u64::from(run.first) + row)));
    }
    Ok(Part::Rows(rows))
}
