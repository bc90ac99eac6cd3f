//! Rows for tests: made by seed, of all kinds of columns.

use keytrail_model::row::{Content, Provenance};
use keytrail_model::{AuditEvent, Column, Kind, Partition, Row, RowBuffer, Timestamp};

pub const CLOUDTRAIL: &str = "aws.cloudtrail";

/// A small generator of pseudo-random numbers (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
}

/// Appends an event; every column is set now and then, none always but those that normalizers set.
pub fn push(
    rows: &mut RowBuffer,
    dataset: &'static str,
    time: Option<Timestamp>,
    seed: u64,
    original: &[u8],
) {
    let mut dice = Dice(seed);
    let mut e = AuditEvent::new(dataset, "test");
    e.at(time);
    for column in Column::ALL {
        let free = column.derived()
            && !matches!(column, Column::Timestamp | Column::EventDataset | Column::EventModule);
        if !free || dice.below(3) == 0 {
            continue;
        }
        match column.kind() {
            Kind::Text | Kind::Binary => e.text(column, format!("{}-{}", column.name(), dice.below(7))),
            Kind::Int => e.int(column, dice.roll().cast_signed()),
            Kind::Bool => e.flag(column, dice.below(2) == 0),
            Kind::Time => {
                e.set(column, keytrail_model::Value::Time(Timestamp(dice.below(1 << 50).cast_signed())))
            }
            Kind::List => {
                (0..1 + dice.below(3)).for_each(|i| e.add(column, format!("{i}é-{}", dice.below(5))))
            }
        }
    }
    e.text(Column::KeytrailNormalizer, format!("test/{}", 1 + seed % 2));
    e.identity.key = vec![format!("key-{seed}").into()];
    let from = Provenance { input: (seed % 2) as u32, offset: seed * 10 };
    rows.push(&e, original, Content::AsIs, from);
}

pub fn time(text: &str) -> Option<Timestamp> {
    Some(Timestamp::parse(text).expect("a time"))
}

/// `n` rows of one day of CloudTrail, sorted.
pub fn day(n: u64, seed: u64) -> RowBuffer {
    let mut rows = RowBuffer::new();
    let mut dice = Dice(seed);
    let start = Timestamp::parse("2023-07-10T00:00:00Z").expect("a time").0;
    for i in 0..n {
        let t = Timestamp(start + dice.below(86_400_000_000).cast_signed());
        let original = format!("{{\"eventID\":\"{i}\",\"noise\":\"{:x}\"}}", dice.roll());
        push(&mut rows, CLOUDTRAIL, Some(t), seed.wrapping_mul(1 << 20) + i, original.as_bytes());
    }
    rows.sort();
    rows
}

pub fn partition_of(rows: &RowBuffer) -> Partition {
    let head = rows.row(0).head;
    Partition { dataset: head.dataset.into(), day: head.day }
}

pub fn all(rows: &RowBuffer) -> Vec<Row<'_>> {
    rows.rows().collect()
}

pub fn inputs() -> Vec<String> {
    vec!["logs/a.json.gz".into(), "-".into()]
}
