//! Identity is content (ARCHITECTURE rule 4): however the same records come in, the archive holds the
//! same events, each once.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use keytrail_tests::load::files::{self, Layout};
use keytrail_tests::load::{Format, Load};
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, copy_folder, number};
use serde_json::{Value, json};

/// Examples with all that makes identity hard: LookupEvents, conflicts, damaged and keyless records; and
/// load with replays that meet across files.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    copy_folder(&tools::root().join("examples"), folder);
    let load = Load {
        seed: 3,
        format: Format::Mixed,
        events: 3_000,
        start_micros: 20_458 * 86_400_000_000,
        days: 3,
        shuffle: true,
        replay_percent: 10,
        late_percent: 0,
    };
    files::write_folder(load, Layout::Lines, None, 4, &folder.join("load")).expect("load is written");
    let line = &VAULT_WITHOUT_ID;
    fs::write(folder.join("keyless.ndjson"), format!("{line}\n{line}\n{line}\n")).expect("written");
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Records, and among them: new rows, duplicates, rejects.
fn outcome(summary: &Value) -> [u64; 4] {
    ["read", "accepted", "duplicates", "rejected"].map(|name| number(&summary[name]))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn the_same_input_in_any_way_gives_the_same_events() {
    let first = Trail::new();
    let folder = first.aside("in");
    let paths = inputs(&folder);
    let summary = first.run_json([&folder]);
    let [read, accepted, _, rejected] = outcome(&summary);
    let events = first.events();
    assert_eq!(events.len() as u64, accepted);
    let quarantined = kept(&first);
    assert!(rejected > 0 && !quarantined.is_empty());

    // Again: nothing new, and the log is where it was. So it is with another object size, and with the
    // inputs one by one.
    for args in [
        vec![folder.clone().into_os_string()],
        vec![folder.clone().into(), "--object-size".into(), "100kB".into()],
        paths.iter().map(|p| p.clone().into_os_string()).collect(),
    ] {
        let again = first.run_json(args);
        assert_eq!(outcome(&again), [read, 0, read - rejected, rejected]);
        assert_eq!(again["log"], summary["log"]);
    }

    // Without what can be rebuilt.
    fs::remove_dir_all(first.data().join("state")).expect("state/ is there");
    let again = first.run_json([&folder]);
    assert_eq!((outcome(&again), &again["log"]), ([read, 0, read - rejected, rejected], &summary["log"]));
    assert_eq!((first.events(), kept(&first)), (events.clone(), quarantined.clone()));
    first.verify().exits(0);

    let same = |trail: &Trail, how: &str| {
        assert_eq!(trail.events(), events, "{how}");
        assert_eq!(kept(trail), quarantined, "{how}");
        trail.verify().exits(0);
        // The first trail's inputs add nothing to it.
        let again = trail.run_json([&folder]);
        assert_eq!(outcome(&again), [read, 0, read - rejected, rejected], "{how}");
    };

    let reversed = Trail::new();
    let copies = reversed.aside("elsewhere/by other names");
    let args: Vec<OsString> = (0..)
        .zip(paths.iter().rev())
        .map(|(i, path)| {
            let copy = copies.join(format!("{i:03}.log"));
            fs::create_dir_all(&copies).expect("made");
            fs::copy(path, &copy).expect("copied");
            copy.into_os_string()
        })
        .collect();
    reversed.run_json(args.into_iter().chain(["--threads".into(), "2".into()]));
    same(&reversed, "reversed, from other paths");

    let one_by_one = Trail::new();
    // Neighbours in time in different runs; the records of each file stay together.
    for third in 0..3 {
        for path in paths.iter().skip(third).step_by(3).collect::<Vec<_>>().chunks(8) {
            assert!([0, 65].map(Some).contains(&one_by_one.run(path).code));
        }
    }
    fs::remove_dir_all(one_by_one.data().join("state")).expect("state/ is there");
    same(&one_by_one, "in several runs");

    let compressed = Trail::new();
    for (i, path) in paths.iter().enumerate() {
        let bytes = fs::read(path).expect("read");
        if bytes.starts_with(&[0x1F, 0x8B]) {
            compressed.input(&format!("in/{i:03}.gz"), bytes);
        } else if i % 2 == 0 {
            // Two members, as rotation by appending makes them.
            let (head, tail) = bytes.split_at(bytes.len() / 3);
            compressed.input(&format!("in/{i:03}.gz"), [gzip(head), gzip(tail)].concat());
        } else {
            compressed
                .input(&format!("in/{i:03}.zst"), zstd::encode_all(bytes.as_slice(), 3).expect("memory"));
        }
    }
    compressed.run_json([compressed.aside("in")]);
    same(&compressed, "as gzip and zstd");
}

/// Quarantine entries: their ids follow from code and bytes.
fn kept(trail: &Trail) -> Vec<String> {
    let list = trail.keytrail(["quarantine", "list", "--json"]).success().json_lines();
    let mut ids: Vec<String> = list.iter().map(|entry| entry["id"].to_string()).collect();
    ids.sort();
    ids
}

#[test]
fn standard_input_is_an_input_like_any_other() {
    let trail = Trail::new();
    let line = format!("{VAULT_WITHOUT_ID}\n").repeat(2);
    let file = trail.input("a.ndjson", &line);
    assert_eq!(outcome(&trail.run_json([&file])), [2, 2, 0, 0]);
    for bytes in [line.clone().into_bytes(), gzip(line.as_bytes())] {
        let fed = trail.keytrail_fed(["run", "-", "--json"], &bytes).exits(0).json();
        assert_eq!(outcome(&fed), [2, 0, 2, 0]);
    }
}

/// Without the producer's key it is content plus the ordinal among identical records of one input.
#[test]
fn identical_records_without_a_key_are_as_many_events_as_one_input_holds() {
    for record in [VAULT_WITHOUT_ID, CLOUDTRAIL_WITHOUT_ID] {
        let trail = Trail::new();
        let copies = |n: usize| format!("{record}\n").repeat(n);
        let three = trail.input("three.ndjson", copies(3));
        assert_eq!(outcome(&trail.run_json([&three])), [3, 3, 0, 0]);
        assert_eq!(outcome(&trail.run_json([&three])), [3, 0, 3, 0]);
        let events = trail.events();
        assert_eq!(events.len(), 3);
        assert!(events.iter().all(|(_, hash)| *hash == events[0].1));
        // Two of them are the first two; a fourth is new. Twice in one run is a replay, too.
        let two = trail.input("two.ndjson", copies(2));
        assert_eq!(outcome(&trail.run_json([&two])), [2, 0, 2, 0]);
        let four = trail.input("four.ndjson", copies(4));
        assert_eq!(outcome(&trail.run_json([&four, &three, &four])), [11, 1, 10, 0]);
        // With whitespace, the same content; the ordinal counts byte-identical ones.
        let spaced = trail.input("spaced.ndjson", format!("{}\n", record.replace("\":", "\": ")));
        assert_eq!(outcome(&trail.run_json([&spaced])), [1, 0, 1, 0]);
        trail.verify().exits(0);
        assert_eq!(trail.events().len(), 4);
    }
}

/// S3 log files hold the event; LookupEvents answers hold it as a string: the string is the original.
#[test]
fn an_event_is_the_same_from_s3_and_from_lookup_events() {
    let inner = CLOUDTRAIL_WITHOUT_ID.replace(r#""eventType""#, r#""eventID":"e1/\u00e9 \"q\"","eventType""#);
    let wrapped = json!({
        "EventId": "e1", "EventName": "CreateAlias", "ReadOnly": "false", "EventTime": 1_767_607_200.0,
        "EventSource": "kms.amazonaws.com", "Username": "Alice", "Resources": [], "CloudTrailEvent": inner,
    });
    let trail = Trail::new();
    let forms = [
        ("s3.json", format!(r#"{{"Records":[{inner}]}}"#)),
        ("line.ndjson", format!("{inner}\n")),
        ("answer.json", serde_json::to_string_pretty(&json!({"Events": [wrapped]})).expect("JSON")),
        ("lookup.jsonl", format!("{wrapped}\n")),
        ("list.json", format!("[\n {inner}\n]")),
    ];
    let mut accepted = 1;
    for (name, bytes) in forms {
        let input = trail.input(name, bytes);
        let summary = trail.run_json([&input]);
        assert_eq!(outcome(&summary), [1, accepted, 1 - accepted, 0], "{name}");
        assert_eq!(summary["sources"][0]["source"], "cloudtrail", "{name}");
        accepted = 0;
    }
    let rows = trail.query("select decode(event_original) original from {archive}");
    assert_eq!(rows, [json!({"original": inner})]);
}

const VAULT_WITHOUT_ID: &str = concat!(
    r#"{"time":"2026-01-05T10:00:00.000000001Z","type":"request","auth":{"token_type":"default"},"#,
    r#""request":{"operation":"update","namespace":{"id":"root"},"path":"sys/audit/test"}}"#,
);

const CLOUDTRAIL_WITHOUT_ID: &str = concat!(
    r#"{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","principalId":"EX_PRINCIPAL_ID","#,
    r#""arn":"arn:aws:iam::111122223333:user/Alice","accountId":"111122223333","userName":"Alice"},"#,
    r#""eventTime":"2026-01-05T10:00:00Z","eventSource":"kms.amazonaws.com","eventName":"CreateAlias","#,
    r#""awsRegion":"us-east-1","sourceIPAddress":"192.0.2.7","requestParameters":null,"#,
    r#""responseElements":null,"readOnly":false,"eventType":"AwsApiCall","#,
    r#""recipientAccountId":"111122223333"}"#,
);
