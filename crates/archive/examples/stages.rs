//! Where the archive's time goes: nanoseconds for each row and stage, on CloudTrail-like rows of 1.6 kB.
//!
//! `cargo run --release -p keytrail-archive --example stages [ROWS]`. Two figures a line: CPU time of the
//! main thread (Linux), which other load on the machine does not change, and time that passed. They are
//! of one run on one machine: compare them with each other, not with another day's.

use std::error::Error;
use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use keytrail_archive::{
    Entries, ObjectReader, ObjectWriter, PartitionIndex, Projection, ReadError, Selection, Sorter, UidIndex,
};
use keytrail_model::digest::of_row;
use keytrail_model::merkle::{RootBuilder, leaf_hash};
use keytrail_model::row::{Content, Provenance};
use keytrail_model::{AuditEvent, Column, Fatal, Hash, Partition, Row, RowBuffer, Timestamp, Uid};

const ROWS_OF_A_BUFFER: u64 = 4000;
const DAY: i64 = 86_400_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let n: u64 = std::env::args().nth(1).map_or(Ok(160_000), |a| a.parse())?;
    let mut dice = Dice(1);
    let buffers: Vec<_> =
        (0..n.div_ceil(ROWS_OF_A_BUFFER)).map(|i| events(&mut dice, i * ROWS_OF_A_BUFFER, 1)).collect();
    let raw: usize = buffers.iter().flat_map(RowBuffer::rows).map(|r| r.original.len()).sum();
    println!("{n} rows, {} bytes of original each", raw as u64 / n);

    let mut sorted = RowBuffer::new();
    buffers.iter().for_each(|b| sorted.append(b));
    timed("sort of one buffer", n, || sorted.sort());
    let rows: Vec<Row<'_>> = sorted.rows().collect();
    let mut object = None;
    for (name, slice, threads) in [
        ("write, slices of 32,000, 1 thread", 32_000, 1),
        ("write, slices of 32,000, 2 threads", 32_000, 2),
        ("write, slices of 2,000, 1 thread", 2_000, 1),
    ] {
        let done = timed(name, n, || write(&rows, slice, threads))?;
        println!("  {:.1} bytes a row", done.object.bytes as f64 / n as f64);
        object.get_or_insert(done);
    }
    let Some(object) = object else { return Ok(()) };
    timed("roots alone", n, || {
        let (mut a, mut b) = (RootBuilder::new(), RootBuilder::new());
        for r in &rows {
            a.push(leaf_hash(&r.head.hash.0));
            b.push(leaf_hash(&r.digest().0));
        }
        black_box((a.root(), b.root()));
    });

    let reader = ObjectReader::open(Arc::new(object.out))?;
    let all = |visit: &mut dyn FnMut(&keytrail_archive::StoredRow<'_>)| -> Result<(), ReadError> {
        for batch in reader.batches(&Projection::All, Selection::All) {
            batch?.rows().for_each(|r| visit(&r));
        }
        Ok(())
    };
    timed("read", n, || {
        all(&mut |r| {
            black_box(r.columns);
        })
    })?;
    timed("verify: read, hash, digest, roots", n, || -> Result<(), Box<dyn Error>> {
        let (mut a, mut b) = (RootBuilder::new(), RootBuilder::new());
        all(&mut |r| {
            let hash = Hash::of(r.original.unwrap_or_default());
            a.push(leaf_hash(&hash.0));
            b.push(leaf_hash(&of_row(&r.uid, &hash, r.columns).0));
        })?;
        let same = a.root() == object.rows.events_root && b.root() == object.rows.rows_root;
        if same { Ok(()) } else { Err("roots differ".into()) }
    })?;
    timed("read of group and uid", n, || Entries::read(&reader))?;
    drop(sorted);

    shuffled(n)?;
    deduplicate(n)
}

/// A file shuffled over 400 days, with the default budget.
fn shuffled(n: u64) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("keytrail-stages-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut sorter = Sorter::new(&folder, 64 << 20)?;
    let (mut slices, mut dice, mut spent) = (0u64, Dice(2), Spent::default());
    let mut out = |_: &Partition, rows: &[Row<'_>]| -> Result<(), Fatal> {
        slices += u64::from(!rows.is_empty());
        Ok(())
    };
    for i in 0..n.div_ceil(ROWS_OF_A_BUFFER) {
        let rows = events(&mut dice, i * ROWS_OF_A_BUFFER, 400);
        let start = Spent::now();
        sorter.push(rows, &mut out)?;
        spent.add(start.elapsed());
    }
    let runs = sorter.runs();
    let start = Spent::now();
    sorter.finish(&mut out)?;
    spent.add(start.elapsed());
    std::fs::remove_dir_all(&folder)?;
    spent.print(&format!("spill and merge, 400 days, {runs} runs, {slices} slices"), n);
    Ok(())
}

/// Ten sealed objects of a partition, 500,000 events each, asked for new events and replays.
fn deduplicate(n: u64) -> Result<(), Box<dyn Error>> {
    let mut partition = PartitionIndex::new();
    let mut dice = Dice(3);
    let mut old = Vec::new();
    for _ in 0..10 {
        let mut entries = Entries::new();
        for _ in 0..500_000 {
            let (group, uid) = (dice.roll(), uid(dice.roll()));
            entries.insert(group, &uid);
            if group % 16 == 0 {
                old.push((group, uid));
            }
        }
        let mut bytes = Vec::new();
        entries.write(&Hash::default(), &mut bytes)?;
        partition.add(UidIndex::open(Arc::new(bytes), true)?);
    }
    println!("  {:.1} MB for 5,000,000 sealed entries", partition.memory_bytes() as f64 / 1e6);
    let mut again = 0;
    timed("find and insert, 10 % replays", n, || -> Result<(), ReadError> {
        for i in 0..n {
            let (group, uid) = if i % 10 == 0 {
                old[dice.roll() as usize % old.len()]
            } else {
                (dice.roll(), uid(dice.roll()))
            };
            if partition.find(group, &uid)?.same {
                again += 1;
            } else {
                partition.insert(group, &uid);
            }
        }
        Ok(())
    })?;
    println!("  {again} of {n} were there");
    Ok(())
}

fn write(
    rows: &[Row<'_>],
    slice: usize,
    threads: usize,
) -> Result<keytrail_archive::Finished<Vec<u8>>, Fatal> {
    let head = rows[0].head;
    let partition = Partition { dataset: head.dataset.into(), day: head.day };
    let inputs = ["AWSLogs/111122223333/CloudTrail/eu-west-1/2023/07/10/a.json.gz".to_owned()];
    let mut w = ObjectWriter::new(partition, Vec::new(), threads)?;
    for part in rows.chunks(slice) {
        w.append(part, Timestamp(0), &inputs)?;
    }
    w.finish()
}

fn timed<T>(name: &str, n: u64, work: impl FnOnce() -> T) -> T {
    let start = Spent::now();
    let out = work();
    start.elapsed().print(name, n);
    out
}

/// Nanoseconds.
#[derive(Clone, Copy, Default)]
struct Spent {
    cpu: u64,
    wall: u64,
}

impl Spent {
    /// Since some moment.
    fn now() -> Self {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let cpu = stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Self { cpu, wall: START.elapsed().as_nanos() as u64 }
    }

    fn elapsed(self) -> Self {
        let now = Self::now();
        Self { cpu: now.cpu - self.cpu, wall: now.wall - self.wall }
    }

    fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.wall += other.wall;
    }

    fn print(self, name: &str, n: u64) {
        println!("{:>7} ns CPU {:>7} ns passed  {name}", self.cpu / n, self.wall / n);
    }
}

fn uid(n: u64) -> Uid {
    let mut uid = Uid([0; 20]);
    uid.0[..8].copy_from_slice(&n.to_be_bytes());
    uid.0[8..16].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    uid
}

/// CloudTrail-like events over so many days.
fn events(dice: &mut Dice, first: u64, days: u64) -> RowBuffer {
    const ACTIONS: [&str; 6] = ["Decrypt", "Encrypt", "GenerateDataKey", "DescribeKey", "Sign", "PutObject"];
    let mut rows = RowBuffer::new();
    for i in first..first + ROWS_OF_A_BUFFER {
        let time = (19_548 + (dice.roll() % days) as i64) * DAY + (dice.roll() % DAY as u64) as i64;
        let (user, key, action) = (dice.roll() % 300, dice.roll() % 80, ACTIONS[(dice.roll() % 6) as usize]);
        let id = format!("{:08x}-0000-4000-8000-{:012x}", dice.roll() as u32, i);
        let arn = format!("arn:aws:sts::111122223333:assumed-role/service-{}/user-{user}", user % 40);
        let key_id = format!("{key:08x}-12ab-34cd-56ef-1234567890ab");
        let key_arn = format!("arn:aws:kms:eu-west-1:111122223333:key/{key_id}");
        let ip = format!("10.{}.{}.{}", user % 8, user % 200, dice.roll() % 250);
        let agent = format!("aws-sdk-java/2.{}.0 Linux/5.10 OpenJDK_64-Bit_Server_VM/17", user % 30);
        let mut original = format!(
            "{{\"eventVersion\":\"1.08\",\"userIdentity\":{{\"type\":\"AssumedRole\",\"principalId\":\"AROAEXAMPLE{user:09}:user-{user}\",\
             \"arn\":\"{arn}\",\"accountId\":\"111122223333\",\"accessKeyId\":\"ASIA{:016X}\"}},\"eventTime\":\"{time}\",\
             \"eventSource\":\"kms.amazonaws.com\",\"eventName\":\"{action}\",\"sourceIPAddress\":\"{ip}\",\"userAgent\":\"{agent}\",\
             \"requestParameters\":{{\"keyId\":\"{key_arn}\",\"encryptionContext\":{{\"tenant\":\"t-{}\"}}}},\"requestID\":\"{:016x}{:016x}\",\
             \"eventID\":\"{id}\",\"tlsDetails\":{{\"tlsVersion\":\"TLSv1.3\",\"cipherSuite\":\"TLS_AES_128_GCM_SHA256\"}}",
            dice.roll() % 5000,
            dice.roll() % 900,
            dice.roll(),
            dice.roll(),
        );
        while original.len() < 1500 {
            original +=
                &format!(",\"field{}\":\"{:x}/some-value-that-repeats\"", original.len(), dice.roll() % 4096);
        }
        original += &format!(",\"sharedEventID\":\"{:016x}\"}}", dice.roll());
        let mut e = AuditEvent::new("aws.cloudtrail", "aws");
        e.at(Some(Timestamp(time)));
        for (column, text) in [
            (Column::CloudAccountId, "111122223333"),
            (Column::CloudProvider, "aws"),
            (Column::CloudRegion, "eu-west-1"),
            (Column::CloudServiceName, "kms"),
            (Column::EventAction, action),
            (Column::EventCode, "AwsApiCall"),
            (Column::EventId, &id),
            (Column::EventKind, "event"),
            (Column::EventOutcome, "success"),
            (Column::EventProvider, "kms.amazonaws.com"),
            (Column::KeytrailActionClass, "decrypt"),
            (Column::KeytrailActorAccountId, "111122223333"),
            (Column::KeytrailActorArn, &arn),
            (Column::KeytrailActorType, "AssumedRole"),
            (Column::KeytrailEncryptionContext, "{\"tenant\":\"t-1\"}"),
            (Column::KeytrailKeyArn, &key_arn),
            (Column::KeytrailKeyId, &key_id),
            (Column::KeytrailNormalizer, "cloudtrail/1"),
            (Column::KeytrailScope, "111122223333"),
            (Column::KeytrailSource, "cloudtrail"),
            (Column::SourceAddress, &ip),
            (Column::SourceIp, &ip),
            (Column::TlsCipher, "TLS_AES_128_GCM_SHA256"),
            (Column::TlsVersion, "1.3"),
            (Column::UserAgentOriginal, &agent),
            (Column::UserId, &arn[13..]),
            (Column::UserName, &arn[40..]),
        ] {
            e.text(column, text);
        }
        e.flag(Column::KeytrailReadOnly, true);
        e.flag(Column::KeytrailUndeclared, true);
        e.int(Column::KeytrailSchema, 1);
        e.add(Column::EventCategory, "database");
        e.add(Column::EventType, "access");
        e.add(Column::KeytrailResourceIds, key_arn.as_str());
        e.add(Column::RelatedIp, ip.as_str());
        e.add(Column::RelatedUser, arn.as_str());
        e.identity.key = vec![id.as_str().into()];
        rows.push(&e, original.as_bytes(), Content::AsIs, Provenance { input: 0, offset: i * 1600 });
    }
    rows
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
