//! Sorted runs of rows in files of their own, for the sorter alone: they live as long as one process
//! runs, so their format has no version and no checksum.
//!
//! A row is, little-endian: dataset (u32, the sorter's number), day (i64; the greatest: undated),
//! flags (u8: 1 has a time, 2 has no producer key), time (i64), uid (20), group (u64), hash (32),
//! input (u32), offset (u64), lengths of columns and original (u32 each); then both.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use keytrail_model::row::Head;
use keytrail_model::{Day, Fatal, Hash, Row, Timestamp, Uid};

use crate::error::from_io;

/// Bytes of a row before its columns.
const FIXED: usize = 101;

/// Read ahead of each run: with [`crate::sort::MAX_RUNS`] on each of two levels, 16 MiB.
const READ_BYTES: usize = 64 << 10;
const WRITE_BYTES: usize = 256 << 10;

const HAS_TIME: u8 = 1;
const KEYLESS: u8 = 2;

/// A finished run; dropping it deletes its file.
pub(crate) struct Run {
    path: PathBuf,
    /// 0 for what came from memory, else one more than that of the runs it was merged from.
    pub level: u32,
}

impl Drop for Run {
    fn drop(&mut self) {
        // What stays behind is deleted by the next sorter in this folder.
        let _ = fs::remove_file(&self.path);
    }
}

/// What makes a [`Head`] whole again that was spilled: its private parts are set when it is pushed
/// into a buffer, its dataset comes from a closed list.
#[derive(Default)]
pub(crate) struct Origin {
    datasets: Vec<&'static str>,
    template: Option<Head>,
}

impl Origin {
    /// The number of a row's dataset in runs.
    pub fn number(&mut self, head: &Head) -> u32 {
        self.template.get_or_insert(*head);
        // A handful of datasets.
        let at = self.datasets.iter().position(|d| *d == head.dataset).unwrap_or_else(|| {
            self.datasets.push(head.dataset);
            self.datasets.len() - 1
        });
        at as u32
    }

    /// As [`number`](Self::number), for a row that came from a run.
    pub fn known(&self, head: &Head) -> Result<u32, Fatal> {
        let at = self.datasets.iter().position(|d| *d == head.dataset);
        at.map(|n| n as u32).ok_or_else(|| Fatal::new("Fatal.Archive", "a spilled row has no dataset"))
    }
}

/// A run that is being written.
pub(crate) struct RunWriter {
    out: BufWriter<File>,
    run: Run,
}

impl RunWriter {
    pub fn create(folder: &Path, number: u64, level: u32) -> Result<Self, Fatal> {
        let path = folder.join(file_name(number));
        let run = Run { path, level };
        let file = File::create(&run.path).map_err(|e| from_io(&run.path.display().to_string(), &e))?;
        Ok(Self { out: BufWriter::with_capacity(WRITE_BYTES, file), run })
    }

    pub fn push(&mut self, dataset: u32, row: &Row<'_>) -> Result<(), Fatal> {
        let h = row.head;
        let day = match h.day {
            Day::Dated(days) => days,
            Day::Undated => i64::MAX,
        };
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(h.time.is_some(), HAS_TIME) | flag(h.keyless, KEYLESS);
        let (columns, original) = (length(row.columns)?, length(row.original)?);
        let mut fixed = [0; FIXED];
        let mut rest = &mut fixed[..];
        let mut put = |bytes: &[u8]| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            part.copy_from_slice(bytes);
            rest = after;
        };
        put(&dataset.to_le_bytes());
        put(&day.to_le_bytes());
        put(&[flags]);
        put(&h.time.map_or(0, |t| t.0).to_le_bytes());
        put(&h.uid.0);
        put(&h.group.to_le_bytes());
        put(&h.hash.0);
        put(&h.input.to_le_bytes());
        put(&h.offset.to_le_bytes());
        put(&columns.to_le_bytes());
        put(&original.to_le_bytes());
        for part in [&fixed[..], row.columns, row.original] {
            self.out.write_all(part).map_err(|e| from_io(&self.run.path.display().to_string(), &e))?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Run, Fatal> {
        self.out.flush().map_err(|e| from_io(&self.run.path.display().to_string(), &e))?;
        Ok(self.run)
    }
}

/// Merges runs into one ascending sequence of rows.
pub(crate) fn merge(
    runs: &[Run],
    origin: &Origin,
    mut sink: impl FnMut(&Head, &[u8], &[u8]) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let mut readers = Vec::with_capacity(runs.len());
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for (i, run) in runs.iter().enumerate() {
        let mut reader = RunReader::open(run, origin)?;
        if reader.advance()? {
            heads.push(Reverse((order(&reader.head), i)));
        }
        readers.push(reader);
    }
    // The payload of a row is read when its turn has come: one row is in memory, not one a run.
    let (mut columns, mut original) = (Vec::new(), Vec::new());
    while let Some(Reverse((_, i))) = heads.pop() {
        let reader = &mut readers[i];
        reader.payload(&mut columns, &mut original)?;
        sink(&reader.head, &columns, &original)?;
        if reader.advance()? {
            heads.push(Reverse((order(&reader.head), i)));
        }
    }
    Ok(())
}

/// Deletes what a killed process left behind.
pub(crate) fn clear(folder: &Path) -> Result<(), Fatal> {
    let at = |e: io::Error| from_io(&folder.display().to_string(), &e);
    for entry in fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        if entry.file_name().to_str().is_some_and(|n| n.starts_with("run-") && n.ends_with(".rows")) {
            fs::remove_file(entry.path()).map_err(at)?;
        }
    }
    Ok(())
}

/// The sorter's order: the archive's, then where rows were read.
pub(crate) fn order(h: &Head) -> impl Ord + use<> {
    (h.sort_key(), h.input, h.offset)
}

struct RunReader<'a> {
    input: BufReader<File>,
    origin: &'a Origin,
    path: &'a Path,
    head: Head,
    lengths: (u32, u32),
}

impl<'a> RunReader<'a> {
    fn open(run: &'a Run, origin: &'a Origin) -> Result<Self, Fatal> {
        let head = origin.template.ok_or_else(|| {
            Fatal::new("Fatal.Store", format!("{}: no row was spilled", run.path.display()))
        })?;
        let file = File::open(&run.path).map_err(|e| from_io(&run.path.display().to_string(), &e))?;
        let input = BufReader::with_capacity(READ_BYTES, file);
        Ok(Self { input, origin, path: &run.path, head, lengths: (0, 0) })
    }

    /// Reads the next head; false at the end of the run.
    fn advance(&mut self) -> Result<bool, Fatal> {
        let mut fixed = [0; FIXED];
        let mut got = 0;
        while got < FIXED {
            match self.input.read(&mut fixed[got..]) {
                Ok(0) if got == 0 => return Ok(false),
                Ok(0) => return Err(self.failed(&io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(&e)),
            }
        }
        let mut rest = Fields(&fixed);
        let dataset = u32::from_le_bytes(rest.take());
        let Some(dataset) = self.origin.datasets.get(dataset as usize) else {
            return Err(self.failed(&io::ErrorKind::InvalidData.into()));
        };
        self.head.dataset = dataset;
        self.head.day = match i64::from_le_bytes(rest.take()) {
            i64::MAX => Day::Undated,
            days => Day::Dated(days),
        };
        let [flags] = rest.take();
        let time = i64::from_le_bytes(rest.take());
        self.head.time = (flags & HAS_TIME != 0).then_some(Timestamp(time));
        self.head.keyless = flags & KEYLESS != 0;
        self.head.uid = Uid(rest.take());
        self.head.group = u64::from_le_bytes(rest.take());
        self.head.hash = Hash(rest.take());
        self.head.input = u32::from_le_bytes(rest.take());
        self.head.offset = u64::from_le_bytes(rest.take());
        self.lengths = (u32::from_le_bytes(rest.take()), u32::from_le_bytes(rest.take()));
        Ok(true)
    }

    fn payload(&mut self, columns: &mut Vec<u8>, original: &mut Vec<u8>) -> Result<(), Fatal> {
        for (out, len) in [(columns, self.lengths.0), (original, self.lengths.1)] {
            out.clear();
            let read = self.input.by_ref().take(len.into()).read_to_end(out);
            match read {
                Ok(n) if n == len as usize => {}
                Ok(_) => return Err(self.failed(&io::ErrorKind::UnexpectedEof.into())),
                Err(e) => return Err(self.failed(&e)),
            }
        }
        Ok(())
    }

    fn failed(&self, e: &io::Error) -> Fatal {
        from_io(&self.path.display().to_string(), e)
    }
}

/// Takes fields off a row's fixed part, whose length is the sum of theirs.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *field
    }
}

fn length(bytes: &[u8]) -> Result<u32, Fatal> {
    u32::try_from(bytes.len())
        .map_err(|_| Fatal::new("Fatal.Archive", format!("a row of {} bytes cannot be sorted", bytes.len())))
}

fn file_name(number: u64) -> String {
    format!("run-{number}.rows")
}
