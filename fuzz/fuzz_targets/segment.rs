//! Any bytes as a segment, and as a reference to one. Seeds: files of a spool, or of a folder that a sidecar ships to.

#![no_main]

use keytrail_model::segment::{Part, read_header, read_part, read_reference, write_record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // What is read is what is written.
    let mut again = Vec::new();
    if let Ok((reference, length)) = read_reference(bytes) {
        reference.write(&mut again);
        assert_eq!(read_reference(&again), Ok((reference, again.len())));
        assert!(length <= bytes.len());
        again.clear();
    }
    let Ok((header, mut at)) = read_header(bytes) else { return };
    header.write(&mut again);
    while let Ok((part, length)) = read_part(&bytes[at..]) {
        assert!(length > 0 && at + length <= bytes.len());
        at += length;
        match part {
            Part::Record { seq, bytes } => write_record(&mut again, seq, bytes),
            Part::Footer(footer) => footer.write(&mut again),
            Part::Blank => break,
            Part::Header(_) => panic!("a header is no part"),
        }
        assert_eq!(again, bytes[..at]);
        if let Part::Footer(_) = part {
            break;
        }
    }
});
