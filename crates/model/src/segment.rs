//! Segments: how the sidecar's records lie in a spool, in a folder, in an object and in a stream.
//!
//! What it is: the one layout of chained records outside the archive (`schemas/segment.md`). The sidecar's
//! spool is made of it, what it ships is made of it, and `keytrail run` reads either. What it is not: it
//! looks into no record. In: records with their number. Out: bytes, and back. All numbers are little-endian.
//!
//! ```text
//! header  "KTSEGMT1" | u32 header bytes | u64 epoch | u64 first seq | 32 prev | i64 created, ns since 1970
//!         | u16 source bytes | source | u32 crc32c of all before
//! record  u32 bytes (1 to 17,825,792) | u32 crc32c of length, seq and bytes | u64 seq | bytes
//! footer  u32 0xFFFFFFFF | u32 crc32c of the rest | u64 last seq | u64 records | 32 leaf hash of the last
//! ```
//! A length of 0, or the end of the bytes, ends a segment that was not closed. Behind a footer another
//! segment may follow.
//!
//! A segment that is too large for a stream is an object of a store, and the stream has a [`Reference`] to it:
//! ```text
//! "KTSEGREF" | u32 bytes of all | JSON | u32 crc32c of all before
//! ```

use serde::{Deserialize, Serialize};

use crate::Hash;

/// First bytes of a segment.
pub const MAGIC: [u8; 8] = *b"KTSEGMT1";

/// Bytes before a record: length, checksum, number.
pub const RECORD_HEADER_BYTES: usize = 16;

/// Bytes of a footer.
pub const FOOTER_BYTES: usize = 56;

/// The largest record: 16 MiB that a foreign line may have, and 1 MiB for its envelope.
pub const MAX_RECORD_BYTES: usize = 17 << 20;

/// The longest name of a source.
pub const MAX_SOURCE_BYTES: usize = 128;

/// Bytes of a header without the source's name.
const FIXED_HEADER_BYTES: usize = 8 + 4 + 8 + 8 + 32 + 8 + 2 + 4;

/// Stands where a record's length would: a footer.
const FOOTER_MARK: u32 = u32::MAX;

/// First bytes of a reference.
pub const REFERENCE_MAGIC: [u8; 8] = *b"KTSEGREF";

/// The longest reference: that of an object with the longest key that a store takes, all of it escaped.
pub const MAX_REFERENCE_BYTES: usize = 8 << 10;

/// Bytes of a reference around its JSON.
const REFERENCE_FRAME_BYTES: usize = 8 + 4 + 4;

/// What a segment says of the records in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whose chain it is.
    pub source: String,
    /// Epoch of the chain.
    pub epoch: u64,
    /// Number of the first record.
    pub first_seq: u64,
    /// Leaf hash of the record before the first; zeros at number 0.
    pub prev: Hash,
    /// When the segment was begun, nanoseconds since 1970-01-01 by the source's clock.
    pub created_ns: i64,
}

/// How a segment ends that was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footer {
    /// Number of the last record.
    pub last_seq: u64,
    /// How many there are.
    pub records: u64,
    /// Leaf hash of the last.
    pub last_hash: Hash,
}

/// Where a closed segment lies that a stream has no room for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reference {
    /// The bucket.
    pub bucket: String,
    /// Key of the object in it.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub sha256: Hash,
    /// Whose chain it is.
    pub source: String,
    /// Epoch of the chain.
    pub epoch: u64,
    /// Number of the first record.
    pub first_seq: u64,
    /// Number of the last record.
    pub last_seq: u64,
}

/// A part of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    /// Its beginning.
    Header(Header),
    /// A record.
    Record {
        /// Its number in the epoch.
        seq: u64,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// Its end, where it was closed.
    Footer(Footer),
    /// A length of 0: room that was set aside and not written.
    Blank,
}

/// Why bytes are no part of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The bytes end inside the part, which needs at least so many.
    Short {
        /// Bytes that the part has.
        needed: usize,
    },
    /// Not the beginning of a segment.
    Magic,
    /// A length that no part has.
    Length,
    /// The checksum is another; the part would be so long.
    Checksum {
        /// Bytes to the next part, if the length is right.
        bytes: usize,
    },
    /// The source's name is not UTF-8.
    Source,
    /// A reference without what one has.
    Reference,
}

impl Header {
    /// Appends the bytes of a header. A name is at most [`MAX_SOURCE_BYTES`] long: longer ones are cut.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut end = self.source.len().min(MAX_SOURCE_BYTES);
        while !self.source.is_char_boundary(end) {
            end -= 1;
        }
        let source = &self.source.as_bytes()[..end];
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&((FIXED_HEADER_BYTES + source.len()) as u32).to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&self.prev.0);
        out.extend_from_slice(&self.created_ns.to_le_bytes());
        out.extend_from_slice(&(source.len() as u16).to_le_bytes());
        out.extend_from_slice(source);
        let checksum = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }
}

/// Appends a record, which has at least a byte and at most [`MAX_RECORD_BYTES`].
pub fn write_record(out: &mut Vec<u8>, seq: u64, bytes: &[u8]) {
    debug_assert!((1..=MAX_RECORD_BYTES).contains(&bytes.len()));
    let (length, number) = ((bytes.len() as u32).to_le_bytes(), seq.to_le_bytes());
    out.reserve(RECORD_HEADER_BYTES + bytes.len());
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(&length, &number, bytes).to_le_bytes());
    out.extend_from_slice(&number);
    out.extend_from_slice(bytes);
}

impl Footer {
    /// Appends the bytes of a footer.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut rest = [0; FOOTER_BYTES - 8];
        rest[..8].copy_from_slice(&self.last_seq.to_le_bytes());
        rest[8..16].copy_from_slice(&self.records.to_le_bytes());
        rest[16..].copy_from_slice(&self.last_hash.0);
        out.extend_from_slice(&FOOTER_MARK.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&rest).to_le_bytes());
        out.extend_from_slice(&rest);
    }
}

impl Reference {
    /// Appends the bytes of a reference.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // Texts and numbers: there is nothing that JSON cannot have.
        let json = serde_json::to_vec(self).unwrap_or_default();
        debug_assert!(json.len() + REFERENCE_FRAME_BYTES <= MAX_REFERENCE_BYTES);
        out.extend_from_slice(&REFERENCE_MAGIC);
        out.extend_from_slice(&((REFERENCE_FRAME_BYTES + json.len()) as u32).to_le_bytes());
        out.extend_from_slice(&json);
        let checksum = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }
}

/// Reads the reference at the start of `bytes`; gives it and its length. Of a newer version it may have fields that
/// are not known here.
pub fn read_reference(bytes: &[u8]) -> Result<(Reference, usize), Fault> {
    let known = bytes.len().min(REFERENCE_MAGIC.len());
    if bytes[..known] != REFERENCE_MAGIC[..known] {
        return Err(Fault::Magic);
    }
    let length = u32::from_le_bytes(array(bytes, 8)?) as usize;
    if !(REFERENCE_FRAME_BYTES..=MAX_REFERENCE_BYTES).contains(&length) {
        return Err(Fault::Length);
    }
    let Some(all) = bytes.get(..length) else { return Err(Fault::Short { needed: length }) };
    let (content, sum) = all.split_at(length - 4);
    if crc32c::crc32c(content).to_le_bytes() != sum {
        return Err(Fault::Checksum { bytes: length });
    }
    let reference = serde_json::from_slice(&content[12..]).map_err(|_| Fault::Reference)?;
    Ok((reference, length))
}

/// Reads the header at the start of `bytes`; gives it and its length.
pub fn read_header(bytes: &[u8]) -> Result<(Header, usize), Fault> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(Fault::Magic);
    }
    let length: [u8; 4] = array(bytes, 8)?;
    let length = u32::from_le_bytes(length) as usize;
    if !(FIXED_HEADER_BYTES..=FIXED_HEADER_BYTES + MAX_SOURCE_BYTES).contains(&length) {
        return Err(Fault::Length);
    }
    let Some(header) = bytes.get(..length) else { return Err(Fault::Short { needed: length }) };
    let (content, sum) = header.split_at(length - 4);
    if crc32c::crc32c(content).to_le_bytes() != sum {
        return Err(Fault::Checksum { bytes: length });
    }
    let source = &content[FIXED_HEADER_BYTES - 4..];
    if usize::from(u16::from_le_bytes(array(bytes, 68)?)) != source.len() {
        return Err(Fault::Length);
    }
    let header = Header {
        source: std::str::from_utf8(source).map_err(|_| Fault::Source)?.to_owned(),
        epoch: u64::from_le_bytes(array(bytes, 12)?),
        first_seq: u64::from_le_bytes(array(bytes, 20)?),
        prev: Hash(array(bytes, 28)?),
        created_ns: i64::from_le_bytes(array(bytes, 60)?),
    };
    Ok((header, length))
}

/// Reads the part that follows a header or a record; gives it and its length. After [`Part::Footer`] and
/// [`Part::Blank`] the segment is over.
pub fn read_part(bytes: &[u8]) -> Result<(Part<'_>, usize), Fault> {
    let length: [u8; 4] = array(bytes, 0)?;
    match u32::from_le_bytes(length) {
        0 => Ok((Part::Blank, 4)),
        FOOTER_MARK => {
            let Some(footer) = bytes.get(..FOOTER_BYTES) else {
                return Err(Fault::Short { needed: FOOTER_BYTES });
            };
            if crc32c::crc32c(&footer[8..]).to_le_bytes() != footer[4..8] {
                return Err(Fault::Checksum { bytes: FOOTER_BYTES });
            }
            let footer = Footer {
                last_seq: u64::from_le_bytes(array(bytes, 8)?),
                records: u64::from_le_bytes(array(bytes, 16)?),
                last_hash: Hash(array(bytes, 24)?),
            };
            Ok((Part::Footer(footer), FOOTER_BYTES))
        }
        n if n as usize > MAX_RECORD_BYTES => Err(Fault::Length),
        n => {
            let end = RECORD_HEADER_BYTES + n as usize;
            if bytes.len() < end {
                return Err(Fault::Short { needed: end });
            }
            let (sum, number): ([u8; 4], [u8; 8]) = (array(bytes, 4)?, array(bytes, 8)?);
            let record = &bytes[RECORD_HEADER_BYTES..end];
            if checksum(&length, &number, record) != u32::from_le_bytes(sum) {
                return Err(Fault::Checksum { bytes: end });
            }
            Ok((Part::Record { seq: u64::from_le_bytes(number), bytes: record }, end))
        }
    }
}

fn checksum(length: &[u8; 4], seq: &[u8; 8], bytes: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(length), seq);
    crc32c::crc32c_append(sum, bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Fault> {
    let needed = at + N;
    bytes.get(at..needed).and_then(|b| b.try_into().ok()).ok_or(Fault::Short { needed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let source = "gateway-1/p0".to_owned();
        Header { source, epoch: 3, first_seq: 7, prev: Hash([9; 32]), created_ns: 1_795_000_000_000_000_000 }
    }

    fn segment() -> Vec<u8> {
        let mut out = Vec::new();
        header().write(&mut out);
        write_record(&mut out, 7, b"one");
        write_record(&mut out, 8, b"another\nline");
        Footer { last_seq: 8, records: 2, last_hash: Hash([1; 32]) }.write(&mut out);
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = segment();
        let (read, mut at) = read_header(&bytes).unwrap();
        assert_eq!((read, at), (header(), FIXED_HEADER_BYTES + 12));
        let mut parts = Vec::new();
        while at < bytes.len() {
            let (part, length) = read_part(&bytes[at..]).unwrap();
            parts.push(part);
            at += length;
        }
        let footer = Footer { last_seq: 8, records: 2, last_hash: Hash([1; 32]) };
        let expected = [
            Part::Record { seq: 7, bytes: b"one" },
            Part::Record { seq: 8, bytes: b"another\nline" },
            Part::Footer(footer),
        ];
        assert_eq!(parts, expected);
        assert_eq!(read_part(&[0; 4]), Ok((Part::Blank, 4)));
    }

    /// The checksum is CRC-32C, by its check value (RFC 3720, B.4: 32 bytes of zeros).
    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8A91_36AA);
    }

    #[test]
    fn no_flipped_bit_and_no_cut_is_read_as_something_else() {
        let bytes = segment();
        let parts = |bytes: &[u8]| -> Result<usize, Fault> {
            let mut at = read_header(bytes)?.1;
            let mut count = 0;
            while at < bytes.len() {
                let (part, length) = read_part(&bytes[at..])?;
                count += usize::from(!matches!(part, Part::Blank));
                at += length;
            }
            Ok(count)
        };
        assert_eq!(parts(&bytes), Ok(3));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parts(&flipped).is_err(), "bit {bit}");
        }
        let ends = [FIXED_HEADER_BYTES + 12, FIXED_HEADER_BYTES + 12 + 19, bytes.len() - FOOTER_BYTES];
        for cut in 1..bytes.len() {
            match parts(&bytes[..cut]) {
                Err(Fault::Short { needed }) => assert!(needed > 0, "cut {cut}"),
                other => assert!(other.is_ok() && ends.contains(&cut), "cut {cut}: {other:?}"),
            }
        }
    }

    fn reference() -> Reference {
        Reference {
            bucket: "records".to_owned(),
            key: "keytrail/gateway-1=2Fp0/00000000000000000003-00000000000000000007.ktseg".to_owned(),
            bytes: 2_000_123,
            sha256: Hash([5; 32]),
            source: "gateway-1/p0".to_owned(),
            epoch: 3,
            first_seq: 7,
            last_seq: 7,
        }
    }

    #[test]
    fn a_reference_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        reference().write(&mut bytes);
        assert_eq!(read_reference(&bytes), Ok((reference(), bytes.len())));
        assert_eq!(read_header(&bytes), Err(Fault::Magic));
        assert_eq!(read_reference(&segment()), Err(Fault::Magic));
        // The first version, as it is on streams.
        let json = r#"{"bucket":"records","key":"keytrail/gateway-1=2Fp0/00000000000000000003-00000000000000000007.ktseg","bytes":2000123,"sha256":"0505050505050505050505050505050505050505050505050505050505050505","source":"gateway-1/p0","epoch":3,"first_seq":7,"last_seq":7}"#;
        assert_eq!(&bytes[12..bytes.len() - 4], json.as_bytes());
        assert_eq!(bytes[..12], *b"KTSEGREF\x0d\x01\0\0");
    }

    #[test]
    fn no_flipped_bit_and_no_cut_of_a_reference_is_read() {
        let mut bytes = Vec::new();
        reference().write(&mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read_reference(&flipped).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(matches!(read_reference(&bytes[..cut]), Err(Fault::Short { .. })), "cut {cut}");
        }
        let mut other = [&REFERENCE_MAGIC[..], &18_u32.to_le_bytes(), b"{}"].concat();
        let sum = crc32c::crc32c(&other).to_le_bytes();
        other.extend_from_slice(&sum);
        assert_eq!(read_reference(&other), Err(Fault::Reference));
    }
}
