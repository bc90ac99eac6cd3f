//! Frames stand in order, hold the input's bytes, keep the limit, and do not depend on the pieces fed.
#![no_main]

use keytrail_normalize::framing::{Frame, Limits, Splitter};
use libfuzzer_sys::fuzz_target;

fn cut<'a>(
    max_record_bytes: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Vec<(u64, Vec<u8>, Option<&'static str>)> {
    let mut frames = Vec::new();
    let mut sink =
        |f: Frame<'_>| frames.push((f.offset, f.bytes.to_vec(), f.verdict.err().map(|r| r.code.code())));
    let mut splitter = Splitter::new(Limits { max_record_bytes });
    let mut held = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        let done = splitter.run(&held, false, &mut sink);
        held.drain(..done);
    }
    splitter.run(&held, true, &mut sink);
    frames
}

fuzz_target!(|data: &[u8]| {
    let Some(([max, piece], input)) = data.split_first_chunk::<2>() else { return };
    let max = usize::from(*max) + 1;
    let frames = cut(max, std::iter::once(input));
    let mut at = 0;
    for (offset, bytes, _) in &frames {
        let offset = *offset as usize;
        assert!(offset >= at && !bytes.is_empty() && bytes.len() <= max);
        assert_eq!(&input[offset..offset + bytes.len()], &bytes[..]);
        at = offset + bytes.len();
    }
    assert_eq!(cut(max, input.chunks(usize::from(*piece) + 1)), frames);
});
