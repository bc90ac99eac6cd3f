//! What `keytrail verify --cloudtrail-digests` says of buckets that are whole, damaged or forged.

mod aws;
mod hostile;

use std::fs;
use std::path::Path;

use keytrail_tests::digests::{BUCKET, Bucket, Digest, MAIN, Scope, gzip};
use keytrail_tests::oracle::oracle;
use keytrail_tests::trail::{Trail, copy_folder, text};
use serde_json::{Value, json};

/// 2026-03-01T20:01:31Z: a chain of six hours passes midnight.
const FIRST: i64 = 1_772_395_291;
const HOUR: i64 = 3600;

/// A trail that ingested a bucket, and the key file.
struct Case {
    trail: Trail,
    bucket: Bucket,
    keys: String,
}

impl Case {
    fn new(fill: impl FnOnce(&Bucket)) -> Self {
        let trail = Trail::new();
        let bucket = Bucket::new(trail.aside("mirror"));
        let keys =
            trail.input("aws.keys", bucket.public_keys(FIRST - 100 * HOUR, FIRST + 1000 * HOUR).to_string());
        fill(&bucket);
        let keys = keys.to_str().expect("UTF-8").to_owned();
        Self { trail, bucket, keys }
    }

    /// Six hours of two log files each, all ingested.
    fn six_hours() -> (Self, Vec<Digest>) {
        let mut chain = Vec::new();
        let case = Self::new(|bucket| {
            chain = bucket.chain(&MAIN, FIRST, 6, 2);
            bucket.write(&chain);
            bucket.write_head(&chain[5]);
        });
        case.ingest();
        (case, chain)
    }

    fn ingest(&self) {
        let logs: Vec<_> = walk(&self.bucket.root)
            .into_iter()
            .filter(|p| p.to_str().is_some_and(|p| p.contains("/CloudTrail/")))
            .collect();
        self.trail.run(logs).success();
    }

    /// Verifies with another state of the bucket, made from this one.
    fn with(&self, change: impl FnOnce(&Bucket)) -> (Option<i32>, Value) {
        let copy = tempfile::tempdir().expect("a folder");
        copy_folder(&self.bucket.root, copy.path());
        let bucket = Bucket::new(copy.path().to_owned());
        change(&bucket);
        self.verify(copy.path(), &["--cloudtrail-keys", &self.keys])
    }

    fn verify(&self, mirror: &Path, args: &[&str]) -> (Option<i32>, Value) {
        let mirror = mirror.to_str().expect("UTF-8");
        self.trail.verify_json(["--cloudtrail-digests", mirror].iter().chain(args))
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Codes and elements of the findings that count.
fn findings(report: &Value) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().map(|f| (text(&f["code"]), text(&f["element"]))).collect()
}

fn found(report: &(Option<i32>, Value), expected: &[(&str, &str)]) {
    let mut expected: Vec<_> = expected.iter().map(|(c, e)| ((*c).to_owned(), (*e).to_owned())).collect();
    let mut found = findings(&report.1);
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{}", report.1);
    assert_eq!(report.0, Some(i32::from(!expected.is_empty())), "{}", report.1);
}

fn not_checked(report: &Value) -> String {
    report["not_checked"].as_array().expect("a list").iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Links and signs the digests from one on again.
fn re_signed(bucket: &Bucket, chain: &mut [Digest], from: usize, key: usize) {
    for i in from..chain.len() {
        if i > 0 {
            let (before, rest) = chain.split_at_mut(i);
            let json = &mut rest[0].json;
            json["previousDigestSignature"] = json!(before[i - 1].signature);
            json["previousDigestHashValue"] = json!(sha256(&before[i - 1].json.to_string()));
        }
        bucket.sign(&mut chain[i], key);
    }
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    keytrail_tests::trail::hex(&sha2::Sha256::digest(text))
}

#[test]
fn whole_chains_of_regions_accounts_and_organisations_are_good() {
    let member = Scope {
        prefix: "logs/",
        organisation: "o-a1b2c3d4e5/",
        account: "444455556666",
        trail: "org_trail",
        ..MAIN
    };
    let scopes =
        [MAIN, Scope { region: "eu-central-1", ..MAIN }, member, Scope { region: "ap-south-1", ..member }];
    let mut newest = Vec::new();
    let case = Case::new(|bucket| {
        for scope in &scopes {
            // Two days; in one region nothing happens, and its digests list nothing.
            let chain = bucket.chain(scope, FIRST, 48, i64::from(scope.region != "ap-south-1"));
            bucket.write(&chain);
            newest.push(chain[47].clone());
        }
    });
    case.ingest();
    let keys = ["--cloudtrail-keys", &case.keys];

    let report = case.verify(&case.bucket.root, &keys);
    found(&report, &[]);
    let figures = &report.1["cloudtrail_digests"];
    for (name, n) in [
        ("digests", 192),
        ("hours_expected", 192),
        ("hours_present", 192),
        ("signatures_good", 188),
        ("files_listed", 144),
        ("files_ingested", 144),
        ("files_ingested_by_name", 0),
    ] {
        assert_eq!(figures[name], json!(n), "{name}");
    }
    let chains = figures["chains"].as_array().expect("a list");
    assert_eq!(chains.len(), 4);
    assert_eq!(chains[0]["trail"], "111122223333_CloudTrail-Digest_eu-central-1_main_us-east-1");
    assert_eq!(chains[0]["buckets"], json!([BUCKET]));
    // The newest digests' signatures are in metadata that a mirror does not have.
    for digest in &newest {
        let expected = format!("signature of `{}`", digest.object);
        assert!(not_checked(&report.1).contains(&expected), "{}", report.1);
        case.bucket.write_head(digest);
    }
    let report = case.verify(&case.bucket.root, &keys);
    found(&report, &[]);
    assert_eq!(report.1["cloudtrail_digests"]["signatures_good"], 192);
    assert!(!not_checked(&report.1).contains("signature"), "{}", report.1);

    // Without keys: links and hashes alone.
    let report = case.verify(&case.bucket.root, &[]);
    found(&report, &[]);
    assert_eq!(report.1["cloudtrail_digests"]["signatures_good"], 0);
    assert!(not_checked(&report.1).contains("signatures of 48 CloudTrail digests"), "{}", report.1);

    // For people.
    let mirror = case.bucket.root.to_str().expect("UTF-8");
    let said =
        case.trail.keytrail(["verify", "--cloudtrail-digests", mirror, keys[0], keys[1]]).success().stdout;
    let line = "cloudtrail 192 digests in 4 chains of trail-bucket; 192 of 192 hours, 192 signatures good; \
                144 log files listed, 144 ingested, 0 more by name";
    assert!(said.contains(line), "{said}");
}

#[test]
fn digests_that_are_changed_dropped_or_moved_are_named() {
    let (case, chain) = Case::six_hours();
    let object = |i: usize| chain[i].object.as_str();
    found(&case.with(|_| {}), &[]);

    // A listed hash is changed in the middle, and at the end.
    let flipped = |i: usize| {
        let mut digest = chain[i].clone();
        digest.json["logFiles"] = json!([]);
        digest
    };
    let mut report = case.with(|b| b.write([&flipped(2)]));
    report.1["findings"].as_array_mut().expect("a list").retain(|f| f["code"] != "FILE_UNLISTED");
    found(&report, &[("CHAIN_BREAK", object(2)), ("SIG_INVALID", object(2))]);
    let mut report = case.with(|b| b.write([&flipped(5)]));
    report.1["findings"].as_array_mut().expect("a list").retain(|f| f["code"] != "FILE_UNLISTED");
    found(&report, &[("SIG_INVALID", object(5))]);

    // Two neighbours that are missing are two findings.
    found(
        &case.with(|b| {
            b.remove(object(2));
            b.remove(object(3));
        }),
        &[("GAP", object(2)), ("GAP", object(3))],
    );
    found(&case.with(|b| b.remove(object(0))), &[("GAP", object(0))]);
    // The newest four, while their log files are there: the last three may still have been to come.
    let removed = case.with(|b| {
        (2..6).for_each(|i| b.remove(object(i)));
    });
    found(&removed, &[("GAP", object(2))]);
    assert!(
        not_checked(&removed.1).contains("no digest of their account and region covers"),
        "{}",
        removed.1
    );

    // Two digests in each other's place.
    let swapped = case.with(|b| {
        b.put(object(1), gzip(chain[3].json.to_string().as_bytes()));
        b.put(object(3), gzip(chain[1].json.to_string().as_bytes()));
    });
    found(&swapped, &[("OBJECT_MISMATCH", object(1)), ("OBJECT_MISMATCH", object(3))]);

    // A digest that says that the chain starts with it, signed with the true key.
    let restarted = case.with(|b| {
        let mut forged = chain.clone();
        for name in ["Bucket", "Object"].map(|n| format!("previousDigestS3{n}")) {
            forged[4].json[name] = Value::Null;
        }
        forged[4].json["previousDigestHashValue"] = Value::Null;
        forged[4].json["previousDigestSignature"] = Value::Null;
        b.sign(&mut forged[4], 0);
        re_signed(b, &mut forged, 5, 0);
        b.write(&forged[4..]);
        b.write_head(&forged[5]);
        b.remove(object(3));
        b.remove(object(2));
    });
    found(&restarted, &[("CHAIN_BREAK", object(4)), ("GAP", object(2)), ("GAP", object(3))]);

    // A second digest for an hour.
    let twin = Digest { object: MAIN.digest(FIRST + 3 * HOUR + 1), ..chain[3].clone() };
    let forked = case.with(|b| {
        let mut twin = twin.clone();
        twin.json["digestS3Object"] = json!(twin.object);
        b.sign(&mut twin, 0);
        b.write([&twin]);
    });
    found(&forked, &[("FORK", &twin.object)]);
}

#[test]
fn signatures_by_other_keys_or_out_of_their_time_are_named() {
    let (case, chain) = Case::six_hours();
    let object = |i: usize| chain[i].object.as_str();
    // The whole chain again from one digest on, signed with another key that claims the true fingerprint.
    let forged = case.with(|b| {
        let mut forged = chain.clone();
        re_signed(b, &mut forged, 3, 1);
        b.write(&forged);
        b.write_head(&forged[5]);
    });
    found(&forged, &[("SIG_INVALID", object(3)), ("SIG_INVALID", object(4)), ("SIG_INVALID", object(5))]);

    // Keys that were not valid then, and keys that are not given.
    let keys = |value: Value| {
        let path = case.trail.input("other.keys", value.to_string());
        case.verify(&case.bucket.root, &["--cloudtrail-keys", path.to_str().expect("UTF-8")])
    };
    let rotated = keys(case.bucket.public_keys(FIRST - HOUR, FIRST + 2 * HOUR));
    found(&rotated, &[("SIG_INVALID", object(3)), ("SIG_INVALID", object(4)), ("SIG_INVALID", object(5))]);
    let mut other = case.bucket.public_keys(FIRST - HOUR, FIRST + 99 * HOUR);
    other["PublicKeyList"].as_array_mut().expect("a list").remove(0);
    assert_eq!(findings(&keys(other).1).len(), 6);

    // Metadata that are none, and a key file that is none.
    let head = format!("{}.head.json", object(5));
    found(&case.with(|b| b.put(&head, "{}")), &[("SIG_INVALID", object(5))]);
    let ran = case.trail.keytrail([
        "verify",
        "--cloudtrail-digests",
        case.bucket.root.to_str().expect("UTF-8"),
        "--cloudtrail-keys",
        case.trail.input("broken.keys", "{}").to_str().expect("UTF-8"),
    ]);
    assert!(ran.exits(2).stderr.contains("missing field `PublicKeyList`"));
}

#[test]
fn log_files_that_differ_are_missing_or_unlisted_are_named() {
    let (case, chain) = Case::six_hours();
    let log = |i: usize, n: usize| &chain[i].logs[n];
    let input = |object: &str| case.bucket.path(object).to_str().expect("UTF-8").to_owned();

    // In the mirror: another content, something appended, gone.
    let changed = gzip(br#"{"Records":[]}"#);
    let object = log(2, 0).object.as_str();
    found(&case.with(|b| b.put(object, &changed)), &[("OBJECT_MISMATCH", object)]);
    let mut appended = gzip(log(2, 0).text.as_bytes());
    appended.extend(gzip(b""));
    found(&case.with(|b| b.put(object, &appended)), &[("OBJECT_MISMATCH", object)]);
    let gone = case.with(|b| b.remove(object));
    found(&gone, &[]);
    assert_eq!(gone.1["cloudtrail_digests"]["files_ingested_by_name"], 1);
    assert!(
        not_checked(&gone.1)
            .contains("1 ingested CloudTrail log files are known to their digests by name only")
    );
    // Inflated in the mirror, as `gunzip` leaves them.
    found(
        &case.with(|b| {
            b.remove(object);
            b.put(object.strip_suffix(".gz").expect("it ends so"), &log(2, 0).text);
            for digest in [&chain[1], &chain[5]] {
                b.remove(&digest.object);
                b.put(digest.object.strip_suffix(".gz").expect("it ends so"), digest.json.to_string());
            }
        }),
        &[],
    );

    // Never ingested.
    let more = case.bucket.chain(&MAIN, FIRST, 7, 2).pop().expect("seven");
    let missing = case.with(|b| b.write([&more]));
    found(&missing, &[("FILE_MISSING", &more.logs[0].object), ("FILE_MISSING", &more.logs[1].object)]);

    // Ingested, and no digest lists it; one that is outside of all windows; one shortly before the last end.
    let (inside, outside, edge) =
        (MAIN.log(FIRST + HOUR + 7), MAIN.log(FIRST - 9 * HOUR), MAIN.log(FIRST + 5 * HOUR - 9));
    for log in [&inside, &outside, &edge] {
        case.bucket.put(&log.object, gzip(log.text.as_bytes()));
    }
    // Under a name that is listed, with other bytes.
    let forged = case.trail.input(
        &format!("elsewhere/{}", log(4, 1).object),
        gzip(log(4, 1).text.replace("Alice", "Mallory").as_bytes()),
    );
    let inputs = [input(&inside.object), input(&outside.object), input(&edge.object)];
    case.trail.run(inputs.iter().map(String::as_str).chain([forged.to_str().expect("UTF-8")])).success();
    let report = case.with(|_| {});
    let findings = [
        ("FILE_UNLISTED", input(&inside.object)),
        ("OBJECT_MISMATCH", forged.to_str().expect("UTF-8").to_owned()),
    ];
    let mut expected: Vec<_> = findings.iter().map(|(c, e)| (*c, e.as_str())).collect();
    // The same event id with other content: what CONFLICT is for.
    let conflict = format!("aws.cloudtrail 111122223333 111122223333-us-east-1-{}", FIRST + 4 * HOUR - 2700);
    expected.push(("CONFLICT", &conflict));
    found(&report, &expected);
    let not_checked = not_checked(&report.1);
    assert!(not_checked.contains("1 ingested CloudTrail log files: no digest"), "{not_checked}");
    assert!(not_checked.contains("1 ingested CloudTrail log files of the last minutes"), "{not_checked}");

    // A backfill digest lists it later.
    let backfilled = case.with(|b| {
        let mut backfill = b.digest(&MAIN, FIRST + HOUR, vec![inside.clone()], None, 0);
        backfill.object = backfill.object.replace(".json.gz", "_backfill.json.gz");
        backfill.json["digestS3Object"] = json!(backfill.object);
        b.sign(&mut backfill, 0);
        b.write([&backfill]);
        b.write_head(&backfill);
    });
    found(&backfilled, &expected[1..]);
    assert_eq!(backfilled.1["cloudtrail_digests"]["chains"][0]["backfill_digests"], 1);
}

#[test]
fn a_range_asks_for_its_own_hours_and_files_only() {
    let (case, chain) = Case::six_hours();
    let from = "2026-03-01T23:01:31Z";
    case.bucket.remove(&chain[0].object);
    case.bucket.remove(&chain[1].object);
    let keys = ["--cloudtrail-keys", case.keys.as_str(), "--from", from, "--to", "2026-03-02"];
    let report = case.verify(&case.bucket.root, &keys);
    found(&report, &[]);
    let figures = &report.1["cloudtrail_digests"];
    assert_eq!((&figures["hours_present"], &figures["files_listed"]), (&json!(1), &json!(2)));
}
