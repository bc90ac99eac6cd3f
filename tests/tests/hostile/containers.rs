//! Records in containers: each is counted by itself, and what is refused is kept with what holds it alone.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use keytrail_tests::trail::{Trail, number};

use crate::{consistent, counted, ingest, name, run};

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/containers").join(path)).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn each_record_in_them_is_counted() {
    for (case, read, rejected) in [
        ("subscription-cloudtrail/input.json", 5, 0),
        ("subscription-cloudhsm/input.json", 8, 1),
        ("export-cloudhsm/input.txt", 6, 0),
        ("export-cloudtrail/input.txt", 4, 1),
        ("eventbridge/input.jsonl", 3, 1),
        ("nested/input.jsonl", 15, 0),
        ("hostile/input.jsonl", 38, 36),
    ] {
        let bytes = fixture(case);
        for bytes in [gzip(&bytes), bytes] {
            let (counts, refused) = ingest(&bytes, &[]);
            assert_eq!((counts.read, counts.rejected), (read, rejected), "{case}: {refused:?}");
        }
    }
}

/// The HSM is not in the block: rederivation takes it from the row and finds the rest in the original.
#[test]
fn what_only_the_container_says_is_rederived() {
    let trail = Trail::new();
    let input = trail.input("input", fixture("subscription-cloudhsm/input.json"));
    run(&trail, &[name(&input)]);
    consistent(&trail.verify_json(["--rederive"]).1);
}

#[test]
fn control_messages_are_no_records() {
    let trail = Trail::new();
    let all = fixture("subscription-cloudtrail/input.json");
    let end = all.iter().position(|b| *b == b'}').unwrap() + 3;
    let input = trail.input("input", &all[..end]);
    let (_, counts, summary) = counted(&trail.run([name(&input), "--json"]));
    assert_eq!((counts.read, number(&summary["control_messages"])), (0, 1));
    let (_, counts, _) = run(&trail, &[name(&trail.input("all", &all))]);
    assert_eq!((counts.read, counts.accepted), (5, 5));
}
