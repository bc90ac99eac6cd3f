//! Any bytes as the files of a spool: a start says what is wrong with them, keeps what is whole, and goes on. The first
//! byte says where the first file ends. Seeds: the same, of segments of the source `fuzz/0`.

#![no_main]

use keytrail_fuzz::sidecar::{FOLDER, open};
use keytrail_audit_sidecar::spool::memory::MemoryFiles;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let (one, two) = bytes.split_at(bytes.len() * usize::from(*first) / 255);
    let files = MemoryFiles::default();
    files.put(&FOLDER.join("00000000000000000001-00000000000000000000.ktseg"), one);
    if !two.is_empty() {
        files.put(&FOLDER.join("00000000000000000001-00000000000000000007.ktseg"), two);
    }
    // Another source's segments are refused.
    let Ok((mut spool, _)) = open(&files) else { return };
    let all = |spool: &keytrail_audit_sidecar::spool::Spool| {
        let (mut reader, mut after, mut all) = (spool.reader(), None, Vec::new());
        while let Some(batch) = reader.next(after, 1 << 20).expect("it can be read") {
            let epoch = batch.header.epoch;
            all.extend(batch.records.into_iter().map(|(seq, bytes)| (epoch, seq, bytes)));
            after = all.last().map(|(epoch, seq, _)| (*epoch, *seq));
        }
        all
    };
    let before = all(&spool);
    assert!(before.is_sorted());
    let epoch = before.last().map_or(0, |(epoch, ..)| *epoch).max(1);
    if epoch < u64::MAX && spool.begin(epoch + 1, 7).is_ok() {
        spool.append(0, b"a record").expect("it is appended");
        spool.commit().expect("it is committed");
        let mut now = all(&spool);
        assert_eq!(now.pop(), Some((epoch + 1, 0, b"a record".to_vec())));
        assert_eq!(now, before);
        drop(spool);
        // The next start finds the same.
        let (spool, _) = open(&files).expect("it opens again");
        assert_eq!(all(&spool).len(), before.len() + 1);
    }
});
