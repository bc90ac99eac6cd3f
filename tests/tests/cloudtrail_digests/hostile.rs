//! Digests by somebody who wants `verify` to read what it should not, or to end.

use super::*;

#[test]
fn hostile_digests_open_nothing_outside_and_end_nothing() {
    let (case, chain) = Case::six_hours();
    let outside = case.trail.input("outside.json", "{}");
    let (secret, link) = (outside.to_str().expect("UTF-8"), "AWSLogs/link");
    let report = case.with(|b| {
        std::os::unix::fs::symlink(outside.parent().expect("a folder"), b.path(link)).expect("a link");
        let mut forged = chain.clone();
        let paths = ["../outside.json", secret, "AWSLogs/../../outside.json", "AWSLogs/link/outside.json", "a//b", "\u{1b}[2J", &"x/".repeat(400)];
        forged[3].json["logFiles"] = paths
            .iter()
            .map(|p| json!({"s3Bucket": BUCKET, "s3Object": p, "hashValue": sha256("{}"), "hashAlgorithm": "SHA-256"}))
            .collect();
        forged[3].logs.clear();
        re_signed(b, &mut forged, 3, 0);
        b.write(&forged);
        b.write_head(&forged[5]);
    });
    let missing = findings(&report.1).iter().filter(|(code, _)| code == "FILE_MISSING").count();
    assert_eq!((report.0, missing), (Some(1), 7), "{}", report.1);

    // A bomb, depth, and what is no digest: each is named, and the hours around stay whole.
    let bomb = gzip(&vec![b' '; 100 << 20]);
    let deep = gzip(format!("{{\"x\":{}", "[".repeat(1 << 20)).as_bytes());
    for content in [bomb, deep, gzip(b"[]"), b"\x1f\x8b".to_vec(), Vec::new()] {
        let mut report = case.with(|b| b.put(&chain[2].object, &content));
        report.1["findings"].as_array_mut().expect("a list").retain(|f| f["code"] != "FILE_UNLISTED");
        found(&report, &[("OBJECT_MISMATCH", &chain[2].object)]);
    }
    // No mirror, and one without digests.
    for (mirror, message) in
        [("nowhere", "there is no folder"), ("keys", "expected a mirror of the trail's bucket")]
    {
        let mirror = case.trail.aside(mirror);
        let ran = case.trail.keytrail(["verify", "--cloudtrail-digests", mirror.to_str().expect("UTF-8")]);
        assert!(ran.exits(2).stderr.contains(message));
    }
}
