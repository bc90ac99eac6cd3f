//! Objects: what is written is what is read, and what is damaged is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keytrail_archive::{
    Digests, Finished, ObjectReader, ObjectWriter, Projection, ReadError, Rows, Selection, census,
};
use keytrail_model::digest::of_row;
use keytrail_model::merkle::root_of;
use keytrail_model::row::{Content, Provenance, text};
use keytrail_model::{AuditEvent, Column, Hash, Row, RowBuffer, Timestamp};
use parquet::basic::Encoding;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;

use crate::rows::{CLOUDTRAIL, Dice, all, day, inputs, partition_of, push, time};

fn write(slices: &[&[Row<'_>]], threads: usize) -> Finished<Vec<u8>> {
    let head = slices[0][0].head;
    let partition = keytrail_model::Partition { dataset: head.dataset.into(), day: head.day };
    let mut w = ObjectWriter::new(partition, Vec::new(), threads).expect("start");
    for slice in slices {
        w.append(slice, Timestamp(77), &inputs()).expect("append");
        w.end_group().expect("end of a row group");
    }
    w.finish().expect("finish")
}

fn open(bytes: &[u8]) -> Result<ObjectReader, ReadError> {
    ObjectReader::open(Arc::new(bytes.to_vec()))
}

/// Reads everything and compares it with the rows that were written, in order.
fn assert_reads_back(done: &Finished<Vec<u8>>, rows: &[Row<'_>]) {
    let reader = open(&done.out).expect("open");
    assert_eq!(reader.count(), rows.len() as u64);
    let (mut hashes, mut digests, mut n) = (Vec::new(), Vec::new(), 0);
    for batch in reader.batches(&Projection::All, Selection::All) {
        for got in batch.expect("batch").rows() {
            let row = rows[n];
            assert_eq!(got.number, n as u64);
            assert_eq!(got.uid, row.head.uid);
            assert_eq!(got.hash, Some(row.head.hash));
            assert_eq!(got.time, row.head.time);
            assert_eq!(got.group, Some(row.head.group));
            assert_eq!(got.ingested, Some(Timestamp(77)));
            let input = format!("{}@{}", inputs()[row.head.input as usize], row.head.offset);
            assert_eq!(got.input, Some(input.as_str()));
            assert_eq!(got.original, Some(row.original));
            assert_eq!(got.columns, row.columns);
            assert_eq!(Hash::of(got.original.unwrap()), row.head.hash);
            hashes.push(row.head.hash);
            digests.push(of_row(&got.uid, &row.head.hash, got.columns));
            n += 1;
        }
    }
    assert_eq!(n, rows.len());
    n = 0;
    let mut remembered = Digests::default();
    let reader = ObjectReader::in_memory(done.out.clone()).expect("open");
    for batch in reader.batches(&Projection::All, Selection::All) {
        for leaf in batch.expect("batch").leaves(&mut remembered) {
            let head = rows[n].head;
            assert_eq!((leaf.number, leaf.uid, leaf.time), (n as u64, head.uid, head.time));
            assert_eq!((leaf.hash, leaf.digest), (head.hash, rows[n].digest()));
            assert_eq!(leaf.dataset, Some(head.dataset));
            assert_eq!(leaf.original, Some(rows[n].original));
            n += 1;
        }
    }
    assert_eq!(n, rows.len());
    assert_eq!(done.rows.count, n as u64);
    assert_eq!(done.rows.events_root, root_of(hashes.iter().map(|h| &h.0[..])));
    assert_eq!(done.rows.rows_root, root_of(digests.iter().map(|h| &h.0[..])));
    assert_eq!(done.object.bytes, done.out.len() as u64);
    assert_eq!(done.object.sha256, Hash::of(&done.out));
}

#[test]
fn rows_of_all_kinds_come_back() {
    let rows = day(3000, 1);
    let rows = all(&rows);
    let done = write(&[&rows], 1);
    assert_reads_back(&done, &rows);
    assert_eq!(done.rows.normalizers, ["test/1", "test/2"]);
    assert_eq!(done.rows.time_min, rows[0].head.time.map(|t| t.0));
    assert_eq!(done.rows.time_max, rows[2999].head.time.map(|t| t.0));
    let first = done.object.key.rsplit('/').next().unwrap();
    assert!(done.object.key.starts_with("archive/dataset=aws.cloudtrail/day=2023-07-10/2023"), "{first}");
}

/// More than a page of rows, more distinct values than a dictionary holds, values that come and go.
#[test]
fn long_columns_come_back() {
    let mut rows = RowBuffer::new();
    for i in 0..23_000u64 {
        let mut e = AuditEvent::new(CLOUDTRAIL, "test");
        e.at(time("2023-07-10T00:00:00Z"));
        e.identity.key = vec![format!("key-{i}").into()];
        e.text(Column::KeytrailNormalizer, "test/1");
        if i % 3 != 0 {
            e.text(Column::UserAgentOriginal, format!("agent {i} {}", "long ".repeat(20)));
        }
        if i % 1_000 < 10 {
            e.text(Column::ErrorMessage, format!("{}{}", "\u{e9}".repeat(30), i % 7));
        }
        if i > 22_900 {
            e.text(Column::UserName, "late");
        }
        for n in 0..i % 4 {
            e.add(Column::RelatedHosts, format!("host {} {}", i / (1 + n), "long ".repeat(10)));
            e.add(Column::RelatedUser, format!("user {n}"));
        }
        let from = Provenance { input: 0, offset: i };
        rows.push(&e, format!("{i}").as_bytes(), Content::AsIs, from);
    }
    rows.sort();
    let rows = all(&rows);
    let slices: Vec<_> = rows.chunks(5_000).collect();
    let mut w = ObjectWriter::new(one_partition(&rows), Vec::new(), 1).expect("start");
    slices.iter().for_each(|slice| w.append(slice, Timestamp(77), &inputs()).expect("append"));
    let done = w.finish().expect("finish");
    assert_reads_back(&done, &rows);

    let file = SerializedFileReader::new(Bytes::from(done.out)).expect("open");
    let group = file.metadata().row_group(0);
    let bounds = |column: Column| {
        let Some(Statistics::ByteArray(s)) = group.column(column.index()).statistics() else { panic!() };
        let of = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8(b.to_vec()).unwrap());
        (of(s.min_bytes_opt()), of(s.max_bytes_opt()), s.null_count_opt(), s.min_is_exact())
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(bounds(Column::UserName), (text("late"), text("late"), Some(22_901), true));
    let cut = "\u{e9}".repeat(23);
    assert_eq!(
        bounds(Column::ErrorMessage),
        (Some(format!("{cut}\u{e9}")), Some(format!("{cut}\u{ea}")), Some(22_770), false)
    );
    assert_eq!(bounds(Column::CloudRegion), (None, None, Some(23_000), false));
    assert_eq!(bounds(Column::RelatedUser), (text("user 0"), text("user 2"), Some(5_750), true));
    let agents = bounds(Column::UserAgentOriginal);
    assert!(agents.0.unwrap().starts_with("agent 1 ") && agents.1.unwrap().starts_with("agent 9998 "));
    for column in [Column::UserAgentOriginal, Column::RelatedHosts] {
        let encodings: Vec<_> = group.column(column.index()).encodings().collect();
        assert_eq!(encodings, [Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY]);
    }
}

#[test]
fn odd_originals_come_back() {
    let mut rows = RowBuffer::new();
    let large = |byte: u8| vec![byte; 16 << 20];
    let mut noise = large(0);
    let mut dice = Dice(3);
    noise.iter_mut().for_each(|b| *b = dice.roll() as u8);
    for (i, original) in [b"".to_vec(), vec![0xff, 0xfe, 0], large(b'x'), noise, b"{}".to_vec(), large(0xff)]
        .iter()
        .enumerate()
    {
        push(&mut rows, CLOUDTRAIL, time("2023-07-10T00:00:00Z"), i as u64, original);
    }
    rows.sort();
    let rows = all(&rows);
    let done = write(&[&rows], 2);
    assert_reads_back(&done, &rows);
    assert!(done.out.len() < 17 << 20);
}

#[test]
fn undated_rows_have_a_place() {
    let mut rows = RowBuffer::new();
    push(&mut rows, CLOUDTRAIL, None, 1, b"none");
    push(&mut rows, CLOUDTRAIL, time("0000-01-01T00:00:00Z"), 2, b"year 0");
    push(&mut rows, CLOUDTRAIL, None, 3, b"none either");
    rows.sort();
    let rows = all(&rows);
    assert_eq!(rows[0].original, b"year 0", "rows without a time are last");
    let done = write(&[&rows], 1);
    assert_reads_back(&done, &rows);
    assert!(done.object.key.contains("/day=undated/undated-"));
}

#[test]
fn threads_and_runs_change_nothing() {
    let (a, b) = (day(2500, 5), day(700, 6));
    let (a, b) = (all(&a), all(&b));
    let one = write(&[&a, &b], 1);
    let four = write(&[&a, &b], 4);
    assert!(one.out == four.out, "the file does not depend on threads");
    let merged: Vec<_> = a.iter().chain(&b).copied().collect();
    assert_reads_back(&one, &merged);
    // Other versions of the file, other inputs and times: the same name.
    let mut w = ObjectWriter::new(one_partition(&a), Vec::new(), 1).unwrap();
    for slice in [&a, &b] {
        w.append(slice, Timestamp(1), &["x".into(), "y".into()]).unwrap();
    }
    let again = w.finish().unwrap();
    assert_eq!(again.object.key, one.object.key);
    assert_eq!(again.rows, one.rows);
    assert_ne!(again.object.sha256, one.object.sha256);
    assert_ne!(write(&[&b, &a], 1).object.key, one.object.key, "order counts");
}

fn one_partition(rows: &[Row<'_>]) -> keytrail_model::Partition {
    keytrail_model::Partition { dataset: rows[0].head.dataset.into(), day: rows[0].head.day }
}

#[test]
fn strangers_and_disorder_are_refused() {
    let rows = day(3, 1);
    let mut other = RowBuffer::new();
    push(&mut other, "vault.audit", rows.row(0).head.time, 9, b"x");
    let mut w = ObjectWriter::new(partition_of(&rows), Vec::new(), 1).unwrap();
    let e = w.append(&all(&other), Timestamp(0), &inputs()).unwrap_err();
    assert_eq!(
        e.message,
        "a row of `vault.audit`, `2023-07-10` came to partition \
         `archive/dataset=aws.cloudtrail/day=2023-07-10/`"
    );
    let mut backwards = all(&rows);
    backwards.reverse();
    let e = w.append(&backwards, Timestamp(0), &inputs()).unwrap_err();
    assert!(e.message.ends_with("came out of order"), "{e}");
    let e = w.append(&all(&rows), Timestamp(0), &[]).unwrap_err();
    assert!(e.message.contains("the batch has 0"), "{e}");

    // None of it is in the object, and what came before is.
    let (first, last) = (all(&rows), day(3, 2));
    w.append(&first, Timestamp(0), &inputs()).unwrap();
    w.append(&all(&last), Timestamp(0), &[]).unwrap_err();
    let done = w.finish().unwrap();
    let reader = open(&done.out).unwrap();
    let read = reader.batches(&Projection::All, Selection::All).map(|b| b.unwrap().len()).sum::<usize>();
    assert_eq!((done.rows.count, read), (3, 3));
}

#[test]
fn rows_are_found_and_times_prune() {
    let slices: Vec<_> = (0..4).map(|i| day(800, 20 + i)).collect();
    let mut merged: Vec<_> = slices.iter().flat_map(|s| s.rows()).collect();
    merged.sort_by_key(|r| r.head.sort_key());
    let parts: Vec<_> = merged.chunks(800).collect();
    let done = write(&parts, 2);
    let reader = open(&done.out).unwrap();
    assert_eq!(reader.row_groups(), 4);
    for n in [0, 799, 800, 1234, 3199] {
        let number = reader.find(&merged[n].head.uid).unwrap();
        assert_eq!(number, Some(n as u64));
        let mut batches = reader.batches(&Projection::All, Selection::Row(n as u64));
        let batch = batches.next().unwrap().unwrap();
        assert_eq!(batch.len(), 1);
        let row = batch.rows().next().unwrap();
        assert_eq!((row.number, row.original), (n as u64, Some(merged[n].original)));
        assert!(batches.next().is_none());
    }
    assert_eq!(reader.find(&keytrail_model::Uid::default()).unwrap(), None);
    assert!(reader.batches(&Projection::All, Selection::Row(3200)).next().is_none());

    let only = Projection::Columns(vec![Column::Timestamp]);
    let (from, to) = (merged[1000].head.time.unwrap(), merged[1200].head.time.unwrap());
    let got: Vec<u64> = reader
        .batches(&only, Selection::Time { from, to })
        .flat_map(|b| b.unwrap().rows().map(|r| r.number).collect::<Vec<_>>())
        .collect();
    assert_eq!((got[0], got.len()), (800, 800), "one row group of four");
}

/// Rows of a row group ascend: readers prune by it.
#[test]
fn a_slice_goes_on_where_the_last_one_ended_or_begins_a_row_group() {
    let rows = day(900, 30);
    let mut sorted = all(&rows);
    sorted.sort_by_key(|r| r.head.sort_key());
    let (first, last) = sorted.split_at(450);
    for (slices, groups) in [([first, last], 1), ([last, first], 2)] {
        let mut w = ObjectWriter::new(partition_of(&rows), Vec::new(), 1).unwrap();
        for slice in slices {
            w.append(slice, Timestamp(77), &inputs()).unwrap();
        }
        assert_eq!((w.row_groups(), w.count()), (groups, 900));
        assert!(w.size_bytes() > 10_000);
        let done = w.finish().unwrap();
        let reader = open(&done.out).unwrap();
        assert_eq!(reader.row_groups(), groups);
        let hashes: Vec<_> = reader
            .batches(&Projection::All, Selection::All)
            .flat_map(|b| b.unwrap().rows().map(|r| r.hash.unwrap()).collect::<Vec<_>>())
            .collect();
        assert_eq!(hashes, slices.concat().iter().map(|r| r.head.hash).collect::<Vec<_>>());
    }
}

/// Every damage is an error or leaves the rows as they were; nothing panics and nothing is silent where
/// a checksum is compared: that is what the object's SHA-256 is for.
#[test]
fn damage_is_told() {
    let rows = day(300, 9);
    let done = write(&[&all(&rows)], 1);
    let read_all = |bytes: &[u8]| -> Result<usize, ReadError> {
        let reader = open(bytes)?;
        let mut n = 0;
        for batch in reader.batches(&Projection::All, Selection::All) {
            n += batch?.len();
        }
        Ok(n)
    };
    assert_eq!(read_all(&done.out), Ok(300));
    for len in [0, 1, 4, 8, 100, done.out.len() / 2, done.out.len() - 9, done.out.len() - 1] {
        let e = read_all(&done.out[..len]).unwrap_err();
        assert!(matches!(e, ReadError::Damaged(_)), "{len}: {e}");
    }
    let mut dice = Dice(11);
    let mut told = 0;
    for _ in 0..400 {
        let mut bytes = done.out.clone();
        let at = dice.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.below(8);
        told += usize::from(read_all(&bytes).is_err());
    }
    assert!(told > 80, "{told} of 400 flips were told");
}

#[test]
fn a_failing_store_is_no_damage() {
    struct Broken(Vec<u8>);
    impl keytrail_archive::ReadAt for Broken {
        fn size(&self) -> std::io::Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
            Err(std::io::Error::other("cable pulled"))
        }
    }
    let Err(ReadError::Io(e)) = ObjectReader::open(Arc::new(Broken(vec![0; 100]))) else {
        panic!("expected an error of the store")
    };
    assert_eq!(e.to_string(), "Fatal.Store: archive object: cable pulled");
}

#[test]
fn a_full_disk_is_told_as_such() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let rows = day(3000, 1);
    let mut w = ObjectWriter::new(partition_of(&rows), Full, 1).unwrap();
    let e = w.append(&all(&rows), Timestamp(0), &inputs()).and_then(|()| w.end_group()).unwrap_err();
    assert_eq!(e.code, "Retryable.StoreFull");
}

/// Row groups of one source are counted from the footer, others from their rows; both say the same.
#[test]
fn a_census_counts_sources() {
    let rows = day(600, 9);
    let rows: Vec<Row<'_>> = all(&rows);
    let source = |row: &Row<'_>| text(row.columns, Column::KeytrailSource).unwrap_or_default().to_owned();
    let mut expected: BTreeMap<String, Rows> = BTreeMap::new();
    for row in &rows {
        expected.entry(source(row)).or_default().add(Rows {
            count: 1,
            newest: row.head.time,
            heard: Some(Timestamp(77)),
        });
    }
    assert!(expected.len() > 2, "{expected:?}");
    let mixed = write(&[&rows], 1);
    assert_eq!(census(&open(&mixed.out).expect("open")).expect("census"), expected);

    // A group for each source; the one without a name has nulls, and is read.
    let mut names: Vec<String> = rows.iter().map(source).collect();
    names.sort();
    names.dedup();
    for named_only in [true, false] {
        let groups: Vec<Vec<Row<'_>>> = names
            .iter()
            .filter(|name| !named_only || !name.is_empty())
            .map(|name| rows.iter().filter(|row| source(row) == **name).copied().collect())
            .collect();
        let slices: Vec<&[Row<'_>]> = groups.iter().map(Vec::as_slice).collect();
        let mut expected = expected.clone();
        expected.retain(|name, _| !named_only || !name.is_empty());
        assert_eq!(census(&open(&write(&slices, 1).out).expect("open")).expect("census"), expected);
    }
}
