//! Where durable records go: a folder, a stream with a bucket beside it, or a bucket.
//!
//! What it is: [`Destination`], which takes records in order and says how far they are durable elsewhere. What it is
//! not: it frees nothing, and remembers nothing over a restart. In: records as the spool has them. Out: segments
//! (`model::segment`), of which a reader sees each whole or not at all.

pub mod folder;
pub mod kinesis;
pub mod s3;

use std::sync::Arc;

use keytrail_adapters::aws::Aws;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::segment::{FOOTER_BYTES, Footer, Header, Part, read_part, write_record};

use crate::config::ShipTo;

/// Bytes of records that are shipped at once, but for a record that is larger.
pub const SEGMENT_BYTES: usize = 8 << 20;

/// Number and bytes of each record.
pub type Records = [(u64, Vec<u8>)];

/// What was shipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shipped {
    /// The last record: those behind it are still to be shipped.
    pub last_seq: u64,
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether they did not go where they should, but where they can be found.
    pub fallback: bool,
}

/// Takes records that follow each other.
///
/// What it says to be shipped is durable. After an error some may have arrived; the same records are then shipped
/// again, by this process or the next one, with the same segments around them. It tries for seconds; the caller for
/// as long as it takes.
pub trait Destination: Send {
    /// Ships at least the first of the records, of which there is one or more, and as a rule all. The header is that of
    /// a segment that begins with the first.
    fn ship(&mut self, header: &Header, records: &Records) -> Result<Shipped, String>;
}

/// Opens the destination of a source.
pub fn open(to: &ShipTo, source: &str) -> Result<Box<dyn Destination>, String> {
    let aws = || Aws::from_environment().map_err(|e| e.to_string());
    Ok(match to {
        ShipTo::Folder(path) => Box::new(
            folder::Folder::open(path, source)
                .map_err(|e| format!("cannot make `{}`: {e}", path.display()))?,
        ),
        ShipTo::S3 { bucket, prefix } => {
            Box::new(s3::Objects::new(Arc::new(aws()?.store(bucket, "")), bucket, prefix))
        }
        ShipTo::Kinesis { stream, bucket, prefix, fallback_after } => {
            let aws = aws()?;
            let objects = s3::Objects::new(Arc::new(aws.store(bucket, "")), bucket, prefix);
            Box::new(kinesis::Kinesis::new(Arc::new(aws.stream(stream)), objects, *fallback_after))
        }
    })
}

/// Records as a closed segment.
pub(crate) fn segment(header: &Header, records: &Records) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(records.iter().map(|(_, r)| r.len() + 16).sum::<usize>() + 256);
    header.write(&mut bytes);
    for (seq, record) in records {
        write_record(&mut bytes, *seq, record);
    }
    if let Some((last_seq, last)) = records.last() {
        let footer =
            Footer { last_seq: *last_seq, records: records.len() as u64, last_hash: leaf_hash(last) };
        footer.write(&mut bytes);
    }
    bytes
}

/// The last record of a segment that is there already under the name of one that begins with these records. `None`: it
/// is not made of them.
pub(crate) fn made_of(there: &[u8], header: &Header, records: &Records) -> Option<u64> {
    let footer = there.len().checked_sub(FOOTER_BYTES).map(|at| read_part(&there[at..]));
    let Some(Ok((Part::Footer(footer), _))) = footer else { return None };
    let count = records.iter().take_while(|(seq, _)| *seq <= footer.last_seq).count();
    let same = segment(header, records.get(..count)?);
    (same == there).then_some(footer.last_seq)
}

/// Name of the segment that begins with a record, among those of its source.
pub(crate) fn segment_name(epoch: u64, first_seq: u64) -> String {
    format!("{epoch:020}-{first_seq:020}.ktseg")
}

/// A source as one part of a name: every byte but letters, digits, `.`, `_` and `-` stands as two hex digits behind
/// `mark`. A source begins with a letter or digit.
pub(crate) fn file_name(source: &str, mark: char) -> String {
    let mut name = String::with_capacity(source.len());
    for byte in source.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("{mark}{byte:02X}"));
        }
    }
    name
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use keytrail_model::Hash;

    pub(crate) const SOURCE: &str = "gateway-1/p@0";

    pub(crate) fn header(first_seq: u64) -> Header {
        Header { source: SOURCE.to_owned(), epoch: 1, first_seq, prev: Hash([0; 32]), created_ns: 5 }
    }

    /// Records from a number on, of these sizes.
    pub(crate) fn records(first_seq: u64, sizes: &[usize]) -> Vec<(u64, Vec<u8>)> {
        (first_seq..).zip(sizes.iter().map(|size| vec![b'r'; *size])).collect()
    }

    #[test]
    fn a_segment_is_told_by_the_records_that_it_is_made_of() {
        let all = records(4, &[1, 2, 3]);
        let there = segment(&header(4), &all[..2]);
        assert_eq!(made_of(&there, &header(4), &all[..2]), Some(5));
        assert_eq!(made_of(&there, &header(4), &all), Some(5));
        assert_eq!(made_of(&there, &header(4), &all[..1]), None);
        assert_eq!(made_of(&there, &header(4), &records(4, &[1, 4])), None);
        assert_eq!(made_of(&there[..there.len() - 1], &header(4), &all), None);
        assert_eq!(made_of(b"", &header(4), &all), None);
    }
}
