//! Raw objects on their way into the archive: what streams bring becomes objects, and each object is open until a sealed
//! manifest names it.
//!
//! What it is: records of a stream to objects (`staged/<hour>/<shard>-<sequence>-<hash>`), a marker for each object that
//! is on its way (`open/<hash of its name>`), lists of what fits into one batch, and what of it is open for too long. What
//! it is not: it reads no record and starts nothing. In: records, objects, a store of raw objects. Out: [`Batch`]es.
//!
//! An object that is open for too long is given again, whatever became of whoever had it: to archive it once more adds
//! nothing.

use std::time::Duration;

use keytrail_model::segment::{MAGIC, REFERENCE_MAGIC, Reference, read_reference};
use keytrail_model::{Fatal, Hash, Timestamp};
use keytrail_ports::{BlobStore, ListedObject, RawObjects, StoreError};
use serde::{Deserialize, Serialize};

use crate::concurrent;
use crate::input::is_whole_gzip;
use crate::pending::{Batch, RawObject};

/// Inflated bytes of a batch, as they are estimated.
pub const BATCH_BYTES: u64 = 64 << 20;

/// Bytes of a batch as JSON, at most: a state machine carries it, and what is left of it, in 256 KiB.
const BATCH_JSON_BYTES: usize = 90 << 10;

/// What an object takes in it beside its names.
const OBJECT_JSON_BYTES: usize = 64;

/// What compressed logs inflate to, as a rule: CloudTrail's files 10 to 14 times.
const RATIO: u64 = 12;

/// How long an archived object can wait for a seal before it is given again.
const SEALED_WITHIN_MICROS: i64 = 86_400_000_000;

/// Where objects of streams are put.
const STAGED: &str = "staged/";

/// Where markers are.
const OPEN: &str = "open/";

/// A record of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamRecord<'a> {
    /// Its number on its shard.
    pub sequence: &'a str,
    /// When the stream took it.
    pub arrived: Timestamp,
    /// What it is.
    pub data: &'a [u8],
}

/// A store of raw objects.
#[derive(Clone, Copy)]
pub struct Staging<'a> {
    /// Objects below `prefix` of `bucket`.
    pub store: &'a dyn BlobStore,
    /// The bucket.
    pub bucket: &'a str,
    /// What stands before the store's keys in the bucket: nothing, or folders with a slash at the end.
    pub prefix: &'a str,
}

/// What a marker says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    object: RawObject,
    /// Microseconds since 1970.
    since: i64,
    /// When it was given last; of one that waits to be sealed, when it is looked at again.
    driven: i64,
}

/// Objects that are open.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Open {
    /// All of them.
    pub count: u64,
    /// Since when the oldest is.
    pub oldest: Option<Timestamp>,
    /// Those that are due to be given again.
    pub due: Vec<RawObject>,
}

/// What kind of object records become: those of one kind can be put one behind the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Segments of a sidecar.
    Segments,
    /// Members of a gzip file: log events of CloudWatch.
    Gzip,
    /// Lines.
    Lines,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Segments, Self::Gzip, Self::Lines];

    fn of(data: &[u8]) -> Self {
        match data {
            [b'K', ..] if data.starts_with(&MAGIC) => Self::Segments,
            [0x1f, 0x8b, ..] => Self::Gzip,
            _ => Self::Lines,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Segments => "ktseg",
            Self::Gzip => "gz",
            Self::Lines => "ndjson",
        }
    }
}

impl Staging<'_> {
    /// Makes records of a shard, in their order, durable as objects, and marks these as open; a reference to an object
    /// of a sidecar gives that one. The same records give the same objects.
    ///
    /// # Errors
    /// The store's: nothing of the records is acknowledged then.
    pub fn stage(
        &self,
        shard: &str,
        records: &[StreamRecord<'_>],
        now: Timestamp,
    ) -> Result<Vec<RawObject>, Fatal> {
        let mut objects = Vec::new();
        let referred = |data: &[u8]| -> Option<Reference> {
            data.starts_with(&REFERENCE_MAGIC).then(|| read_reference(data).ok().map(|(r, _)| r)).flatten()
        };
        let mut groups: Vec<(Kind, Vec<&StreamRecord<'_>>)> = Vec::new();
        for kind in Kind::ALL {
            let of_kind = |r: &&StreamRecord<'_>| Kind::of(r.data) == kind && referred(r.data).is_none();
            // Nothing can be read behind a member of a gzip file that is broken: such a record is an object by itself.
            let (whole, broken): (Vec<_>, Vec<_>) =
                records.iter().filter(of_kind).partition(|r| kind != Kind::Gzip || is_whole_gzip(r.data));
            groups.push((kind, whole));
            groups.extend(broken.into_iter().map(|record| (kind, vec![record])));
        }
        for (kind, of_kind) in groups {
            let Some(first) = of_kind.first() else { continue };
            let mut bytes = Vec::with_capacity(of_kind.iter().map(|r| r.data.len() + 1).sum());
            for record in &of_kind {
                bytes.extend_from_slice(record.data);
                if kind == Kind::Lines && !record.data.ends_with(b"\n") {
                    bytes.push(b'\n');
                }
            }
            let hash = Hash::of(&bytes).to_hex();
            let key = format!(
                "{STAGED}{}/{}-{}-{}.{}",
                hour(first.arrived),
                plain(shard),
                plain(first.sequence),
                &hash[..16],
                kind.suffix()
            );
            self.store.put_if_absent(&key, &bytes)?;
            objects.push(RawObject {
                bucket: self.bucket.to_owned(),
                key: format!("{}{key}", self.prefix),
                version: None,
                bytes: bytes.len() as u64,
            });
        }
        for reference in records.iter().filter_map(|r| referred(r.data)) {
            let Reference { bucket, key, bytes, .. } = reference;
            objects.push(RawObject { bucket, key, version: None, bytes });
        }
        self.open(&objects, now)?;
        Ok(objects)
    }

    /// Marks objects as open.
    pub fn open(&self, objects: &[RawObject], now: Timestamp) -> Result<(), Fatal> {
        concurrent::each(objects, |object| {
            let marker = Marker { object: object.clone(), since: now.0, driven: now.0 };
            Ok(self.store.put_if_absent(&marker_key(object), &to_json(&marker)?)?)
        })
        .map(|_| ())
    }

    /// Objects are archived, and wait for a seal: for a day nobody gives them again. Gives since when the oldest of them is
    /// open, where one is.
    pub fn archived(&self, objects: &[RawObject], now: Timestamp) -> Result<Option<Timestamp>, Fatal> {
        self.driven(objects, Timestamp(now.0.saturating_add(SEALED_WITHIN_MICROS)))
    }

    /// An object is named by the sealed log: it may expire. Gives why it will not, where it is one of this bucket: others may
    /// keep theirs as they like.
    pub fn close(&self, objects: &dyn RawObjects, object: &RawObject) -> Result<Option<String>, Fatal> {
        let stays = match objects.mark_taken(&object.name()) {
            Ok(()) => None,
            Err(StoreError::Fatal(why)) => Some(why).filter(|_| object.bucket == self.bucket),
            Err(e) => return Err(e.into()),
        };
        self.store.delete(&marker_key(object))?;
        Ok(stays)
    }

    /// What is open, and what of it was not given for so long.
    pub fn sweep(&self, now: Timestamp, after: Duration, most: usize) -> Result<Open, Fatal> {
        let mut open = Open::default();
        let after = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
        let keys = self.store.list(OPEN)?;
        for bytes in concurrent::each(&keys, |key| Ok(self.store.get(key)?))? {
            let Some(bytes) = bytes else { continue };
            // What somebody else put there is no marker.
            let Ok(marker) = serde_json::from_slice::<Marker>(&bytes) else { continue };
            open.count += 1;
            let since = Timestamp(marker.since);
            open.oldest = Some(open.oldest.map_or(since, |oldest| oldest.min(since)));
            if now.0.saturating_sub(marker.driven) >= after && open.due.len() < most {
                open.due.push(marker.object);
            }
        }
        Ok(open)
    }

    /// Objects were given again. Gives since when the oldest of them is open, where one is.
    pub fn driven(&self, objects: &[RawObject], now: Timestamp) -> Result<Option<Timestamp>, Fatal> {
        let since = concurrent::each(objects, |object| {
            let key = marker_key(object);
            let Some(bytes) = self.store.get(&key)? else { return Ok(None) };
            let Ok(marker) = serde_json::from_slice::<Marker>(&bytes) else { return Ok(None) };
            let since = Timestamp(marker.since);
            self.store.replace(&key, &to_json(&Marker { driven: now.0, ..marker })?)?;
            Ok(Some(since))
        })?;
        Ok(since.into_iter().flatten().min())
    }
}

/// Objects in batches that fit into one call, and those that are too large for it by themselves.
pub fn batches(objects: Vec<RawObject>) -> (Vec<Batch>, Vec<RawObject>) {
    let (mut batches, mut large): (Vec<Vec<RawObject>>, _) = (Vec::new(), Vec::new());
    let (mut bytes, mut json) = (0, 0);
    for object in objects {
        // Characters that JSON escapes take six bytes at most.
        let text = 6 * object_name(&object).len() + OBJECT_JSON_BYTES;
        let inflated = inflated_bytes(&object.key, object.bytes);
        if inflated > BATCH_BYTES {
            large.push(object);
            continue;
        }
        match batches.last_mut() {
            Some(last) if bytes + inflated <= BATCH_BYTES && json + text <= BATCH_JSON_BYTES => {
                bytes += inflated;
                json += text;
                last.push(object);
            }
            _ => {
                (bytes, json) = (inflated, text);
                batches.push(vec![object]);
            }
        }
    }
    (batches.into_iter().map(named).collect(), large)
}

/// A batch under the name of what it holds.
pub fn named(objects: Vec<RawObject>) -> Batch {
    let mut names = String::new();
    for object in &objects {
        names += &object_name(object);
        names.push('\n');
    }
    Batch { batch: Hash::of(names.as_bytes()).to_hex()[..32].to_owned(), objects, from: 0 }
}

/// Everything below a prefix of a bucket, in batches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// One behind the other; an object that is too large for others is one by itself.
    pub batches: Vec<Batch>,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What these inflate to, estimated.
    pub inflated_bytes: u64,
}

/// Plans to read all objects below a prefix.
pub fn plan(objects: &dyn RawObjects, bucket: &str, prefix: &str) -> Result<Plan, Fatal> {
    let mut all = Vec::new();
    let mut plan = Plan::default();
    objects.list(bucket, prefix, &mut |ListedObject { key, bytes }| {
        plan.objects += 1;
        plan.bytes += bytes;
        plan.inflated_bytes += inflated_bytes(&key, bytes);
        all.push(RawObject { bucket: bucket.to_owned(), key, version: None, bytes });
        Ok(())
    })?;
    let (batches, large) = batches(all);
    plan.batches = batches;
    plan.batches.extend(large.into_iter().map(|object| named(vec![object])));
    Ok(plan)
}

/// Bytes of an event, inflated, as a rule.
const EVENT_BYTES: u64 = 1_600;

/// What a million events cost to archive, seal and index by functions, in USD (`infra/aws/COSTS.md`).
const USD_PER_MILLION: f64 = 2.0;

/// What it costs to read an object, whatever its size: a request, and its share of calls, in USD.
const USD_PER_OBJECT: f64 = 0.000_02;

/// Events of so many objects, and what they cost to back-fill in USD, estimated.
pub fn cost_usd(objects: u64, inflated_bytes: u64) -> (u64, f64) {
    let events = inflated_bytes / EVENT_BYTES;
    (events, events as f64 / 1e6 * USD_PER_MILLION + objects as f64 * USD_PER_OBJECT)
}

/// What an object of that name and size inflates to, estimated.
fn inflated_bytes(key: &str, bytes: u64) -> u64 {
    let is_compressed = [".gz", ".zst", ".gzip"].iter().any(|suffix| key.ends_with(suffix));
    if is_compressed { bytes.saturating_mul(RATIO) } else { bytes }
}

fn object_name(object: &RawObject) -> String {
    format!("{}/{}@{}", object.bucket, object.key, object.version.as_deref().unwrap_or_default())
}

fn marker_key(object: &RawObject) -> String {
    format!("{OPEN}{}", Hash::of(object_name(object).as_bytes()))
}

fn to_json(marker: &Marker) -> Result<Vec<u8>, Fatal> {
    serde_json::to_vec(marker).map_err(|e| Fatal::new("Fatal.Internal", format!("a marker: {e}")))
}

/// `2026/11/22/16`
fn hour(time: Timestamp) -> String {
    let text = time.to_rfc3339();
    let digits = |range| text.get(range).unwrap_or("00");
    format!("{}/{}/{}/{}", text.get(0..4).unwrap_or("0000"), digits(5..7), digits(8..10), digits(11..13))
}

/// As a key may have it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(64).collect()
}

#[cfg(test)]
mod tests {
    use keytrail_adapters::memory::MemoryStore;
    use keytrail_model::segment::Reference;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn record<'a>(sequence: &'a str, data: &'a [u8]) -> StreamRecord<'a> {
        StreamRecord { sequence, arrived: NOW, data }
    }

    fn staging(store: &MemoryStore) -> Staging<'_> {
        Staging { store, bucket: "raw", prefix: "p/" }
    }

    #[test]
    fn records_become_objects_of_their_kind_in_order() {
        let store = MemoryStore::new();
        let mut reference = Vec::new();
        let large = Reference {
            bucket: "other".into(),
            key: "a b".into(),
            bytes: 7,
            sha256: Hash::default(),
            source: "s".into(),
            epoch: 1,
            first_seq: 0,
            last_seq: 0,
        };
        large.write(&mut reference);
        let records = [
            record("1", b"{\"a\":1}"),
            record("2", b"KTSEGMT1 one"),
            record("3", &reference),
            record("4", b"KTSEGMT1 two"),
            record("5", b"\x1f\x8b broken"),
            record("6", b"{\"b\":2}\n"),
            record("7", b"KTSEGREF broken"),
        ];
        let staged = staging(&store).stage("shardId-000:0", &records, NOW).unwrap();
        let texts: Vec<(String, Vec<u8>)> = staged[..3]
            .iter()
            .map(|o| (o.key.clone(), store.get(o.key.strip_prefix("p/").unwrap()).unwrap().unwrap()))
            .collect();
        assert_eq!(texts[0].1, b"KTSEGMT1 oneKTSEGMT1 two");
        assert_eq!(texts[1].1, b"\x1f\x8b broken");
        assert_eq!(texts[2].1, b"{\"a\":1}\n{\"b\":2}\nKTSEGREF broken\n");
        let begin = "p/staged/2023/11/14/22/shardId-000_0-2-";
        assert!(texts[0].0.starts_with(begin) && texts[0].0.ends_with(".ktseg"), "{}", texts[0].0);
        assert_eq!((staged.len(), staged[3].key.as_str(), staged[3].bytes), (4, "a b", 7));
        // Delivered again, and in parts: what is one object stays it, what is another one is another.
        let before = store.list("").unwrap();
        assert_eq!(staging(&store).stage("shardId-000:0", &records, NOW).unwrap(), staged);
        assert_eq!(store.list("").unwrap(), before);
        assert_ne!(staging(&store).stage("shardId-000:0", &records[..2], NOW).unwrap()[0], staged[0]);
    }

    #[test]
    fn an_object_is_open_until_it_is_closed() {
        struct Owner(Result<(), StoreError>);
        impl RawObjects for Owner {
            fn open(
                &self,
                _: &keytrail_ports::ObjectName,
            ) -> Result<Option<Box<dyn keytrail_ports::BlobRead>>, StoreError> {
                Ok(None)
            }
            fn list(
                &self,
                _: &str,
                _: &str,
                _: &mut dyn FnMut(ListedObject) -> Result<(), StoreError>,
            ) -> Result<(), StoreError> {
                Ok(())
            }
            fn mark_taken(&self, _: &keytrail_ports::ObjectName) -> Result<(), StoreError> {
                self.0.clone()
            }
        }
        let store = MemoryStore::new();
        let staging = staging(&store);
        let object = |key: &str| RawObject { bucket: "b".into(), key: key.into(), version: None, bytes: 1 };
        let later = |minutes: i64| Timestamp(NOW.0 + minutes * 60_000_000);
        staging.open(&[object("a")], NOW).unwrap();
        staging.open(&[object("b")], later(10)).unwrap();
        store.replace("open/somebody-elses", b"x").unwrap();
        let sweep = |at| staging.sweep(at, Duration::from_secs(900), 10).unwrap();
        assert_eq!(sweep(later(16)), Open { count: 2, oldest: Some(NOW), due: vec![object("a")] });
        assert_eq!(staging.driven(&[object("gone"), object("a")], later(16)).unwrap(), Some(NOW));
        assert_eq!(sweep(later(17)).due, []);
        assert_eq!(sweep(later(31)).due.len(), 2);
        // One that waits for a seal is left alone for a day.
        let since = staging.archived(&[object("b"), object("a"), object("gone")], later(31)).unwrap();
        assert_eq!(since, Some(NOW));
        staging.driven(&[object("b")], later(31)).unwrap();
        assert_eq!(sweep(later(60)).due, [object("b")]);
        assert_eq!(sweep(later(31 + 1_440 + 15)).due.len(), 2);
        let e = staging.close(&Owner(Err(StoreError::Retryable("slow".into()))), &object("a")).unwrap_err();
        assert_eq!(e.code, "Retryable.Store");
        let denied = Owner(Err(StoreError::Fatal("denied".into())));
        assert_eq!(staging.close(&denied, &object("a")).unwrap(), None);
        let own = RawObject { bucket: staging.bucket.into(), ..object("c") };
        assert_eq!(staging.close(&denied, &own).unwrap().as_deref(), Some("denied"));
        assert_eq!(staging.close(&Owner(Ok(())), &object("b")).unwrap(), None);
        assert_eq!(sweep(later(99)), Open::default());
        assert_eq!(staging.driven(&[object("a")], NOW).unwrap(), None);
        assert_eq!(store.list(OPEN).unwrap(), ["open/somebody-elses"]);
    }

    #[test]
    fn a_batch_is_what_fits() {
        let object =
            |key: &str, bytes| RawObject { bucket: "b".into(), key: key.into(), version: None, bytes };
        let (batches, large) = batches(vec![
            object("a.gz", 3 << 20),
            object("b", 28 << 20),
            object("c.json.gz", 6 << 20),
            object("d", 65 << 20),
            object("e", 1),
        ]);
        let keys: Vec<Vec<&str>> =
            batches.iter().map(|b| b.objects.iter().map(|o| o.key.as_str()).collect()).collect();
        assert_eq!(keys, [vec!["a.gz", "b"], vec!["e"]]);
        assert_eq!(large.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["c.json.gz", "d"]);
        assert_eq!(batches[0].batch.len(), 32);
        let many = (0..2_500).map(|n| object(&format!("AWSLogs/\"{n}\""), 0)).collect();
        let many = super::batches(many).0;
        assert_eq!(many.iter().map(|b| b.objects.len()).sum::<usize>(), 2_500);
        let json = many.iter().map(|b| serde_json::to_string(b).unwrap().len()).max().unwrap();
        assert!(many.len() < 20 && json < 100 << 10, "{} batches of up to {json} bytes", many.len());
    }
}
