//! The command that users get is built without SQL and S3, and says how to get them.

use keytrail_tests::trail::Trail;

#[test]
fn a_build_without_sql_says_how_to_get_it() {
    let trail = Trail::new();
    assert!(trail.keytrail(["--help"]).success().stdout.contains("  query "));
    for args in [&["query", "SELECT 1"][..], &["query", "-", "--format", "json"], &["query"]] {
        let ran = trail.keytrail(args).exits(64);
        assert_eq!(ran.stdout, "");
        assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("cargo build --release --features sql"), "{}", ran.stderr);
    }
    assert!(trail.keytrail(["query", "--help"]).success().stdout.contains("Examples:"));
}

#[test]
fn a_build_without_s3_says_how_to_get_it() {
    let trail = Trail::new();
    let to = "s3://a-bucket/trail";
    for (args, code) in [
        (&["verify", "--data", to][..], 2),
        (&["conflicts", "--data", to], 64),
        (&["report", "--data", to], 64),
        (&["move", "--to", to], 64),
    ] {
        let ran = trail.keytrail(args).exits(code);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.contains("cargo build --release --features aws"), "{}", ran.stderr);
    }
    let ran = trail.keytrail(["run", "--data", to, "-"]).exits(64);
    assert!(ran.stderr.contains("is written to by the functions that keytrail has on AWS"), "{}", ran.stderr);
    let ran = trail.keytrail(["verify", "--data", "s3://a bucket"]).exits(64);
    assert!(ran.stderr.contains("expected s3://BUCKET or s3://BUCKET/PREFIX"), "{}", ran.stderr);
    assert!(trail.keytrail(["move", "--help"]).success().stdout.contains("Examples:"));
}
