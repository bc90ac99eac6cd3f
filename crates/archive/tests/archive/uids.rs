//! The index against a map in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keytrail_archive::uids::MAX_OTHERS;
use keytrail_archive::{Entries, Found, ObjectReader, ObjectWriter, PartitionIndex, ReadError, UidIndex};
use keytrail_model::{Hash, Timestamp, Uid};
use proptest::prelude::*;

use crate::rows::{Dice, all, day, inputs, partition_of};

fn uid(n: u64) -> Uid {
    let mut uid = Uid([0; 20]);
    uid.0[..8].copy_from_slice(&n.to_be_bytes());
    uid
}

fn index(entries: &[(u64, u64)], load_filter: bool) -> UidIndex {
    let mut all = Entries::new();
    entries.iter().for_each(|(g, u)| {
        all.insert(*g, &uid(*u));
    });
    let mut bytes = Vec::new();
    all.write(&Hash::of(b"object"), &mut bytes).unwrap();
    UidIndex::open(Arc::new(bytes), load_filter).unwrap()
}

type Known = BTreeMap<u64, BTreeSet<Uid>>;

fn expected(known: &Known, group: u64, of: u64) -> Found {
    let none = BTreeSet::new();
    let uids = known.get(&group).unwrap_or(&none);
    Found {
        same: uids.contains(&uid(of)),
        others: uids.iter().filter(|u| **u != uid(of)).take(MAX_OTHERS).copied().collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn finds_what_a_map_finds(
        seed in 0u64..1000, n in 0u64..3000, spread in prop::sample::select(vec![1u64, 40, u64::MAX]),
    ) {
        let mut dice = Dice(seed);
        let entries: Vec<_> = (0..n).map(|_| (dice.below(spread), dice.below(2000))).collect();
        let (loaded, on_disk) = (index(&entries, true), index(&entries, false));
        let mut memory = Entries::new();
        entries.iter().for_each(|(g, u)| { memory.insert(*g, &uid(*u)); });
        let mut known = Known::new();
        entries.iter().for_each(|(g, u)| { known.entry(*g).or_default().insert(uid(*u)); });
        prop_assert_eq!(loaded.count(), memory.len() as u64);
        for i in 0..200 {
            let (g, u) = match entries.get(i * 7) {
                Some((g, u)) if i % 3 > 0 => (*g, if i % 3 == 1 { *u } else { dice.below(2000) }),
                _ => (dice.below(spread), dice.below(2000)),
            };
            let want = expected(&known, g, u);
            prop_assert_eq!(&loaded.find(g, &uid(u)).unwrap(), &want);
            prop_assert_eq!(&on_disk.find(g, &uid(u)).unwrap(), &want);
            prop_assert_eq!(&memory.find(g, &uid(u)), &want);
        }
    }
}

/// A source that puts all events under one producer key gets no more work out of us for it.
#[test]
fn a_hostile_group_costs_no_more() {
    struct Counted(Vec<u8>, std::sync::atomic::AtomicUsize);
    impl keytrail_archive::ReadAt for Counted {
        fn size(&self) -> std::io::Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn read_at(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()> {
            self.1.fetch_add(buf.len(), std::sync::atomic::Ordering::Relaxed);
            keytrail_archive::ReadAt::read_at(&self.0, at, buf)
        }
    }
    let mut entries = Entries::new();
    (0..100_000).for_each(|u| {
        entries.insert(7, &uid(u));
    });
    let mut bytes = Vec::new();
    entries.write(&Hash::default(), &mut bytes).unwrap();
    let counted = Arc::new(Counted(bytes, 0.into()));
    let source: Arc<dyn keytrail_archive::ReadAt> = counted.clone();
    let index = UidIndex::open(source, true).unwrap();
    let before = counted.1.load(std::sync::atomic::Ordering::Relaxed);
    let found = index.find(7, &uid(99_999)).unwrap();
    assert!(found.same);
    assert_eq!(found.others, (0..8).map(uid).collect::<Vec<_>>());
    assert!(counted.1.load(std::sync::atomic::Ordering::Relaxed) - before < 2000);
}

#[test]
fn false_positives_are_rare() {
    let mut dice = Dice(5);
    let entries: Vec<_> = (0..50_000).map(|_| (dice.roll(), dice.roll())).collect();
    let mut all = Entries::new();
    entries.iter().for_each(|(g, u)| {
        all.insert(*g, &uid(*u));
    });
    let mut bytes = Vec::new();
    all.write(&Hash::default(), &mut bytes).unwrap();
    let per_entry = bytes.len() as f64 / 50_000.0;
    assert!(per_entry < 29.8, "{per_entry} bytes an entry");
    struct Reads(Vec<u8>, std::sync::atomic::AtomicUsize);
    impl keytrail_archive::ReadAt for Reads {
        fn size(&self) -> std::io::Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn read_at(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            keytrail_archive::ReadAt::read_at(&self.0, at, buf)
        }
    }
    let reads = Arc::new(Reads(bytes, 0.into()));
    let source: Arc<dyn keytrail_archive::ReadAt> = reads.clone();
    let index = UidIndex::open(source, true).unwrap();
    let before = reads.1.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..100_000 {
        assert_eq!(index.find(dice.roll(), &uid(1)).unwrap(), Found::default());
    }
    let positives = reads.1.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert!(positives < 1500, "{positives} of 100,000");
}

#[test]
fn damage_is_refused() {
    let mut entries = Entries::new();
    (0..1000).for_each(|n| {
        entries.insert(n << 53, &uid(n));
    });
    let mut bytes = Vec::new();
    entries.write(&Hash::of(b"object"), &mut bytes).unwrap();
    let open = |b: &[u8]| UidIndex::open(Arc::new(b.to_vec()), true);
    assert_eq!(open(&bytes).unwrap().object(), &Hash::of(b"object"));
    for len in [0, 10, 56, 500, bytes.len() - 1] {
        assert!(matches!(open(&bytes[..len]), Err(ReadError::Damaged(_))), "{len}");
    }
    let head = bytes.len() - 1000 * 28;
    for at in 0..head {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(open(&flipped).is_err(), "byte {at}");
        assert!(UidIndex::open(Arc::new(flipped), false).is_err(), "byte {at}");
    }
}

#[test]
fn a_lost_index_is_made_again_from_its_object() {
    let rows = day(1000, 4);
    let rows =
        (partition_of(&rows), all(&rows).iter().map(|r| (r.head.group, r.head.uid)).collect::<Vec<_>>(), {
            let mut w = ObjectWriter::new(partition_of(&rows), Vec::new(), 1).unwrap();
            w.append(&all(&rows), Timestamp(0), &inputs()).unwrap();
            w.finish().unwrap()
        });
    let (_, events, done) = rows;
    let mut partition = PartitionIndex::new();
    for (group, uid) in &events {
        assert_eq!(partition.find(*group, uid).unwrap(), Found::default());
        partition.insert(*group, uid);
    }
    let mut kept = Vec::new();
    partition.seal(&done.object.sha256, &mut kept).unwrap();
    assert!(partition.open_entries().is_empty());
    let object = ObjectReader::open(Arc::new(done.out)).unwrap();
    let mut again = Vec::new();
    Entries::read(&object).unwrap().write(&done.object.sha256, &mut again).unwrap();
    assert!(kept == again, "the same bytes");
    partition.add(UidIndex::open(Arc::new(kept), true).unwrap());
    for (group, uid) in &events {
        assert!(partition.find(*group, uid).unwrap().same);
        let other = partition.find(*group, &Uid([9; 20])).unwrap();
        assert_eq!((other.same, other.others), (false, vec![*uid]));
    }
}
