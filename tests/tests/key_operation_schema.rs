//! Key-operation records against their published JSON Schema, by a validator that nobody here wrote.

use std::fs;
use std::process::Command;

use keytrail_tests::load::{DAY_MICROS, Format, Load, Records};
use keytrail_tests::oracle::{oracle, oracle_in};
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number};

const VALIDATE: &str = r#"
import json, sys
from jsonschema import Draft202012Validator, FormatChecker
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema, format_checker=FormatChecker())
count = 0
for path in sys.argv[2:]:
    for number, line in enumerate(open(path), 1):
        count += 1
        for error in validator.iter_errors(json.loads(line)):
            sys.exit(f"{path}:{number}: {error.json_path}: {error.message}")
print(count)
"#;

#[test]
fn examples_and_load_follow_the_schema() {
    let folder = tempfile::tempdir().expect("scratch folder");
    let load = folder.path().join("load.ndjson");
    let mut records = Records::new(Load {
        seed: 9,
        format: Format::KeyOperation,
        events: 3000,
        start_micros: 20_458 * DAY_MICROS,
        days: 2,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    });
    let mut text = String::new();
    while records.next(&mut text) {
        text.push('\n');
    }
    fs::write(&load, text).expect("scratch file");
    let output = Command::new(tools::python())
        .args(["-c", VALIDATE])
        .arg(tools::root().join("schemas/key-operation.v1.schema.json"))
        .arg(tools::root().join("examples/key-operation/hsm-gateway.ndjson"))
        .arg(&load)
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3060");
}

/// The boundary is closed: what is almost a record is judged alike by the schema and by keytrail.
#[test]
fn keytrail_accepts_what_the_schema_does() {
    let trail = Trail::new();
    let file = trail.aside("changed.ndjson");
    oracle_in(&tools::root(), "key_operations", ["write".into(), tools::root(), file.clone()]);
    let summary = trail.run_json([file.as_os_str(), "--source".as_ref(), "key-operation".as_ref()]);

    let figures = oracle("key_operations", ["judge".into(), tools::root(), trail.data(), file]);

    assert_eq!(figures["records"], summary["read"]);
    assert_eq!(figures["accepted"], summary["accepted"]);
    assert!(number(&figures["valid"]) > 250 && number(&figures["records"]) > 2_500, "{figures}");
    assert!(number(&figures["stricter"]) < 100, "{figures}");
}
