//! `keytrail quarantine`: what was refused can be tried again.

use keytrail_tests::trail::Trail;

use crate::{counted, entries, lines, name, proven, raw, record, run, verifies};

/// Refused for a reason that is gone: the replay admits it, once; what is bad stays bad, in its own entry.
#[test]
fn a_replay_admits_what_is_good_now_and_adds_nothing_else() {
    let trail = Trail::new();
    let good = trail.input("good", lines(0, 5));
    let bad = trail.input("bad", format!("{}\n{{\"eventVersion\":\"1.08\",\n\0\0", record(7)));
    let picture = trail.input("picture", b"\x89PNG\r\n\x1a\n\0\0");
    let (code, counts, _) = run(&trail, &[name(&good), "--source", "vault"]);
    assert_eq!((code, counts.rejected), (Some(65), 5));
    run(&trail, &[name(&bad), name(&picture)]);
    let before = entries(&trail);

    let replay = || counted(&trail.keytrail(["quarantine", "replay", "--json"])).1;
    let first = replay();
    assert_eq!((first.accepted, first.rejected), (5, before.len() as u64 - 5));
    verifies(&trail);
    assert_eq!(entries(&trail), before);
    let files = proven(&trail);
    let second = replay();
    assert_eq!((second.accepted, second.duplicates), (0, 5));
    assert_eq!(proven(&trail), files);
    // The replayed event is the one that the input itself gives.
    assert_eq!(run(&trail, &[name(&good)]).1.duplicates, 5);
    verifies(&trail);
}

/// Too large for one run, not for the next; an entry is found by the first digits of its id.
#[test]
fn entries_are_shown_by_id() {
    let trail = Trail::new();
    let input = trail.input("input", record(1));
    let (code, counts, _) = run(&trail, &[name(&input), "--max-record-size", "100"]);
    assert_eq!((code, counts.read), (Some(65), counts.rejected));
    let mut found = entries(&trail);
    found.sort_by_key(|e| e.offset);
    let whole: Vec<u8> = found.iter().flat_map(|e| raw(&trail, e)).collect();
    assert_eq!(whole, record(1).as_bytes());
    assert_eq!(run(&trail, &[name(&input)]).1.accepted, 1);
    let shown = trail.keytrail(["quarantine", "show", &found[0].id[..16]]).success();
    assert!(shown.stdout.contains("record_too_large"), "{}", shown.stdout);
    let none = trail.keytrail(["quarantine", "show", "zz"]).exits(64);
    assert!(none.stderr.contains("no quarantine entry `zz`"), "{}", none.stderr);
}

/// What a refused container holds as a string is shown masked, whatever is torn off.
#[test]
fn entries_are_shown_without_the_secrets_of_the_records_in_them() {
    let trail = Trail::new();
    let of = |text: &str| serde_json::to_string(text).unwrap();
    let vault =
        r#"{"type":"request","time":"x","request":{"id":"1","data":{"plaintext":"aHVudGVyMg==","n":1}}}"#;
    let logged = format!(r#"{{"log":{},"stream":"stdout"}}"#, of(vault));
    let twice = format!(r#"{{"log":{},"stream":"stdout"}}"#, of(&logged));
    let torn = &twice[..twice.find("aHVu").unwrap() + 6];
    let text = format!("{logged}\n{twice}\n{torn}\n{}\n", &logged[40..]);
    let input = trail.input("docker.log", text);
    let (code, counts, _) = run(&trail, &[name(&input)]);
    assert_eq!((code, counts.rejected), (Some(65), 4));
    for entry in entries(&trail) {
        let shown = trail.keytrail(["quarantine", "show", &entry.id]).success().stdout;
        assert!(shown.contains("masked:"), "{shown}");
        assert!(!shown.contains("aHVu"), "{shown}");
    }
}
