//! Where archiving and sealing are two processes, and several archive at once: the path as Lambdas take it.
//!
//! What it is: [`archive`] makes the objects of a batch and leaves what is to be sealed of it, its *pending batch*
//! (`state/pending/<time>-<hash>`); [`seal`] appends pending batches to the log, one sealer's turn after the other's. What it
//! is not: another way to archive: both are [`crate::run()`] cut in two.
//!
//! Two who archive the same events do not see each other's. Sealing does: it judges each row inside its partition, by uid
//! against what is sealed and what it is about to seal, and writes an object again without the rows that are there
//! already. So the sealed log never holds an event twice, however often its input was delivered. What is killed between
//! two writes is finished by the next sealer: a batch stays pending until all of it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keytrail_ledger::Checkpoint;
use keytrail_ledger::tile::WIDTH;
use keytrail_model::{Counts, Fatal, Hash, Manifest, Timestamp};
use keytrail_ports::{ObjectName, RawObjects, StoreError};
use serde::{Deserialize, Serialize};

use crate::archiver::Archiver;
use crate::compact::Compacted;
use crate::config::{DeclaredSource, claim};
use crate::ingest::{Reading, Step, ingest};
use crate::input::{Input, STOPPED};
use crate::readable::snapshot::Kept;
use crate::readable::{Readable, SealedObject, TakenIn};
use crate::recover::Recovered;
use crate::run::Options;
use crate::seal::{MOVED, read_entries};
use crate::trail::Trail;
use crate::{compact, concurrent, dedup, tagged, taken};

mod orphans;
mod sealing;

pub use orphans::hide_orphans;
use sealing::Sealing;

/// Where pending batches are, in the order in which they are sealed.
pub const PENDING: &str = "state/pending/";

const TAG_DOMAIN: &[u8] = b"keytrail/pending/1\n";

/// How often a seal begins again because another sealer went on.
const ATTEMPTS: u32 = 5;

/// An object that keytrail reads: what state machines and queues carry of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawObject {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Its version, where the bucket keeps versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its size in bytes, as far as it is known.
    #[serde(default)]
    pub bytes: u64,
}

impl RawObject {
    /// Its name.
    pub fn name(&self) -> ObjectName {
        ObjectName { bucket: self.bucket.clone(), key: self.key.clone(), version: self.version.clone() }
    }
}

/// Objects that are archived together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Its name.
    pub batch: String,
    /// What it holds, in order.
    pub objects: Vec<RawObject>,
    /// Records of the first object before this offset, inflated, are archived.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub from: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A batch that is archived and not sealed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    version: u32,
    batch: String,
    /// Objects that are wholly taken in.
    objects: Vec<RawObject>,
    /// One that is taken in as far as time sufficed: the rest is another batch's, which closes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<RawObject>,
    /// What is to be sealed.
    manifests: Vec<Manifest>,
}

impl Pending {
    /// Reads one.
    ///
    /// # Errors
    /// `Fatal.Archive`: it is damaged, or was not made by who has the trail's mask key.
    fn load(trail: &Trail<'_>, key: &str) -> Result<Option<Self>, Fatal> {
        let Some(bytes) = trail.store.get(key)? else { return Ok(None) };
        let pending = tagged::read::<Self>(trail.masker, TAG_DOMAIN, &bytes).and_then(|p| {
            if p.version == 1 { Ok(p) } else { Err(format!("version `{}` is not known", p.version)) }
        });
        pending.map(Some).map_err(|why| Fatal::new("Fatal.Archive", format!("`{key}`: {why}")))
    }

    /// Objects that it holds, or holds some of.
    fn into_objects(self) -> impl Iterator<Item = RawObject> {
        self.objects.into_iter().chain(self.part)
    }

    fn put(&self, trail: &Trail<'_>) -> Result<String, Fatal> {
        let bytes = tagged::write(trail.masker, TAG_DOMAIN, self)?;
        let hash = Hash::of(&bytes).to_hex();
        let key = format!("{PENDING}{:020}-{}", trail.clock.now().0.max(0), &hash[..16]);
        trail.store.put_if_absent(&key, &bytes)?;
        Ok(key)
    }
}

/// What is sealed, as a process that lives on knows it.
#[derive(Debug, Default)]
pub struct Sealed {
    head: Option<Checkpoint>,
    readable: Readable,
    taken: TakenIn,
    /// Entries of the log that `taken` is of.
    taken_to: u64,
    /// Size of the log up to which that is kept in `state/`.
    remembered: u64,
}

impl Sealed {
    /// What is sealed.
    pub fn readable(&self) -> &Readable {
        &self.readable
    }

    /// Reads on to a head of the log, or a newer one.
    ///
    /// # Errors
    /// `Fatal.LogRollback`: it does not continue the one before.
    fn extend(&mut self, trail: &Trail<'_>, mut head: Checkpoint) -> Result<(), Fatal> {
        if self.head.is_none() {
            // In this order: what is known of detail objects is of as many entries as what is readable, or of more.
            let (kept, taken) = (Kept::read(trail)?, taken::read(trail)?);
            if kept.as_ref().map(|kept| kept.size).max(taken.as_ref().map(|taken| taken.size))
                > Some(head.size)
            {
                head = trail.log().published()?.unwrap_or(head);
            }
            (self.taken_to, self.taken) =
                taken.map_or_else(|| Ok(Default::default()), |taken| taken.taken(trail, &head))?;
            // Detail objects that are not known are named by entries that are read.
            let kept = kept.filter(|kept| kept.size <= self.taken_to);
            let readable = kept.map_or(Ok(None), |kept| kept.readable(trail, &head))?;
            self.readable = readable.unwrap_or_default();
            self.remembered = self.readable.size;
        }
        if let Some(before) = self.head.as_ref().or(trail.known)
            && *before != head
            && !trail.log().continues(before, &head)?
        {
            let why = format!("the log of size {} does not continue that of size {}", head.size, before.size);
            return Err(Fatal::new("Fatal.LogRollback", why));
        }
        self.readable.extend(trail.store, head.size)?;
        let known = std::mem::take(&mut self.taken);
        self.taken = self.readable.taken_since(trail.store, self.taken_to, known)?;
        self.taken_to = head.size;
        self.head = Some(head);
        Ok(())
    }
}

/// A batch whose objects are opened.
#[derive(Debug)]
pub struct Opened {
    /// Those that could be opened.
    pub batch: Batch,
    /// They, with the sources that declare them.
    pub inputs: Vec<Input>,
    /// Those that are not there, or must not be read, and why: they stay open, and keep no others.
    pub left_out: Vec<(RawObject, String)>,
}

/// Opens the objects of a batch.
///
/// # Errors
/// `Retryable.Store`; `Config.Location`.
pub fn open(raw: &dyn RawObjects, batch: &Batch, sources: &[Arc<DeclaredSource>]) -> Result<Opened, Fatal> {
    let opened = concurrent::each(&batch.objects, |object| {
        let name = object.name();
        match raw.open(&name) {
            Ok(Some(blob)) => Ok(Ok(Input::object(&name, Some(blob)))),
            Ok(None) => Ok(Err("there is no such object".to_owned())),
            Err(StoreError::Fatal(why)) => Ok(Err(why)),
            Err(e) => Err(e.into()),
        }
    })?;
    let (mut inputs, mut objects, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for (object, opened) in batch.objects.iter().zip(opened) {
        match opened {
            Ok(input) => {
                inputs.push(input);
                objects.push(object.clone());
            }
            Err(why) => left_out.push((object.clone(), why)),
        }
    }
    claim(&mut inputs, sources)?;
    let is_first = objects.first() == batch.objects.first();
    let batch = Batch { batch: batch.batch.clone(), objects, from: if is_first { batch.from } else { 0 } };
    Ok(Opened { batch, inputs, left_out })
}

/// The archive objects of a pending batch; `None`: it is sealed.
pub fn objects(trail: &Trail<'_>, key: &str) -> Result<Option<Vec<SealedObject>>, Fatal> {
    let Some(pending) = Pending::load(trail, key)? else { return Ok(None) };
    let of = |m: Manifest| {
        Some(SealedObject { leaf: 0, object: m.object?, rows: m.rows?, archived: m.archived, rewrite: None })
    };
    Ok(Some(pending.manifests.into_iter().filter_map(of).collect()))
}

/// Batches that wait, and when the oldest was archived.
pub fn waiting(trail: &Trail<'_>) -> Result<(u64, Option<Timestamp>), Fatal> {
    let keys = trail.store.list(PENDING)?;
    let oldest = keys.first().and_then(|key| key.strip_prefix(PENDING)?.get(..20)?.parse().ok());
    Ok((keys.len() as u64, oldest.map(Timestamp)))
}

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archived {
    /// Its records.
    pub counts: Counts,
    /// By source.
    pub sources: BTreeMap<String, Counts>,
    /// Where it waits to be sealed.
    pub pending: String,
    /// The newest time of its new events.
    pub newest: Option<Timestamp>,
    /// Objects that are wholly taken in.
    pub objects: Vec<RawObject>,
    /// What time did not suffice for.
    pub next: Option<Batch>,
}

/// Archives a batch; all of it is durable on return, and nothing is sealed. Where it is to `stop`, the rest is left.
/// After an error `sealed` knows nothing, and the same batch can be given again.
///
/// # Errors
/// `Retryable.Store`: an object could not be read, or nothing more be written. [`REPLACED`].
pub fn archive(
    trail: &Trail<'_>,
    sealed: &mut Sealed,
    Opened { batch, inputs, .. }: &Opened,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Archived, Fatal> {
    let mut known = std::mem::take(sealed);
    if let Some(head) = trail.log().published()? {
        known.extend(trail, head)?;
    }
    let Sealed { head, readable, taken, taken_to, remembered } = known;
    let recovered = Recovered { head: head.clone(), readable, taken, remembered, unsealed: Vec::new() };
    let mut archiver = Archiver::new(trail, recovered, inputs, options)?;
    if batch.from > 0 {
        archiver.pass_over(0, batch.from);
    }
    let readings: Vec<_> = (0..).zip(inputs.iter().map(Reading::Input)).collect();
    // Inputs that are wholly read, and how far the one behind them is.
    let (mut whole, mut offset) = (0, 0);
    let read = ingest(trail, &readings, &options.ingest, stop, &mut |step| {
        if stop.load(Ordering::Relaxed) {
            return Err(Fatal::new(STOPPED, "asked to stop"));
        }
        match step {
            Step::Records(records) => {
                let offsets = records.rows.heads().iter().map(|head| head.offset);
                let last = offsets.chain(records.rejects.iter().map(|r| r.offset)).max();
                archiver.add(records)?;
                offset = offset.max(last.unwrap_or_default());
            }
            Step::EndOfInput(input, summary) => {
                archiver.end_of_input(input, &summary);
                (whole, offset) = (input as usize + 1, 0);
            }
            Step::EndOfPart(..) => {}
        }
        Ok(archiver.take_emptied())
    });
    match read {
        Err(fatal) if fatal.code == STOPPED => {}
        other => other.map_err(replaced)?,
    }
    let listed = archiver.listed();
    let manifests = archiver.stage().map_err(replaced)?;
    let (counts, sources, readable, mut taken) = archiver.end();
    if let Some((source, lost)) = sources.iter().find(|(_, counts)| !counts.balanced()) {
        let why = format!("`{source}`: the outcomes of {} records do not add up: {lost:?}", lost.read);
        return Err(Fatal::new("Fatal.RecordLost", why));
    }
    let objects = batch.objects[..whole.min(batch.objects.len())].to_vec();
    let rest = &batch.objects[objects.len()..];
    let next = (!rest.is_empty()).then(|| Batch {
        batch: batch.batch.clone(),
        objects: rest.to_vec(),
        from: if objects.is_empty() { offset.max(batch.from) } else { offset },
    });
    let newest = manifests.iter().filter_map(|m| m.rows.as_ref()?.time_max).max().map(Timestamp);
    let part = next.as_ref().filter(|next| next.from > 0).and_then(|next| next.objects.first()).cloned();
    let pending =
        Pending { version: 1, batch: batch.batch.clone(), objects: objects.clone(), part, manifests };
    let pending = pending.put(trail)?;
    // It is not sealed: who archives it once more lists it once more.
    taken.forget(&listed);
    *sealed = Sealed { head, readable, taken, taken_to, remembered };
    Ok(Archived { counts, sources, pending, newest, objects, next })
}

/// A sealed object that is not there was replaced by a compaction meanwhile; one that was lost is found by `verify`.
fn replaced(fatal: Fatal) -> Fatal {
    if fatal.code == "Fatal.ObjectMissing" { Fatal::new(REPLACED, fatal.message) } else { fatal }
}

/// Code of the error where a compaction replaced what was to be read.
pub const REPLACED: &str = "Retryable.Replaced";

/// What a seal did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// The log's head.
    pub head: Checkpoint,
    /// Batches that were sealed, or held nothing new.
    pub batches: u64,
    /// Entries that the log took.
    pub entries: u64,
    /// New rows in the archive.
    pub rows: u64,
    /// Rows that were left out, because the archive holds them.
    pub copies: u64,
    /// When the oldest and the newest of the batches were archived, microseconds since 1970.
    pub archived: Option<(i64, i64)>,
    /// Batches that wait.
    pub waiting: u64,
    /// Batches that cannot be read, and why: they stay where they are.
    pub unreadable: Vec<String>,
    /// How often it began again because another sealer went on.
    pub retries: u32,
}

/// Told of an object that the log names.
pub type Taken<'a> = dyn Fn(&RawObject) -> Result<(), Fatal> + Sync + 'a;

/// Seals what is pending, oldest first, as far as time suffices. `taken` is told of each object that the log names now,
/// several at once, before its batch is forgotten: it may be told again.
///
/// # Errors
/// `Retryable.LogMoved`: other sealers went on each time. As [`Log::append`](crate::seal::Log::append).
pub fn seal(
    trail: &Trail<'_>,
    sealed: &mut Sealed,
    taken: &Taken<'_>,
    stop: &AtomicBool,
) -> Result<Done, Fatal> {
    let mut attempt = 1;
    loop {
        let mut known = std::mem::take(sealed);
        known.extend(trail, trail.log().recover()?)?;
        match Sealing::new(trail, attempt == ATTEMPTS).run(&mut known, taken, stop) {
            Err(moved) if matches!(moved.code, MOVED | REPLACED) && attempt < ATTEMPTS => {
                attempt += 1;
                *sealed = known;
            }
            Err(fatal) => return Err(fatal),
            Ok(mut done) => {
                done.retries = attempt - 1;
                let size = done.head.size;
                if taken::is_time(known.remembered, size) {
                    taken::store(trail, &done.head, &known.taken)?;
                    known.readable.keep(trail, &done.head)?;
                    known.remembered = size;
                }
                *sealed = known;
                return Ok(done);
            }
        }
    }
}

/// Compacts what is sealed, where it pays, and as far as time suffices.
///
/// # Errors
/// `Retryable.LogMoved`: a sealer went on meanwhile.
pub fn compact(
    trail: &Trail<'_>,
    sealed: &mut Sealed,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Compacted, Fatal> {
    let mut known = std::mem::take(sealed);
    known.extend(trail, trail.log().recover()?)?;
    hide(trail, &known.readable)?;
    let threads = options.ingest.threads;
    let done = compact::when_it_pays(trail, &mut known.readable, options.object_bytes, threads, stop)?;
    known.extend(trail, trail.log().recover()?)?;
    *sealed = known;
    Ok(done)
}

/// Up to which entry of the log all that it retires is hidden.
const HIDDEN: &str = "state/hidden";

const HIDDEN_DOMAIN: &[u8] = b"keytrail/hidden/1\n";

/// Hides the objects that entries of the log retired, where whoever appended these was killed before it did.
fn hide(trail: &Trail<'_>, readable: &Readable) -> Result<(), Fatal> {
    let (store, size) = (trail.store, readable.size);
    let hidden = store.get(HIDDEN)?;
    let from =
        hidden.and_then(|bytes| tagged::read(trail.masker, HIDDEN_DOMAIN, &bytes).ok()).unwrap_or(0u64);
    let parsed = |leaf: u64, bytes: &[u8]| {
        Manifest::parse(bytes).map_err(|e| Fatal::new("Fatal.LogEntry", format!("log entry {leaf}: {e}")))
    };
    let mut retired = BTreeSet::new();
    read_entries(store, size, from, size, &mut |leaf, bytes| {
        retired.extend(parsed(leaf, bytes)?.replaces);
        Ok(())
    })?;
    let named = readable.object_keys();
    // A file of the log is read once.
    for leaves in Vec::from_iter(retired).chunk_by(|a, b| a / WIDTH == b / WIDTH) {
        let (Some(first), Some(last)) = (leaves.first(), leaves.last()) else { continue };
        let mut objects = Vec::new();
        read_entries(store, size, *first, *last + 1, &mut |leaf, bytes| {
            if leaves.binary_search(&leaf).is_ok() {
                objects.extend(parsed(leaf, bytes)?.object);
            }
            Ok(())
        })?;
        // Two writers that archived the same events name one object.
        for object in objects.iter().filter(|object| !named.contains(object.key.as_str())) {
            if store.open(&object.key)?.is_some() {
                store.delete(&object.key)?;
                dedup::forget(store, &object.sha256)?;
            }
        }
    }
    if size > from {
        store.replace(HIDDEN, &tagged::write(trail.masker, HIDDEN_DOMAIN, &size)?)?;
    }
    Ok(())
}

/// Up to which entry of the log objects are kept for the whole retention.
const KEPT: &str = "state/kept";

const KEPT_DOMAIN: &[u8] = b"keytrail/kept/1\n";

/// Hands over the archive objects that were sealed before a time, and not replaced since: each once, as far as time
/// suffices. Gives how many.
pub fn keep(
    trail: &Trail<'_>,
    sealed: &Sealed,
    before: Timestamp,
    stop: &AtomicBool,
    each: &dyn Fn(&str) -> Result<(), Fatal>,
) -> Result<u64, Fatal> {
    let kept = trail.store.get(KEPT)?;
    let mut next =
        kept.and_then(|bytes| tagged::read(trail.masker, KEPT_DOMAIN, &bytes).ok()).unwrap_or(0u64);
    let begun = next;
    let mut objects: Vec<&SealedObject> = sealed.readable.objects().filter(|o| o.leaf >= next).collect();
    objects.sort_unstable_by_key(|object| object.leaf);
    let mut count = 0;
    for object in objects {
        // The log's entries are in the order of their archiving, or nearly so.
        if object.archived >= before.0 || stop.load(Ordering::Relaxed) {
            break;
        }
        each(&object.object.key)?;
        next = object.leaf + 1;
        count += 1;
    }
    if next > begun {
        trail.store.replace(KEPT, &tagged::write(trail.masker, KEPT_DOMAIN, &next)?)?;
    }
    Ok(count)
}
