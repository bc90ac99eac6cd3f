//! What inflates compressed inputs: gzip with any number of members, and zstd, also in each other. Firehose
//! compresses what CloudWatch Logs compressed before.
//!
//! What it is: decoders by the first bytes. What it is not: it cuts no records. In: bytes as they came. Out: inflated
//! bytes, as a stream or at once.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use super::raw::Raw;
use super::{Limits, READ_BYTES};

/// A gzip file is inflated at once when it is at most this large, and what it holds at most
/// [`AT_ONCE_INFLATED_BYTES`]: that is faster, and takes the memory of both.
const AT_ONCE_BYTES: usize = 8 << 20;
const AT_ONCE_INFLATED_BYTES: usize = 32 << 20;

/// Layers of compression that are taken off; nobody means more.
const LAYERS: u32 = 3;

/// How bytes are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What the first bytes say.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // RFC 8878: a frame, or a skippable frame before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Inflates all layers of compression. Each gives `max_bytes` at most; the last one is for the caller to stop.
pub(super) fn decoder<'a>(
    packed: impl BufRead + 'a,
    compression: Compression,
    max_bytes: u64,
) -> io::Result<Box<dyn Read + 'a>> {
    layer(Box::new(packed), compression, max_bytes, LAYERS)
}

fn layer<'a>(
    packed: Box<dyn BufRead + 'a>,
    compression: Compression,
    max_bytes: u64,
    layers: u32,
) -> io::Result<Box<dyn Read + 'a>> {
    let mut inflated: Box<dyn Read + 'a> = match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
    };
    let mut head = Vec::new();
    let broken = inflated.by_ref().take(4).read_to_end(&mut head).err();
    let below = Compression::of(&head);
    let whole = Cursor::new(head).chain(Broken(broken)).chain(inflated);
    match below {
        Some(below) if layers > 1 => {
            let packed = BufReader::with_capacity(READ_BYTES, whole.take(max_bytes));
            layer(Box::new(packed), below, max_bytes, layers - 1)
        }
        _ => Ok(Box::new(whole)),
    }
}

/// How far a record is inflated to see whether it is whole.
const CHECKED_BYTES: u64 = 256 << 20;

/// Whether bytes are members of a gzip file to their end, none of them broken.
pub(crate) fn is_whole_gzip(bytes: &[u8]) -> bool {
    io::copy(&mut flate2::read::MultiGzDecoder::new(bytes).take(CHECKED_BYTES), &mut io::sink()).is_ok()
}

/// What broke a stream, where it did.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Inflates a gzip file of one member that is in memory whole, and gives its size; `None` leaves it to the stream, which
/// knows all cases: compressed data in it, too. The size at the file's end is a hint only. A second member would begin with the
/// magic bytes, so a file that holds them again is left to the stream too; other bytes behind the
/// member show in that the file does not end with the member's checksum and size (RFC 1952 section 2.3.1).
pub(super) fn inflate_at_once(raw: &mut Raw<'_>, limits: &Limits, inflated: &mut Vec<u8>) -> Option<usize> {
    raw.prefill(AT_ONCE_BYTES + 1);
    let compressed = raw.buffered();
    let (body, trailer) = compressed.split_last_chunk::<8>()?;
    let [c0, c1, c2, c3, s0, s1, s2, s3] = *trailer;
    let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
    let cap = usize::try_from(limits.max_inflated_bytes).unwrap_or(usize::MAX).min(AT_ONCE_INFLATED_BYTES);
    if !raw.is_at_end() || size > cap || memchr::memmem::find(&compressed[1..], &[0x1f, 0x8b, 0x08]).is_some()
    {
        return None;
    }
    let deflated = behind_gzip_header(body)?;
    if inflated.len() < size {
        inflated.resize(size, 0);
    }
    let inflated = &mut inflated[..size];
    let n = libdeflater::Decompressor::new().deflate_decompress(deflated, inflated).ok()?;
    let is_whole = n == size && libdeflater::crc32(inflated) == u32::from_le_bytes([c0, c1, c2, c3]);
    (is_whole && Compression::of(inflated).is_none()).then_some(n)
}

/// What follows a gzip header that has a name at most (RFC 1952 section 2.3).
fn behind_gzip_header(member: &[u8]) -> Option<&[u8]> {
    const NAME: u8 = 0x08;
    let ([0x1f, 0x8b, 0x08, flags, ..], rest) = member.split_first_chunk::<10>()? else { return None };
    match *flags {
        0 => Some(rest),
        NAME => rest.get(memchr::memchr(0, rest)? + 1..),
        _ => None,
    }
}
