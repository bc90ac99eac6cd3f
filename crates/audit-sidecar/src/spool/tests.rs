//! Tests of the spool, most of them on a file system in memory.

mod crash;
mod damage;
mod files;
mod group;
mod reading;
mod room;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::memory::MemoryFiles;
use super::*;

/// Bytes of a segment in most tests.
const SEGMENT_BYTES: u64 = 4096;

const SOURCE: &str = "gateway-1/p0";

fn folder() -> &'static Path {
    Path::new("/spool")
}

fn settings() -> Settings {
    Settings {
        segment_bytes: SEGMENT_BYTES,
        max_bytes: 1 << 20,
        reserve_bytes: 1024,
        zero_ahead_bytes: 700,
        now_ns: || 7,
    }
}

fn try_open(files: &MemoryFiles) -> Result<(Spool, Recovered), SpoolError> {
    Spool::open(folder(), SOURCE, settings(), Arc::new(files.clone()))
}

fn open(files: &MemoryFiles) -> (Spool, Recovered) {
    try_open(files).unwrap()
}

/// A record of that length that no other number or epoch has, if it is long enough.
fn record(epoch: u64, seq: u64, length: usize) -> Vec<u8> {
    let mut bytes = format!("{{\"epoch\":{epoch},\"seq\":{seq}}}").into_bytes();
    let mut next = (epoch << 32 | seq).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while bytes.len() < length.min(1 << 14) {
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        bytes.extend(next.to_le_bytes());
    }
    while bytes.len() < length {
        bytes.extend_from_within(..);
    }
    bytes.truncate(length);
    bytes
}

/// An epoch with records of those lengths, each with its own commit.
fn write(spool: &mut Spool, epoch: u64, lengths: &[usize]) -> Vec<(u64, u64, Vec<u8>)> {
    spool.begin(epoch, epoch as i64).unwrap();
    let mut written = Vec::new();
    for (seq, length) in (0..).zip(lengths) {
        written.push((epoch, seq, record(epoch, seq, *length)));
        spool.append(seq, &written[seq as usize].2).unwrap();
        assert_eq!(spool.commit(), Ok(Durable { epoch, seq: Some(seq) }));
    }
    written
}

/// All that can be read, in batches of that size.
fn read_from(
    reader: &mut SpoolReader,
    after: Option<(u64, u64)>,
    max_bytes: usize,
) -> Vec<(u64, u64, Vec<u8>)> {
    let (mut after, mut all) = (after, Vec::new());
    while let Some(batch) = reader.next(after, max_bytes).unwrap() {
        let epoch = batch.header.epoch;
        after = batch.records.last().map(|r| (epoch, r.0));
        all.extend(batch.records.into_iter().map(|(seq, bytes)| (epoch, seq, bytes)));
    }
    all
}

fn read(spool: &Spool) -> Vec<(u64, u64, Vec<u8>)> {
    read_from(&mut spool.reader(), None, 1 << 20)
}

fn path(epoch: u64, first_seq: u64) -> PathBuf {
    folder().join(shared::segment_name(epoch, first_seq))
}
