//! An object of a store as an input: read in pieces, in order.
//!
//! A store that does not answer is no property of the input, as damage is: reading ends, nothing is handed on for the
//! part that did not come, and the run fails with the store's error.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use keytrail_model::Fatal;
use keytrail_ports::BlobRead;

/// Bytes asked for at once.
const PIECE_BYTES: u64 = 4 << 20;

/// An opened object.
#[derive(Clone)]
pub struct Blob(Arc<dyn BlobRead>);

impl Blob {
    /// An object to read from its start.
    pub fn new(object: Box<dyn BlobRead>) -> Self {
        Self(Arc::from(object))
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Blob {}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of {} bytes", self.0.len())
    }
}

/// What ended reading although the object did not end.
#[derive(Default)]
pub(super) struct Interrupted {
    pub stopped: Cell<bool>,
    pub failed: RefCell<Option<Fatal>>,
}

/// Reads a blob in pieces.
pub(super) struct Reader<'a> {
    blob: &'a Blob,
    next: u64,
    piece: Vec<u8>,
    at: usize,
    interrupted: &'a Interrupted,
}

impl<'a> Reader<'a> {
    pub fn new(blob: &'a Blob, interrupted: &'a Interrupted) -> Self {
        Self { blob, next: 0, piece: Vec::new(), at: 0, interrupted }
    }

    fn fill(&mut self) -> bool {
        let len = PIECE_BYTES.min(self.blob.0.len() - self.next);
        // At most a piece.
        self.piece.resize(len as usize, 0);
        self.at = 0;
        if let Err(e) = self.blob.0.read_at(self.next, &mut self.piece) {
            *self.interrupted.failed.borrow_mut() = Some(e.into());
            self.interrupted.stopped.set(true);
            self.piece.clear();
            return false;
        }
        self.next += len;
        true
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && (self.next == self.blob.0.len() || !self.fill()) {
            return Ok(0);
        }
        let n = out.len().min(self.piece.len() - self.at);
        out[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
