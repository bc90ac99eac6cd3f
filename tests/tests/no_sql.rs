//! The command that users get is built without SQL, and says how to get it.

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
