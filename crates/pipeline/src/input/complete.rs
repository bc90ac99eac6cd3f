//! Whether an input that may still be written has its end.

use std::io::{self, Read};

use keytrail_normalize::framing::{Frame, Splitter};

use super::compression::Compression;
use super::raw::Raw;
use super::{Buffers, Frames, INFLATE_BYTES, Limits, Stop, split};

/// Whether an input has its end: compressed data inflate to theirs (or to the limit, which no more bytes would
/// help), a document or the last line is whole.
pub(super) fn is_complete(source: impl Read, limits: &Limits, buffers: &mut Buffers) -> bool {
    let Buffers { raw, inflated } = buffers;
    let mut raw = Raw::new(Box::new(source), raw);
    raw.prefill(4);
    let mut ends = |decoder: &mut dyn Read| {
        let mut left = limits.max_inflated_bytes;
        inflated.resize(inflated.len().max(INFLATE_BYTES), 0);
        loop {
            match decoder.read(inflated) {
                Ok(0) => return true,
                Ok(n) => left = left.saturating_sub(n as u64),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if left == 0 {
                return true;
            }
        }
    };
    match Compression::of(raw.buffered()) {
        Some(Compression::Gzip) => ends(&mut flate2::bufread::MultiGzDecoder::new(&mut raw)),
        Some(Compression::Zstd) => match zstd::stream::read::Decoder::with_buffer(&mut raw) {
            Ok(mut decoder) => ends(&mut decoder),
            Err(_) => false,
        },
        None => {
            let mut splitter = Splitter::new(limits.framing);
            let mut frames =
                Frames { name: "", sink: &mut |_: Frame<'_>| Ok(()), failed: None, stopped: None };
            let (rest, _, stop) = split(&mut raw, u64::MAX, inflated, &mut splitter, &mut frames);
            matches!(stop, Stop::End) && splitter.is_whole(rest)
        }
    }
}
