//! The writing side: records to memory, memory to the disk.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use keytrail_model::Hash;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::segment::{
    FOOTER_BYTES, Footer, Header, MAX_RECORD_BYTES, RECORD_HEADER_BYTES, write_record,
};

use super::error::SpoolError;
use super::files::{FileAccess, Files, ZEROS, write_all};
use super::reader::SpoolReader;
use super::recovery;
use super::shared::{Open, Shared, header_bytes, segment_name};
use super::{Durable, Recovered, Room, Segment, Settings};

/// A file that becomes a segment now.
const UNNAMED: &str = "segment.tmp";

/// Memory for records that is kept from commit to commit.
const KEPT_BYTES: usize = 4 << 20;

/// A spool that is open for writing, by one thread. See the [module](super).
pub struct Spool {
    shared: Arc<Shared>,
    current: Option<Current>,
    /// The highest epoch that was begun or found.
    last_epoch: Option<u64>,
    /// Records that wait for a commit: the first for the current segment, the others for one more each.
    pieces: Vec<Piece>,
    /// What was written last to the current segment.
    written: Option<Piece>,
}

/// The segment that is written.
struct Current {
    file: Arc<dyn FileAccess>,
    path: PathBuf,
    header: Header,
    size_bytes: u64,
    /// Where the next record goes.
    at: u64,
    /// Up to here the file was written, with records or zeros.
    filled_bytes: u64,
    /// Records in it.
    records: u64,
    /// Number of the next record of the epoch, those that wait counted.
    next_seq: u64,
    /// Leaf hash of the last record, where that one is not in `Spool::written`.
    last_hash: Hash,
}

/// Framed records of one segment.
struct Piece {
    bytes: Vec<u8>,
    /// Where in `bytes` the last record's own are.
    last: Range<usize>,
    records: u64,
    /// Bytes of the records themselves.
    record_bytes: u64,
    /// Where in its segment it begins.
    at: u64,
    /// Bytes of that segment's file.
    size_bytes: u64,
}

impl Spool {
    /// Opens the spool of a source in a folder, which is made (0700), and says what was in it. While another
    /// has it open: [`SpoolError::Busy`].
    pub fn open(
        folder: &Path,
        source: &str,
        settings: Settings,
        files: Arc<dyn Files>,
    ) -> Result<(Self, Recovered), SpoolError> {
        let (shared, recovered) = recovery::open(folder, source, settings, files)?;
        let found = recovered.segments.iter().map(|s| s.epoch);
        let last_epoch = found.chain(recovered.damaged.iter().map(|d| d.epoch)).max();
        let shared = Arc::new(shared);
        Ok((Self { shared, current: None, last_epoch, pieces: Vec::new(), written: None }, recovered))
    }

    /// Begins an epoch, which is higher than all before: a new segment, durable on return. With
    /// [`SpoolError::Full`] nothing was done, and it may be tried again.
    pub fn begin(&mut self, epoch: u64, created_ns: i64) -> Result<(), SpoolError> {
        self.shared.check()?;
        if let Some(current) = &self.current {
            return Err(SpoolError::Order(format!("epoch {} is not closed", current.header.epoch)));
        }
        if let Some(last) = self.last_epoch.filter(|last| *last >= epoch) {
            return Err(SpoolError::Order(format!(
                "epoch {epoch} comes after {last}: expected a higher one"
            )));
        }
        let source = self.shared.source.clone();
        let header = Header { source, epoch, first_seq: 0, prev: Hash::default(), created_ns };
        self.start_segment(header, self.shared.settings.segment_bytes)?;
        self.last_epoch = Some(epoch);
        self.shared.make_spare();
        Ok(())
    }

    /// Takes the next record of the epoch, in memory: its number is the one before's and 1.
    pub fn append(&mut self, seq: u64, record: &[u8]) -> Result<(), SpoolError> {
        self.shared.check()?;
        if !(1..=MAX_RECORD_BYTES).contains(&record.len()) {
            return Err(SpoolError::Size(record.len()));
        }
        let Some(current) = &mut self.current else { return Err(no_epoch()) };
        if seq != current.next_seq {
            let expected = current.next_seq;
            return Err(SpoolError::Order(format!("record {seq} comes where {expected} is expected")));
        }
        let framed_bytes = (RECORD_HEADER_BYTES + record.len()) as u64;
        let mut piece = match self.pieces.pop() {
            Some(piece) => piece,
            None => {
                let mut first = Piece::new(current.at, current.size_bytes);
                if let Some(written) = self.written.take() {
                    if !first.has_room(framed_bytes) {
                        // A footer comes next. No other commit needs the hash of its last record.
                        current.last_hash = leaf_hash(written.last_record());
                    }
                    first.bytes = written.bytes;
                    first.bytes.clear();
                    first.bytes.shrink_to(KEPT_BYTES);
                }
                first
            }
        };
        if !piece.has_room(framed_bytes) {
            let header_bytes = header_bytes(&current.header.source) as u64;
            let least_bytes = header_bytes + framed_bytes + FOOTER_BYTES as u64;
            let size_bytes = self.shared.settings.segment_bytes.max(least_bytes);
            if self.pieces.is_empty() && piece.records == 0 && current.records == 0 {
                // The segment is empty: it grows.
                piece.size_bytes = size_bytes;
            } else {
                self.pieces.push(piece);
                piece = Piece::new(header_bytes, size_bytes);
            }
        }
        write_record(&mut piece.bytes, seq, record);
        piece.last = piece.bytes.len() - record.len()..piece.bytes.len();
        piece.records += 1;
        piece.record_bytes += record.len() as u64;
        self.pieces.push(piece);
        current.next_seq += 1;
        Ok(())
    }

    /// Bytes that wait for a commit.
    pub fn pending_bytes(&self) -> usize {
        self.pieces.iter().map(|p| p.bytes.len()).sum()
    }

    /// Makes all that was appended durable; says what is. After an error the spool takes nothing more.
    pub fn commit(&mut self) -> Result<Durable, SpoolError> {
        self.shared.check()?;
        if !self.pieces.is_empty() {
            // That a segment cannot be begun in the middle of an epoch is final, too.
            self.write_pieces().map_err(|e| self.shared.poison(e))?;
            self.shared.make_spare();
        }
        match &self.current {
            Some(c) => Ok(Durable { epoch: c.header.epoch, seq: c.next_seq.checked_sub(1) }),
            None => Err(no_epoch()),
        }
    }

    /// Commits, and closes the epoch with the footer of its last segment, durable on return. An epoch without
    /// a record leaves nothing.
    pub fn close_epoch(&mut self) -> Result<(), SpoolError> {
        self.commit()?;
        let Some(current) = self.current.take() else { return Ok(()) };
        if current.records > 0 {
            return self.close_segment(current);
        }
        self.shared.publish(|s| s.open = None);
        self.shared.discard(&current.path)?;
        self.shared.sync_folder()
    }

    /// How much room there is, as [`SpoolReader::room`].
    pub fn room(&self) -> Result<Room, SpoolError> {
        self.shared.room()
    }

    /// One that reads what is durable, in any thread.
    pub fn reader(&self) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.shared))
    }

    /// Writes what waits, a piece to each segment, and syncs.
    fn write_pieces(&mut self) -> Result<(), SpoolError> {
        let pieces = std::mem::take(&mut self.pieces);
        let last = pieces.len() - 1;
        let (mut records, mut bytes) = (0, 0);
        for (i, piece) in pieces.into_iter().enumerate() {
            if i > 0 {
                self.roll_over(piece.size_bytes)?;
            }
            let Some(current) = &mut self.current else { return Err(no_epoch()) };
            current
                .write(&piece, self.shared.settings.zero_ahead_bytes)
                .map_err(|e| SpoolError::at("write", &current.path, &e))?;
            records += piece.records;
            bytes += piece.record_bytes;
            if piece.records > 0 {
                self.written = Some(piece);
            }
            if i == last {
                let start = Instant::now();
                current.file.sync_data().map_err(|e| SpoolError::at("sync", &current.path, &e))?;
                let took = start.elapsed();
                self.shared.publish(|s| {
                    s.counts.commits += 1;
                    s.counts.syncing += took;
                    s.counts.records += records;
                    s.counts.bytes += bytes;
                    s.open = Some(current.open());
                });
            }
        }
        Ok(())
    }

    /// Closes the segment and begins the next one of the epoch.
    fn roll_over(&mut self, size_bytes: u64) -> Result<(), SpoolError> {
        let Some(current) = self.current.take() else { return Err(no_epoch()) };
        let next_seq = current.next_seq;
        let header = Header {
            first_seq: current.header.first_seq + current.records,
            prev: self.last_hash(&current),
            created_ns: (self.shared.settings.now_ns)(),
            ..current.header.clone()
        };
        self.close_segment(current)?;
        self.start_segment(header, size_bytes)?;
        if let Some(current) = &mut self.current {
            current.next_seq = next_seq;
        }
        Ok(())
    }

    /// Leaf hash of the last record in the segment.
    fn last_hash(&self, current: &Current) -> Hash {
        self.written.as_ref().map_or(current.last_hash, |piece| leaf_hash(piece.last_record()))
    }

    /// Writes the footer behind records that may not be durable before it is.
    fn close_segment(&mut self, current: Current) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.shared);
        let last_hash = self.last_hash(&current);
        self.written = None;
        let last_seq = current.header.first_seq + current.records - 1;
        let mut footer = Vec::with_capacity(FOOTER_BYTES);
        Footer { last_seq, records: current.records, last_hash }.write(&mut footer);
        shared.or_poison("write", &current.path, write_all(&*current.file, current.at, &footer))?;
        shared.or_poison("sync", &current.path, current.file.sync_data())?;
        let bytes = current.at + footer.len() as u64;
        // The room behind it goes back to the disk; recovery does it where this is not durable.
        shared.or_poison("cut", &current.path, current.file.truncate(bytes))?;
        let segment = Segment {
            epoch: current.header.epoch,
            first_seq: current.header.first_seq,
            last_seq,
            last_hash,
            records: current.records,
            created_ns: current.header.created_ns,
            bytes,
            path: current.path,
            closed: true,
        };
        shared.publish(|s| {
            s.open = None;
            s.closed.insert((segment.epoch, segment.first_seq), segment);
        });
        Ok(())
    }

    /// Makes the file of a segment, with its header, durable under its name. Where there is no space for it,
    /// the spool stays as it is.
    fn start_segment(&mut self, header: Header, size_bytes: u64) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.shared);
        let spare = if size_bytes == shared.settings.segment_bytes { shared.take_spare() } else { None };
        let (file, unnamed) = match spare {
            Some(spare) => spare,
            None => {
                let path = shared.folder.join(UNNAMED);
                (shared.allocate(&path, size_bytes)?, path)
            }
        };
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        let path = shared.folder.join(segment_name(header.epoch, header.first_seq));
        let mut current = Current {
            file,
            path,
            size_bytes,
            at: 0,
            filled_bytes: 0,
            records: 0,
            next_seq: header.first_seq,
            last_hash: header.prev,
            header,
        };
        let written = current.write_bytes(&bytes, shared.settings.zero_ahead_bytes);
        shared.or_poison("write", &unnamed, written)?;
        shared.or_poison("sync", &unnamed, current.file.sync_data())?;
        shared.or_poison("name", &current.path, shared.files.rename(&unnamed, &current.path))?;
        shared.sync_folder()?;
        shared.publish(|s| s.open = Some(current.open()));
        self.written = None;
        self.current = Some(current);
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.publish(|s| s.ended = true);
    }
}

impl Current {
    /// Writes a piece where it goes, and what is to be zeros behind it.
    fn write(&mut self, piece: &Piece, zero_ahead_bytes: u64) -> std::io::Result<()> {
        if piece.size_bytes > self.size_bytes {
            self.file.preallocate(piece.size_bytes)?;
            self.size_bytes = piece.size_bytes;
        }
        self.write_bytes(&piece.bytes, zero_ahead_bytes)?;
        self.records += piece.records;
        Ok(())
    }

    fn write_bytes(&mut self, bytes: &[u8], zero_ahead_bytes: u64) -> std::io::Result<()> {
        write_all(&*self.file, self.at, bytes)?;
        self.at += bytes.len() as u64;
        if self.at > self.filled_bytes {
            let end = self.size_bytes.min(self.at + zero_ahead_bytes);
            let mut zeroed = self.at;
            while zeroed < end {
                let part = (ZEROS.len() as u64).min(end - zeroed);
                write_all(&*self.file, zeroed, &ZEROS[..part as usize])?;
                zeroed += part;
            }
            self.filled_bytes = zeroed;
        }
        Ok(())
    }

    /// The segment as others see it, once what was written is durable.
    fn open(&self) -> Open {
        Open {
            header: self.header.clone(),
            path: self.path.clone(),
            durable_bytes: self.at,
            records: self.records,
            size_bytes: self.size_bytes,
        }
    }
}

impl Piece {
    fn new(at: u64, size_bytes: u64) -> Self {
        Self { bytes: Vec::new(), last: 0..0, records: 0, record_bytes: 0, at, size_bytes }
    }

    fn has_room(&self, framed_bytes: u64) -> bool {
        self.at + self.bytes.len() as u64 + framed_bytes + FOOTER_BYTES as u64 <= self.size_bytes
    }

    fn last_record(&self) -> &[u8] {
        &self.bytes[self.last.clone()]
    }
}

fn no_epoch() -> SpoolError {
    SpoolError::Order("no epoch was begun".to_owned())
}
