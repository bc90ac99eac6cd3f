//! A piece of a file in memory, moved along as it is read.

use std::io;
use std::sync::Arc;

use super::files::{FileAccess, ZEROS, read_full};

/// How much is read at once.
const PIECE_BYTES: usize = 1 << 18;

/// A view of the first `end` bytes of a file.
pub(super) struct Window {
    file: Arc<dyn FileAccess>,
    end: u64,
    /// Offset of `buffer` in the file.
    start: u64,
    buffer: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: Arc<dyn FileAccess>, end: u64) -> Self {
        Self { file, end, start: 0, buffer: Vec::new() }
    }

    /// Where the view ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The bytes from `offset`: at least `needed`, where the view has them.
    pub(super) fn at(&mut self, offset: u64, needed: usize) -> io::Result<&[u8]> {
        let wanted = (needed as u64).min(self.end.saturating_sub(offset));
        let held = self.start..=self.start + self.buffer.len() as u64;
        if !held.contains(&offset) || offset + wanted > *held.end() {
            self.move_to(offset, wanted as usize)?;
        }
        Ok(&self.buffer[(offset - self.start) as usize..])
    }

    fn move_to(&mut self, offset: u64, wanted: usize) -> io::Result<()> {
        let size = (wanted.max(PIECE_BYTES) as u64).min(self.end.saturating_sub(offset)) as usize;
        let held_end = self.start + self.buffer.len() as u64;
        let kept = if (self.start..held_end).contains(&offset) {
            self.buffer.drain(..(offset - self.start) as usize);
            self.buffer.len()
        } else {
            self.buffer.clear();
            0
        };
        self.start = offset;
        if size <= kept {
            return Ok(());
        }
        self.buffer.resize(size, 0);
        // After a large record.
        self.buffer.shrink_to(8 * PIECE_BYTES);
        let read = read_full(&*self.file, offset + kept as u64, &mut self.buffer[kept..])?;
        if kept + read < size {
            // The file was shortened by another: what is not there reads as room that was not written.
            self.buffer[kept + read..].fill(0);
        }
        Ok(())
    }

    /// The end of the last byte from `offset` that is not zero; `None`: all are.
    pub(super) fn last_written(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        let mut last = None;
        while offset < self.end {
            let piece = self.at(offset, 1)?;
            for (i, part) in piece.chunks(ZEROS.len()).enumerate() {
                if part != &ZEROS[..part.len()]
                    && let Some(byte) = part.iter().rposition(|b| *b != 0)
                {
                    last = Some(offset + (i * ZEROS.len() + byte) as u64 + 1);
                }
            }
            offset += piece.len() as u64;
        }
        Ok(last)
    }
}
