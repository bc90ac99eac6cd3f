//! Any bytes as digest files of CloudTrail, one after the other with a zero byte between, and as what lies
//! beside them. Seeds: `tests/fixtures/cloudtrail/cloudtrail-guide/input.jsonl` has two digest files.

#![no_main]

use keytrail_ledger::cloudtrail_digest::{
    Content, DigestFile, DigestName, Link, LogName, ObjectHead, PublicKeys, Range, walk,
};
use keytrail_model::Hash;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut links = Vec::new();
    for file in bytes.split(|b| *b == 0) {
        let _refused = (ObjectHead::parse(file), PublicKeys::parse(file));
        let Ok(digest) = DigestFile::parse(file) else { continue };
        for log in &digest.log_files {
            LogName::parse(&log.object);
        }
        let Some(name) = DigestName::parse(&digest.object) else { continue };
        assert_eq!(DigestName::parse(&name.at(name.end)).map(|n| n.end), Some(name.end));
        let listed = digest.log_files.len() as u64;
        let (object, sha256) = (digest.object.clone(), Hash::of(file));
        let content = Some(Content { sha256, digest, listed, head: None });
        links.push(Link { object, name, content });
    }
    let n = links.len();
    let walked = walk(links, None, &Range::default(), None);
    assert!(walked.windows.is_sorted() && walked.windows.len() <= n);
});
