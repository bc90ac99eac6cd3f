//! What the join costs an event: `cargo run --release -p keytrail-enrich --example cost`.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use keytrail_enrich::{Enricher, Format, Tables, Validity, read};
use keytrail_model::row::{Content, Provenance, RowBuffer};
use keytrail_model::{AuditEvent, Column, TableKind, Timestamp};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut keys, mut people) = ("arn,alias,owner,team,purpose,tier\n".to_owned(), "principal,person,team\n".to_owned());
    let mut networks = "network,zone,site\n0.0.0.0/0,internet,\n".to_owned();
    let arn = |n: u32| format!("arn:aws:kms:eu-west-1:111122223333:key/{n:08x}-0000-4000-8000-000000000000");
    for n in 0..100_000 {
        writeln!(keys, "{},alias/key-{n},owner {},team-{},purpose,tier", arn(n), n % 900, n % 200)?;
    }
    for n in 0..50_000 {
        writeln!(people, "arn:aws:iam::111122223333:user/person-{n},Person {n},team-{}", n % 200)?;
    }
    for n in 1..20_000 {
        writeln!(networks, "10.{}.{}.0/24,zone-{},site", n >> 8, n & 255, n % 30)?;
    }
    let start = Instant::now();
    let all = [(TableKind::Keys, &keys), (TableKind::Principals, &people), (TableKind::Networks, &networks)];
    let mut tables = Vec::new();
    for (kind, text) in all {
        let table = read(kind, kind.name(), Format::Csv, text.as_bytes(), Validity::default());
        tables.push(table.map_err(|p| p[0].to_string())?);
    }
    let tables = Tables::new(tables).map_err(|p| p[0].1.to_string())?;
    println!("170,000 rows read in {:?}", start.elapsed());
    let mut rows = RowBuffer::new();
    for n in 0..20_000u32 {
        let mut e = AuditEvent::new("aws.cloudtrail", "aws");
        let time = Timestamp(1_700_000_000_000_000 + i64::from(n));
        e.at(Some(time));
        let some = n.wrapping_mul(2_654_435_761);
        e.text(Column::KeytrailKeyArn, arn(some % 120_000));
        e.text(Column::KeytrailKeyId, format!("{:08x}-0000-4000-8000-000000000000", some % 120_000));
        e.text(Column::KeytrailActorArn, format!("arn:aws:iam::111122223333:user/person-{}", some % 60_000));
        e.text(Column::UserName, format!("person-{}", some % 60_000));
        e.text(Column::SourceIp, format!("10.{}.{}.7", some % 100, some % 256));
        e.text(Column::CloudAccountId, "111122223333");
        e.text(Column::CloudRegion, "eu-west-1");
        for column in [Column::EventAction, Column::EventProvider, Column::UserAgentOriginal, Column::EventId] {
            e.text(column, "some text of an event");
        }
        rows.push(&e, b"{}", Content::AsIs, Provenance { input: 0, offset: 0 });
    }
    let mut enricher = Enricher::new(&tables);
    let mut out = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        for row in rows.rows() {
            out.clear();
            enricher.enrich(row.head.dataset, row.head.time, row.columns, &mut out);
            black_box(&out);
        }
        println!("{} ns an event", start.elapsed().as_nanos() / rows.len() as u128);
    }
    Ok(())
}
