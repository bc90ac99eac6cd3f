//! What sealed detail objects list, as of a size of the log: `state/taken`, so that a start reads those alone that
//! were sealed since.
//!
//! What it is: a cache that may be deleted; then all detail objects are read. What it is not: proof of anything. It is
//! tagged ([`crate::tagged`]), since whoever could write it could keep an input or a refused record from being named, and
//! it names the log's head, since it says nothing of a log that was put back.
//!
//! It is written when the log has grown by a part of its size, and then by so many entries that a start has not too many to
//! read. An input takes 43 bytes of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keytrail_ledger::Checkpoint;
use keytrail_model::{Fatal, Hash};
use keytrail_normalize::Format;
use serde::{Deserialize, Serialize};

use crate::hashes::Hashes;
use crate::readable::TakenIn;
use crate::tagged;
use crate::trail::Trail;

const KEY: &str = "state/taken";

const TAG_DOMAIN: &[u8] = b"keytrail/taken/1\n";

/// A log that has grown by fewer entries is read from where it was.
const FEW: u64 = 256;

/// A start reads no more entries than these, however long the log is.
const MANY: u64 = 16_384;

/// What was kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    version: u32,
    /// The log that lists it.
    origin: String,
    /// Entries of the log.
    pub size: u64,
    root: Hash,
    /// SHA-256 of the inputs, one behind the other, in base64.
    inputs: String,
    quarantine: Vec<String>,
    /// Format, source, epoch, first and last number.
    runs: Vec<(String, String, i64, i64, i64)>,
}

/// Whether it is time to write it: the log had the first size then, and has the second now.
pub(crate) fn is_time(then: u64, now: u64) -> bool {
    now.saturating_sub(then) >= (then / 16).clamp(FEW, MANY)
}

/// Writes what the log of this head lists.
pub(crate) fn store(trail: &Trail<'_>, head: &Checkpoint, taken: &TakenIn) -> Result<(), Fatal> {
    let run = |(format, source, epoch, (first, last)): (Format, &str, i64, (i64, i64))| {
        (format.name().to_owned(), source.to_owned(), epoch, first, last)
    };
    let stored = Stored {
        version: 2,
        origin: head.origin.clone(),
        size: head.size,
        root: head.root,
        inputs: BASE64.encode(taken.inputs.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>()),
        quarantine: taken.quarantine.iter().cloned().collect(),
        runs: taken.sequences.runs().map(run).collect(),
    };
    Ok(trail.store.replace(KEY, &tagged::write(trail.masker, TAG_DOMAIN, &stored)?)?)
}

/// What is known of the log of this head, and up to which entry of it; nothing where the file is missing, not ours or of
/// another log.
pub(crate) fn load(trail: &Trail<'_>, head: &Checkpoint) -> Result<(u64, TakenIn), Fatal> {
    read(trail)?.map_or_else(|| Ok(Default::default()), |stored| stored.taken(trail, head))
}

/// Reads the file; `None` where it is missing, or not ours. Whoever reads it before the log's head finds it of that log.
pub(crate) fn read(trail: &Trail<'_>) -> Result<Option<Stored>, Fatal> {
    let Some(bytes) = trail.store.get(KEY)? else { return Ok(None) };
    Ok(tagged::read::<Stored>(trail.masker, TAG_DOMAIN, &bytes).ok().filter(|stored| stored.version == 2))
}

impl Stored {
    /// What it says of the log of this head, and up to which entry of it; nothing where it is of another log.
    pub fn taken(self, trail: &Trail<'_>, head: &Checkpoint) -> Result<(u64, TakenIn), Fatal> {
        let Self { origin, size, root, inputs, quarantine, runs, .. } = self;
        let formats: Option<Vec<Format>> = runs.iter().map(|(name, ..)| Format::by_name(name)).collect();
        let inputs = BASE64.decode(inputs).unwrap_or_default();
        let (Some(formats), (inputs, [])) = (formats, inputs.as_chunks()) else {
            return Ok(Default::default());
        };
        if !trail.log().continues(&Checkpoint { origin, size, root }, head)? {
            return Ok(Default::default());
        }
        let mut taken = TakenIn {
            inputs: Hashes::of(inputs.iter().map(|bytes| Hash(*bytes)).collect()),
            quarantine: quarantine.into_iter().collect(),
            ..TakenIn::default()
        };
        for (format, (_, source, epoch, first, last)) in formats.into_iter().zip(&runs) {
            taken.sequences.add_run(format, source, *epoch, (*first, *last));
        }
        Ok((size, taken))
    }
}
