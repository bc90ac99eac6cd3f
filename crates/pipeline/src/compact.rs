//! Compaction: small objects of a partition become one, when it pays.
//!
//! Each object that it makes is at least `FACTOR` times as large as the largest of those that it replaces,
//! so an event is written again at most log4(target size / size of its first object) times, and a partition
//! is left with less than `FACTOR` objects of each size. Late events of past days count as all others: the
//! whole readable set is looked at. Rows and objects of one rewrite are bounded, which bounds the detail
//! object and the memory of whoever verifies it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use keytrail_model::manifest::MAX_REPLACED;
use keytrail_model::table::MAX_TABLES;
use keytrail_model::{Fatal, Partition};

use crate::readable::{Readable, SealedObject};
use crate::rewrite::{self, Rewriter, Sealer};
use crate::trail::Trail;

/// How much larger than its largest input an object has to be.
const FACTOR: u64 = 4;

/// Rows of an object that compaction makes, at most.
const MAX_ROWS: u64 = 1 << 20;

/// Objects that would become one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merge {
    /// Where they are.
    pub partition: Partition,
    /// They, in the order of the log.
    pub inputs: Vec<SealedObject>,
}

/// What a compaction did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Compacted {
    /// Objects that were replaced, and their bytes.
    pub replaced: (u64, u64),
    /// Objects that were made, and their bytes.
    pub made: (u64, u64),
    /// Rows that were written again.
    pub rows: u64,
    /// Rows that were left out, because another one equals them.
    pub dropped: u64,
    /// Why objects were left as they are.
    pub skipped: Vec<String>,
}

impl Compacted {
    /// Whether nothing was to be done.
    pub fn is_nothing(&self) -> bool {
        self.replaced.0 == 0 && self.skipped.is_empty()
    }
}

/// What pays now. Merging it can make more pay.
pub fn plan(readable: &Readable, target_bytes: u64) -> Vec<Merge> {
    let known = |p: &Partition| rewrite::known_dataset(p).is_some();
    let merge = |(partition, objects): (&Partition, &Vec<SealedObject>)| {
        let inputs = choose(objects, target_bytes)?;
        Some(Merge { partition: partition.clone(), inputs })
    };
    readable.partitions.iter().filter(|(partition, _)| known(partition)).filter_map(merge).collect()
}

/// Compacts a trail that nobody else writes to; gives the size of its log before.
pub fn compact(
    trail: &Trail<'_>,
    target_bytes: u64,
    threads: usize,
    stop: &AtomicBool,
) -> Result<(u64, Compacted), Fatal> {
    rewrite::upon(trail, |readable| {
        let size = readable.size;
        Ok((size, when_it_pays(trail, readable, target_bytes, threads, stop)?))
    })
}

/// Merges until nothing pays. The trail's readable set is `readable`, before and after; a `stop` ends it
/// between two objects. What is damaged is left alone and named.
pub fn when_it_pays(
    trail: &Trail<'_>,
    readable: &mut Readable,
    target_bytes: u64,
    threads: usize,
    stop: &AtomicBool,
) -> Result<Compacted, Fatal> {
    let rewriter = Rewriter::new(trail, threads);
    let mut done = Compacted::default();
    let mut damaged: Vec<Partition> = Vec::new();
    loop {
        let mut merges = plan(readable, target_bytes);
        merges.retain(|m| !damaged.contains(&m.partition));
        if merges.is_empty() || stop.load(Ordering::Relaxed) {
            return Ok(done);
        }
        let mut sealer = Sealer::new(trail);
        for merge in merges {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let manifest = match rewriter.merge(&merge.partition, &merge.inputs) {
                Ok(manifest) => manifest,
                Err(e) if rewrite::is_damage(&e) => {
                    done.skipped.push(e.message);
                    damaged.push(merge.partition);
                    continue;
                }
                Err(e) => return Err(e),
            };
            done.count(&merge.inputs, &manifest);
            sealer.add(readable, manifest)?;
        }
        sealer.finish(readable)?;
    }
}

impl Compacted {
    fn count(&mut self, inputs: &[SealedObject], manifest: &keytrail_model::Manifest) {
        let rows: u64 = inputs.iter().map(|o| o.rows.count).sum();
        let kept = manifest.rows.as_ref().map_or(0, |r| r.count);
        self.replaced.0 += inputs.len() as u64;
        self.replaced.1 += inputs.iter().map(|o| o.object.bytes).sum::<u64>();
        self.made.0 += 1;
        self.made.1 += manifest.object.as_ref().map_or(0, |o| o.bytes);
        self.rows += kept;
        self.dropped += rows.saturating_sub(kept);
    }
}

/// The most objects of a partition, the smallest first, whose merging pays; in the order of the log.
fn choose(objects: &[SealedObject], target_bytes: u64) -> Option<Vec<SealedObject>> {
    let mut by_size: Vec<&SealedObject> = objects.iter().collect();
    by_size.sort_by_key(|o| (o.object.bytes, o.leaf));
    let (mut bytes, mut rows, mut best) = (0u64, 0u64, 0);
    let mut tables = BTreeSet::new();
    for (n, object) in by_size.iter().take(MAX_REPLACED).enumerate() {
        // A manifest may claim any number.
        bytes = bytes.saturating_add(object.object.bytes);
        rows = rows.saturating_add(object.rows.count);
        tables.extend(&object.rows.tables);
        if bytes > target_bytes || rows > MAX_ROWS || tables.len() > MAX_TABLES {
            break;
        }
        if object.object.bytes.saturating_mul(FACTOR) <= bytes {
            best = n + 1;
        }
    }
    if best == 0 {
        return None;
    }
    let mut chosen: Vec<SealedObject> = by_size[..best].iter().map(|o| (*o).clone()).collect();
    chosen.sort_by_key(|o| o.leaf);
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use keytrail_model::Hash;
    use keytrail_model::manifest::{ObjectRef, RowsRef};

    use super::*;

    fn object(leaf: u64, bytes: u64, count: u64) -> SealedObject {
        SealedObject {
            leaf,
            object: ObjectRef { bytes, key: format!("{leaf}"), sha256: Hash::default() },
            rows: RowsRef {
                count,
                dataset: "aws.cloudtrail".into(),
                day: "2023-07-10".into(),
                events_root: Hash::default(),
                normalizers: Vec::new(),
                rows_root: Hash::default(),
                schema: 1,
                tables: Vec::new(),
                time_max: None,
                time_min: None,
            },
            archived: 0,
            rewrite: None,
        }
    }

    fn chosen(sizes: &[u64]) -> Option<Vec<u64>> {
        let objects: Vec<_> = (0..).zip(sizes).map(|(leaf, bytes)| object(leaf, *bytes, 1)).collect();
        choose(&objects, 1_000).map(|list| list.iter().map(|o| o.leaf).collect())
    }

    #[test]
    fn what_pays_is_merged_and_nothing_else() {
        assert_eq!(chosen(&[10, 10, 10]), None);
        assert_eq!(chosen(&[10, 10, 10, 10]), Some(vec![0, 1, 2, 3]));
        // One that is much larger than all others stays.
        assert_eq!(chosen(&[900, 10, 10, 10, 10]), Some(vec![1, 2, 3, 4]));
        assert_eq!(chosen(&[900, 10]), None);
        // Objects of the target's size stay.
        assert_eq!(chosen(&[600, 600, 600, 600]), None);
        assert_eq!(chosen(&[]), None);
        let huge = object(1, u64::MAX, u64::MAX);
        assert_eq!(choose(&[huge.clone(), huge.clone(), huge.clone(), huge], u64::MAX), None);
    }

    /// As many events as come: the objects that are left and the bytes that are written again stay in bounds.
    #[test]
    fn writing_again_is_bounded() {
        let (mut objects, mut written, target) = (Vec::new(), 0, 1 << 20);
        for leaf in 0..20_000u64 {
            objects.push(object(leaf, 100 + leaf % 50, 1));
            while let Some(inputs) = choose(&objects, target) {
                let bytes = inputs.iter().map(|o| o.object.bytes).sum();
                written += bytes;
                objects.retain(|o| !inputs.contains(o));
                objects.push(object(leaf, bytes, 1));
            }
        }
        let all: u64 = objects.iter().map(|o| o.object.bytes).sum();
        assert!(written < 7 * all, "{written} bytes for {all}");
        assert!(objects.len() < 30, "{}", objects.len());
    }
}
