//! Numbers that are missing between records of one source (ARCHITECTURE rule 7): `verify` names exactly
//! those, `run` counts what is new, and what is refused or outside of a range is not called missing.

use std::fs;

use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

fn gaps(report: &Value) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().expect("a list");
    // An outcome that is missing leaves its intent alone, and a record that was changed breaks the chain.
    let expected = ["GAP", "ORPHAN_INTENT", "CHAIN_BREAK"];
    assert!(findings.iter().all(|f| expected.contains(&text(&f["code"]).as_str())), "{findings:?}");
    let gaps = findings.iter().filter(|f| f["code"] == "GAP");
    gaps.map(|f| (text(&f["element"]), text(&f["message"]))).collect()
}

/// A block of an HSM's log; `day` of January 2026.
fn block(reboots: u32, sequence: u32, day: u32) -> String {
    let micros = 1_767_225_600_000_000u64 + u64::from(day - 1) * 86_400_000_000 + u64::from(sequence);
    format!(
        "Time: 01/{day:02}/26 00:00:00.{sequence:06}, usecs:{micros}\nSequence No : {sequence:#x}\n\
         Reboot counter : {reboots:#x}\nCommand Type(hex) : CN_MGMT_CMD (0x0)\nOpcode : CN_LOGIN (0xd)\n\
         Session Handle : 0x7014006\nResponse : 0:HSM Return: SUCCESS\nLog type : MGMT_USER_DETAILS_LOG (2)\n\
         User Name : admin\nUser Type : CN_CRYPTO_OFFICER (2)\n\n"
    )
}

const HSM: &str =
    "[[sources]]\nname = 'hsm-a'\ndataset = 'aws.cloudhsm'\ninstance = 'hsm-a1b2c3'\nlocation = 'hsm*.log'\n";

#[test]
fn a_dropped_key_operation_is_named_until_it_comes() {
    let whole =
        fs::read_to_string(tools::root().join("examples/key-operation/hsm-gateway.ndjson")).expect("read");
    let dropped = |line: &&str| {
        let record: Value = serde_json::from_str(line).expect("JSON");
        record["source"] == "hsm-gateway-0001/partition-1"
            && [3, 4, 8].contains(&record["seq"].as_u64().expect("a number"))
    };
    let (missing, rest): (Vec<&str>, Vec<&str>) = whole.lines().partition(dropped);
    assert_eq!(missing.len(), 3);
    let trail = Trail::new();
    let ran =
        trail.keytrail(["run", "--json", trail.input("a.ndjson", rest.join("\n")).to_str().expect("UTF-8")]);
    assert_eq!(ran.json()["gaps"], 2);
    assert!(ran.stderr.contains("2 ranges of records are missing"), "{}", ran.stderr);
    // What was told is told by verify from then on, not by each run.
    let again = trail.run_json([trail.input("b.ndjson", rest[..20].join("\n"))]);
    assert_eq!(again.get("gaps"), None);

    let (code, report) = trail.verify_json::<&str>([]);
    let element = "keytrail.key_operation hsm-gateway-0001/partition-1".to_owned();
    assert_eq!(code, Some(1));
    assert_eq!(
        gaps(&report),
        [
            (element.clone(), "record 8 of epoch 1 is missing".to_owned()),
            (element.clone(), "records 3 to 4 of epoch 1 are missing, 2".to_owned()),
        ]
    );

    // One comes late and refused, two good: nothing is missing, and a refused record is not lost either.
    let refused = missing[0].replacen("\"phase\":", "\"phrase\":1,\"phase\":", 1);
    let late =
        trail.run_json([trail.input("late.ndjson", format!("{refused}\n{}\n{}\n", missing[1], missing[2]))]);
    assert_eq!((number(&late["accepted"]), number(&late["rejected"])), (2, 1));
    let (code, report) = trail.verify_json::<&str>([]);
    assert_eq!((code, gaps(&report)), (Some(1), vec![]));
}

#[test]
fn an_hsm_s_sequence_begins_anew_with_each_reboot_and_skips_none() {
    let trail = Trail::new();
    let config = trail.input("keytrail.toml", HSM);
    let run = |name: &str, blocks: &[(u32, u32, u32)]| {
        trail.input(name, blocks.iter().map(|(r, s, d)| block(*r, *s, *d)).collect::<String>());
        trail.run_json(["--config".as_ref(), config.as_os_str()])
    };
    // From the middle of a counter over a reboot: nothing is missing.
    let first = run("hsm-1.log", &[(0xe8, 0x1d, 1), (0xe8, 0x1e, 1), (0xe9, 0, 2), (0xe9, 1, 2)]);
    assert_eq!(first.get("gaps"), None);
    assert_eq!(trail.verify_json::<&str>([]).0, Some(0));

    let second = run("hsm-2.log", &[(0xe9, 4, 3), (0xea, 1, 4), (0xec, 0, 5)]);
    assert_eq!(second["gaps"], 3);
    let missing = [
        "no record of reboot counter 0xeb: how many are missing is not known",
        "record 0x0 of reboot counter 0xea is missing",
        "records 0x2 to 0x3 of reboot counter 0xe9 are missing, 2",
    ];
    let (code, report) = trail.verify_json::<&str>([]);
    assert_eq!(code, Some(1));
    assert_eq!(gaps(&report), missing.map(|m| ("aws.cloudhsm hsm-a1b2c3".to_owned(), m.to_owned())));

    let shown =
        trail.keytrail(["sources", "--json", "--config", config.to_str().expect("UTF-8")]).success().json();
    assert_eq!((&shown["sources"][0]["source"], &shown["sources"][0]["gaps"]), (&json!("hsm-a"), &json!(3)));

    // A range answers for what lies between its own records, whatever else is missing.
    for (from, to, expected) in [
        ("2026-01-01", "2026-01-03", vec![]),
        ("2026-01-02", "2026-01-04", vec![missing[2]]),
        ("2026-01-03", "2026-01-05", vec![missing[1]]),
        ("2026-01-04", "2026-01-06", vec![missing[0]]),
        ("2026-01-05", "2026-01-06", vec![]),
    ] {
        let (_, report) = trail.verify_json(["--from", from, "--to", to]);
        let found: Vec<String> = gaps(&report).into_iter().map(|(_, message)| message).collect();
        assert_eq!(found, expected, "{from} to {to}");
    }

    // A block that is refused was there.
    let refused = block(0xe9, 2, 3).replace("Response : 0:HSM Return: SUCCESS\n", "");
    trail.input("hsm-3.log", refused + &block(0xe9, 3, 3));
    let third = trail.run_json(["--config".as_ref(), config.as_os_str()]);
    assert_eq!((number(&third["accepted"]), number(&third["rejected"]), third.get("gaps")), (1, 1, None));
    let (_, report) = trail.verify_json::<&str>([]);
    assert_eq!(gaps(&report).len(), 2, "{report}");
}

/// AWS's documentation shows blocks of several HSMs: without an HSM's id they are of no sequence.
#[test]
fn blocks_of_unknown_hsms_have_no_gaps() {
    let trail = Trail::new();
    trail.run_json([tools::root().join("tests/fixtures/cloudhsm/audit-log-guide/input.txt")]);
    let (code, report) = trail.verify_json::<&str>([]);
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])));
    let unchecked = report["not_checked"].to_string();
    assert!(unchecked.contains("records of CloudHSM whose HSM is not known"), "{unchecked}");
}
