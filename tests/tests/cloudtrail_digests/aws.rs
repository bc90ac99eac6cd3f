//! AWS's own tool on the same buckets.

use super::*;

/// What AWS's own tool says of a bucket: valid and invalid paths, and what it merely tells.
fn validate_logs(bucket: &Path, keys: &str, scope: &Scope<'_>) -> [Vec<String>; 3] {
    let arn = format!("arn:aws:cloudtrail:{}:{}:trail/{}", scope.home, scope.account, scope.trail);
    let scope = json!({
        "arn": arn, "region": scope.region, "account": scope.account, "prefix": scope.prefix,
        "organisation": scope.organisation, "start": "2026-03-01T19:30:00Z", "end": "2026-03-02T12:00:00Z",
    });
    let said = oracle("cloudtrail_digests", [bucket.to_str().expect("UTF-8"), keys, &scope.to_string()]);
    ["valid", "invalid", "informed"]
        .map(|name| said[name].as_array().expect("a list").iter().map(text).collect())
}

/// A change that is done to a bucket, and how many things AWS's tool calls invalid then.
type Damage<'a> = (&'a str, usize, &'a dyn Fn(&Bucket));

#[test]
fn aws_agrees_with_what_is_good_and_finds_no_more() {
    let member = Scope { prefix: "logs/", organisation: "o-a1b2c3d4e5/", account: "444455556666", ..MAIN };
    let (case, chain) = Case::six_hours();
    let of_member = case.bucket.chain(&member, FIRST, 4, 1);
    case.bucket.write(&of_member);
    for digest in chain.iter().chain(&of_member) {
        case.bucket.write_head(digest);
    }
    case.trail.run(of_member.iter().map(|d| case.bucket.path(&d.logs[0].object))).success();
    for (scope, files) in [(MAIN, 18), (member, 8)] {
        let [valid, invalid, informed] = validate_logs(&case.bucket.root, &case.keys, &scope);
        assert_eq!((valid.len(), invalid.len(), informed.len()), (files, 0, 0), "{invalid:?}");
    }
    found(&case.with(|_| {}), &[]);

    let object = |i: usize| chain[i].object.as_str();
    let log = chain[2].logs[0].object.as_str();
    let damages: [Damage<'_>; 8] = [
        ("a digest without its list", 1, &|b| {
            let mut changed = chain[2].clone();
            changed.json["logFiles"] = json!([]);
            b.write([&changed]);
        }),
        ("a missing digest", 1, &|b| b.remove(object(3))),
        // aws-cli issue 7054: it names one of the two.
        ("two missing digests", 1, &|b| (2..4).for_each(|i| b.remove(object(i)))),
        // It begins at the newest that is left.
        ("the newest digests are missing", 0, &|b| (2..6).for_each(|i| b.remove(object(i)))),
        ("a changed log file", 1, &|b| b.put(log, gzip(b"{}"))),
        ("something behind a log file", 1, &|b| {
            let mut appended = gzip(chain[2].logs[0].text.as_bytes());
            appended.extend(gzip(b"{}"));
            b.put(log, appended);
        }),
        // By the true key: it tells that no log files were delivered.
        ("a digest that starts the chain again", 0, &|b| {
            let mut again = b.digest(&MAIN, FIRST + 4 * HOUR, chain[4].logs.clone(), None, 0);
            let next = b.digest(&MAIN, FIRST + 5 * HOUR, chain[5].logs.clone(), Some(&again), 0);
            again.logs.clear();
            b.write([&again, &next]);
            b.write_head(&again);
            b.write_head(&next);
            (2..4).for_each(|i| b.remove(object(i)));
        }),
        // By the true key: the hash of the one before is not looked at.
        ("a hash of the digest before that is none", 0, &|b| {
            let mut forged = chain.clone();
            forged[5].json["previousDigestHashValue"] = json!("00".repeat(32));
            b.sign(&mut forged[5], 0);
            b.write([&forged[5]]);
            b.write_head(&forged[5]);
        }),
    ];
    for (what, n, change) in damages {
        let mut aws = Vec::new();
        let report = case.with(|b| {
            change(b);
            aws = validate_logs(&b.root, &case.keys, &MAIN)[1].clone();
        });
        let found: Vec<String> = findings(&report.1).into_iter().map(|(_, element)| element).collect();
        assert_eq!(aws.len(), n, "{what}: {aws:?}");
        assert!(aws.iter().all(|path| found.contains(path)), "{what}: {aws:?}, {found:?}");
        assert_eq!(report.0, Some(1), "{what}");
    }
}
