//! Records that are wrong in themselves.

use std::fs;
use std::path::Path;

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use keytrail_tests::trail::{Trail, number};

use crate::{counted, entries, holds, ingest, lines, measured, name, raw, record, record_at, run, verifies};

fn fixture(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)).unwrap()
}

/// A record with one field replaced or added.
fn with(n: usize, field: &str, value: &str) -> String {
    let whole = record(n);
    let at = whole.find(&format!("\"{field}\":"));
    match at {
        None => format!("{},\"{field}\":{value}}}", &whole[..whole.len() - 1]),
        Some(at) => {
            let rest = &whole[at + field.len() + 3..];
            let end = if rest.starts_with('{') {
                rest.find('}').unwrap() + 1
            } else {
                rest.find([',', '}']).unwrap()
            };
            format!("{}\"{field}\":{value}{}", &whole[..at], &rest[end..])
        }
    }
}

/// Broken records among good ones, in every framing: the neighbours survive, the bad bytes are kept.
#[test]
fn broken_json_in_the_middle() {
    let (a, b) = (record(1), record(2));
    let torn = &record(3)[..200];
    for (text, bad) in [
        (format!("{a}\n{torn}\n{b}\n"), torn),
        (format!("{{\"Records\":[{a},{torn},{b}]}}"), ""),
        (format!("[{a},{torn},{b}]"), ""),
        (format!("{a}\n{torn}{b}\n"), torn),
    ] {
        let (counts, refused) = ingest(&text, &[]);
        assert_eq!((counts.accepted, counts.rejected), (2, 1), "{text}");
        let kept = String::from_utf8(refused[0].1.clone()).unwrap();
        assert!(kept.contains(torn) && (bad.is_empty() || kept == bad), "{kept}");
    }
    let pretty = |s: &str| s.replacen(",\"eventTime\"", ",\n  \"eventTime\"", 1).replacen('{', "{\n  ", 1);
    let text = format!("{}\n{}\n{}\n", pretty(&a), &pretty(&record(3))[..200], pretty(&b));
    let (counts, refused) = ingest(&text, &[]);
    assert_eq!((counts.accepted, counts.rejected), (2, 1), "{refused:?}");
}

/// One bad record between two good ones, for each kind of badness.
#[test]
fn one_bad_record_between_good_ones() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(5_000), close.repeat(5_000));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (with(9, "eventName", "5").into(), "field_type"),
        (with(9, "eventTime", "{}").into(), "field_type"),
        (with(9, "eventID", "[]").into(), "field_type"),
        (with(9, "userIdentity", "\"ann\"").into(), "field_type"),
        (with(9, "recipientAccountId", "111122223333").into(), "field_type"),
        (with(9, "resources", "{}").into(), "field_type"),
        (with(9, "sourceIPAddress", "1e999").into(), ""),
        (br#"{"eventVersion":"1.08","eventTime":"2023-07-10T11:42:20Z"}"#.to_vec(), "field_missing"),
        (with(9, "unread", &deep("[", "]")).into(), "json_too_deep"),
        (with(9, "userIdentity", &deep("{\"a\":", "}")).into(), "json_too_deep"),
        (with(9, "unread", "1,\"eventName\":\"Encrypt\"").into(), "json_duplicate_key"),
        (with(9, "unread", "\"\\ud800\"").into(), "json_lone_surrogate"),
        ([with(9, "unread", "\"").as_bytes(), b"\xff\xfe\"}"].concat(), ""),
        (with(9, "eventName", "\"\u{0}\"").into(), "json_broken"),
        (with(9, "eventName", "Decrypt").into(), "json_broken"),
        (b"\0\0\0\0".to_vec(), ""),
        (b"plain text".to_vec(), ""),
    ];
    for (bad, code) in cases {
        let text = [lines(0, 2).as_bytes(), &bad, b"\n", lines(2, 4).as_bytes()].concat();
        let (counts, refused) = ingest(&text, &[]);
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(400)]).into_owned();
        assert_eq!((counts.accepted, counts.rejected), (4, 1), "{shown}: {refused:?}");
        assert_eq!(refused[0].1, bad, "{shown}");
        assert!(code.is_empty() || refused[0].0 == code, "{shown}: {}", refused[0].0);
    }
    let invalid = [record(1).as_bytes(), b"\n", &with(9, "eventName", "\"?\"").into_bytes()].concat();
    let invalid: Vec<u8> = invalid.iter().map(|b| if *b == b'?' { 0xff } else { *b }).collect();
    let (counts, refused) = ingest(&invalid, &[]);
    assert_eq!((counts.accepted, refused[0].0.as_str()), (1, "utf8_invalid"));
}

/// What looks bad and is not: it is archived.
#[test]
fn odd_but_good() {
    for good in [
        with(9, "unread", "1e99999"),
        with(9, "unread", "123456789012345678901234567890"),
        with(9, "unread", "1,\"unread\":2"),
        with(9, "eventTime", "\"0000-01-01T00:00:00Z\""),
        with(9, "eventTime", "\"2005-12-31T23:59:59Z\""),
        with(9, "eventTime", "\"1969-07-20T20:17:40Z\""),
        with(9, "eventTime", "\"noon\""),
        with(9, "eventTime", "null"),
        format!("\u{feff}{}", record(9)),
    ] {
        let (counts, refused) = ingest(format!("{good}\n{}", lines(0, 2)), &[]);
        assert_eq!((counts.accepted, counts.rejected), (3, 0), "{good}: {refused:?}");
    }
    let trail = Trail::new();
    let input = trail.input("input", with(9, "eventTime", "\"0000-01-01T00:00:00Z\""));
    run(&trail, &[name(&input)]);
    assert!(trail.objects().iter().all(|o| o.contains("/day=undated/")), "{:?}", trail.objects());
    for future in ["9999-12-31T23:59:59Z", "9999-12-30T00:00:00+23:59"] {
        let (counts, refused) = ingest(record_at(9, future), &[]);
        assert_eq!((counts.rejected, refused[0].0.as_str()), (1, "time_future"), "{future}");
    }
}

#[test]
fn files_that_hold_no_record() {
    for (bytes, read, code) in [
        (&b""[..], 0, ""),
        (b" \n\r\n\t ", 0, ""),
        (b"\xEF\xBB\xBF", 0, ""),
        (b"{\"Records\":[]}", 0, ""),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x8f\xe2{\x91\0\xff", 1, "format_unknown"),
        (b"An essay.\nOf two lines.\n", 1, "format_unknown"),
    ] {
        let (counts, refused) = ingest(bytes, &[]);
        assert_eq!((counts.read, counts.rejected), (read, read), "{bytes:?}");
        assert!(
            refused.iter().all(|(c, b)| c == code && b.trim_ascii() == bytes.trim_ascii()),
            "{refused:?}"
        );
    }
}

/// Sources that this version does not read, whole; a mixture of those that it does; a wrong `--source`.
#[test]
fn sources() {
    let others = fixture("hostile/other-sources/input.ndjson");
    let (counts, refused) = ingest(&others, &[]);
    assert_eq!((counts.read, counts.rejected), (6, 6));
    for (line, (code, bytes)) in others.split(|b| *b == b'\n').zip(&refused) {
        assert_eq!((code.as_str(), line), ("format_unknown", &bytes[..]));
    }

    let vault = fixture("vault/openbao-transit/input.ndjson");
    let keys = fixture("key-operation/whole-epoch/input.ndjson");
    let kubernetes = fixture("kubernetes/secrets-and-rbac/input.ndjson");
    let gcp = fixture("gcp/keys-and-secrets/input.jsonl");
    let keyvault = fixture("keyvault/operations/input.ndjson");
    let n = |b: &[u8]| b.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count() as u64;
    let mut mixed = Vec::new();
    let all = [lines(0, 20).into_bytes(), vault, keys, kubernetes, gcp, keyvault];
    let total: u64 = all.iter().map(|b| n(b)).sum();
    let split: Vec<Vec<&[u8]>> = all.iter().map(|b| b.split(|b| *b == b'\n').collect()).collect();
    for i in 0..split.iter().map(Vec::len).max().unwrap() {
        for line in split.iter().filter_map(|s| s.get(i)) {
            mixed.extend_from_slice(line);
            mixed.push(b'\n');
        }
    }
    let (counts, refused) = ingest(&mixed, &[]);
    assert_eq!((counts.rejected, counts.accepted), (0, total), "{refused:?}");
    let (counts, _) = ingest(lines(0, 5), &["--source", "vault"]);
    assert_eq!((counts.read, counts.rejected), (5, 5));
}

/// 100 MB in one record: refused whole in bounded memory, and read when that is asked for.
#[test]
fn a_huge_record() {
    let huge = with(9, "unread", &format!("\"{}\"", "x".repeat(100_000_000)));
    let trail = Trail::new();
    let input = trail.input("input", format!("{}\n{huge}\n{}\n", record(1), record(2)));
    let done = measured(&trail, &["run", name(&input), "--json"]);
    let (_, counts, _) = counted(&done.ran);
    assert_eq!((counts.accepted, counts.rejected), (2, 6));
    assert!(done.peak_bytes < 400 << 20, "{} bytes", done.peak_bytes);
    let mut found = entries(&trail);
    found.sort_by_key(|e| e.offset);
    assert!(found.iter().all(|e| e.code == "record_too_large"));
    let mut kept = 0;
    // Entries with the same bytes are one: the middle pieces of these letters are alike.
    for entry in &found {
        let bytes = raw(&trail, entry);
        let at = entry.offset as usize - record(1).len() - 1;
        assert_eq!(&huge.as_bytes()[at..at + bytes.len()], bytes);
        kept += 1;
    }
    assert!((3..=6).contains(&kept));
    verifies(&trail);
    let done = measured(&trail, &["run", name(&input), "--max-record-size", "200MB", "--json"]);
    let (_, counts, _) = counted(&done.ran);
    assert_eq!((counts.accepted, counts.duplicates, counts.rejected), (1, 2, 0));
    verifies(&trail);
}

/// Distinct days in one file, an object each: 10 ms a day on two busy cores. `KEYTRAIL_DAYS=10000` is the long
/// form; days before 2006 share `undated`.
#[test]
fn thousands_of_days() {
    let days: u64 = std::env::var("KEYTRAIL_DAYS").map_or(2_000, |n| n.parse().unwrap());
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let text: String = (0..days as usize)
        .map(|n| record_at(n, &format!("{}T00:00:00Z", today.checked_sub((n as i64).days()).unwrap())) + "\n")
        .collect();
    let trail = Trail::new();
    let input = trail.input("input", text);
    let done = measured(&trail, &["run", name(&input), "--json"]);
    let (_, counts, _) = counted(&done.ran);
    assert_eq!((counts.accepted, counts.rejected), (days, 0));
    assert!(done.peak_bytes < 256 << 20, "{} bytes", done.peak_bytes);
    assert!(trail.objects().len() as u64 >= days.min(7_000));
    // The run has verified all of it.
    assert_eq!(number(&run(&trail, &[name(&input)]).2["duplicates"]), days);
}

/// 20,000 distinct bad records, and a million of the same.
#[test]
fn very_many_bad_records() {
    let distinct: String =
        (0..20_000).map(|n| format!("{{\"eventVersion\":\"1.08\",\"eventName\":{n}}}\n")).collect();
    let same = "{\"eventVersion\":\"1.08\",\"eventName\":7}\n".repeat(1_000_000);
    for (text, n, files) in [(distinct, 20_000, 20_000), (same, 1_000_000, 1)] {
        let trail = Trail::new();
        let input = trail.input("input", text);
        let done = measured(&trail, &["run", name(&input), "--json"]);
        let (code, counts, _) = counted(&done.ran);
        assert_eq!((code, counts.read, counts.rejected), (Some(65), n, n));
        assert!(done.peak_bytes < 256 << 20, "{} bytes", done.peak_bytes);
        assert_eq!(fs::read_dir(trail.data().join("quarantine")).unwrap().count(), files);
        holds(&trail, &[name(&input)], counts);
    }
    let mixed = format!("{}{}{}", lines(0, 50), "{\"eventVersion\":\n".repeat(50), lines(50, 100));
    let (counts, bad) = ingest(mixed, &[]);
    assert_eq!((counts.accepted, counts.rejected, bad.len()), (100, 50, 1));
}
