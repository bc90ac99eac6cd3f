//! The external sorter: a mixed stream of rows in, sorted slices of one partition each out, in bounded
//! memory, for any number of partitions.
//!
//! Rows are held until a budget is full, then sorted. A partition that has gathered enough for a row
//! group of its own goes out at once; all the others go to a sorted run in a folder, and at the end the
//! runs are merged and go out partition after partition. Logs come in the order of time, so mostly
//! nothing is spilled; a file shuffled over a thousand days is written and read once more.
//!
//! A row group costs about 1 ms and 13 kB of metadata whatever it holds: [`THICK_ROWS`] and
//! [`THICK_BYTES`] keep that below a tenth. What comes out follows from the order and sizes of what
//! came in and the budget, from nothing else.

use std::path::{Path, PathBuf};

use keytrail_model::{Day, Fatal, Partition, Row, RowBuffer};

use crate::spill::{Origin, Run, RunWriter, clear, merge, order};

/// A partition with so many rows in the held ones has a slice of its own.
pub const THICK_ROWS: usize = 2_000;

/// As [`THICK_ROWS`], in bytes of columns and originals.
pub const THICK_BYTES: usize = 4 << 20;

/// Rows in memory by default.
pub const BUDGET_BYTES: usize = 64 << 20;

/// Runs of one level that are merged into one of the next.
pub const MAX_RUNS: usize = 128;

/// Bytes of a merged slice at most, but for a single larger row.
const SLICE_BYTES: usize = 16 << 20;

/// What takes the slices: each has rows of that partition alone, in the archive's order. A partition
/// comes once or several times; slices of one partition may overlap in time.
pub type Out<'a> = dyn FnMut(&Partition, &[Row<'_>]) -> Result<(), Fatal> + 'a;

/// Sorts rows into slices of one partition each.
pub struct Sorter {
    folder: PathBuf,
    budget_bytes: usize,
    held: Vec<RowBuffer>,
    held_bytes: usize,
    emptied: Vec<RowBuffer>,
    runs: Vec<Run>,
    next_run: u64,
    origin: Origin,
    /// Thick partitions go out early.
    early: bool,
}

impl Sorter {
    /// A sorter that spills to `folder`, which exists and which no other sorter uses; runs that a
    /// killed process left there are deleted.
    pub fn new(folder: &Path, budget_bytes: usize) -> Result<Self, Fatal> {
        clear(folder)?;
        Ok(Self {
            folder: folder.into(),
            budget_bytes,
            held: Vec::new(),
            held_bytes: 0,
            emptied: Vec::new(),
            runs: Vec::new(),
            next_run: 0,
            origin: Origin::default(),
            early: true,
        })
    }

    /// As [`new`](Self::new), but nothing goes out before [`finish`](Self::finish): the slices of a partition
    /// follow each other in its order.
    pub fn whole(folder: &Path, budget_bytes: usize) -> Result<Self, Fatal> {
        Ok(Self { early: false, ..Self::new(folder, budget_bytes)? })
    }

    /// Takes rows in any order. When the budget is full, thick partitions go to `out`.
    pub fn push(&mut self, rows: RowBuffer, out: &mut Out<'_>) -> Result<(), Fatal> {
        if rows.is_empty() {
            return Ok(());
        }
        self.held_bytes += rows.bytes();
        self.held.push(rows);
        if self.held_bytes < self.budget_bytes {
            return Ok(());
        }
        self.drain(if self.early { Drain::Thick } else { Drain::None }, out)
    }

    /// Hands out all that is left, by ascending partition. The sorter is empty then and can be used on.
    pub fn finish(&mut self, out: &mut Out<'_>) -> Result<(), Fatal> {
        if self.runs.is_empty() {
            return self.drain(Drain::All, out);
        }
        self.drain(Drain::None, out)?;
        let runs = std::mem::take(&mut self.runs);
        let mut slice = Slice { partition: None, rows: RowBuffer::new() };
        merge(&runs, &self.origin, |head, columns, original| {
            slice.make_room(head.dataset, head.day, out)?;
            slice.rows.push_encoded(head, columns, original);
            Ok(())
        })?;
        slice.hand_out(out)
    }

    /// Buffers whose rows went out since the last call: who makes rows can use their memory again.
    pub fn take_emptied(&mut self) -> Vec<RowBuffer> {
        std::mem::take(&mut self.emptied)
    }

    /// Rows in memory, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Runs on disk.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    fn drain(&mut self, what: Drain, out: &mut Out<'_>) -> Result<(), Fatal> {
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let mut rows: Vec<Row<'_>> = held.iter().flat_map(RowBuffer::rows).collect();
        rows.sort_unstable_by_key(|r| order(r.head));
        let mut spill = None;
        for slice in rows.chunk_by(|a, b| (a.head.dataset, a.head.day) == (b.head.dataset, b.head.day)) {
            if what.goes_out(slice) {
                let head = slice[0].head;
                out(&Partition { dataset: head.dataset.into(), day: head.day }, slice)?;
                continue;
            }
            if spill.is_none() {
                spill = Some(self.new_run(0)?);
            }
            if let Some(run) = &mut spill {
                for row in slice {
                    run.push(self.origin.number(row.head), row)?;
                }
            }
        }
        self.emptied = held;
        self.emptied.iter_mut().for_each(RowBuffer::clear);
        if let Some(run) = spill {
            self.runs.push(run.finish()?);
            self.merge_level(0)?;
        }
        Ok(())
    }

    fn new_run(&mut self, level: u32) -> Result<RunWriter, Fatal> {
        self.next_run += 1;
        RunWriter::create(&self.folder, self.next_run, level)
    }

    /// Makes one run of a full level, so that open files and read buffers stay few: 128 runs of 64 MiB
    /// are 8 GiB, and each row is merged once more for each further factor of 128.
    fn merge_level(&mut self, level: u32) -> Result<(), Fatal> {
        if self.runs.iter().filter(|r| r.level == level).count() < MAX_RUNS {
            return Ok(());
        }
        let all = std::mem::take(&mut self.runs);
        let (full, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| r.level == level);
        self.runs = kept;
        let mut run = self.new_run(level + 1)?;
        let mut one = RowBuffer::new();
        merge(&full, &self.origin, |head, columns, original| {
            one.clear();
            one.push_encoded(head, columns, original);
            run.push(self.origin.known(head)?, &one.row(0))
        })?;
        self.runs.push(run.finish()?);
        self.merge_level(level + 1)
    }
}

/// Which partitions leave memory for the caller; the others are spilled.
enum Drain {
    All,
    Thick,
    None,
}

impl Drain {
    fn goes_out(&self, slice: &[Row<'_>]) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Thick => {
                slice.len() >= THICK_ROWS
                    || slice.iter().map(|r| r.columns.len() + r.original.len()).sum::<usize>() >= THICK_BYTES
            }
        }
    }
}

/// Merged rows of one partition that are still to go out.
struct Slice {
    partition: Option<Partition>,
    rows: RowBuffer,
}

impl Slice {
    fn make_room(&mut self, dataset: &str, day: Day, out: &mut Out<'_>) -> Result<(), Fatal> {
        let same = self.partition.as_ref().is_some_and(|p| p.day == day && p.dataset == dataset);
        if !same || self.rows.bytes() >= SLICE_BYTES {
            self.hand_out(out)?;
        }
        if !same {
            self.partition = Some(Partition { dataset: dataset.into(), day });
        }
        Ok(())
    }

    fn hand_out(&mut self, out: &mut Out<'_>) -> Result<(), Fatal> {
        if let Some(partition) = &self.partition
            && !self.rows.is_empty()
        {
            out(partition, &self.rows.rows().collect::<Vec<_>>())?;
        }
        self.rows.clear();
        Ok(())
    }
}
