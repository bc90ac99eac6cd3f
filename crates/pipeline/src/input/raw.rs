//! An input's bytes as they come, before they are inflated.

use std::io::{self, BufRead, Read};

use keytrail_model::Hash;
use sha2::{Digest, Sha256};

use super::READ_BYTES;

/// The bytes as they come: hashed and counted, ended by the first end of file or error.
pub(super) struct Raw<'a> {
    source: Box<dyn Read + 'a>,
    hash: Sha256,
    /// Bytes read.
    pub bytes: u64,
    buffer: &'a mut Vec<u8>,
    at: usize,
    ended: bool,
    /// What ended it early.
    pub failed: Option<io::Error>,
}

impl<'a> Raw<'a> {
    pub fn new(source: Box<dyn Read + 'a>, buffer: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        Self { source, hash: Sha256::new(), bytes: 0, buffer, at: 0, ended: false, failed: None }
    }

    /// Reads on until `n` bytes are buffered or the input ends.
    pub fn prefill(&mut self, n: usize) {
        while self.buffer.len() - self.at < n && !self.ended {
            let from = self.buffer.len();
            self.buffer.resize(from + READ_BYTES, 0);
            let got = self.source.read(&mut self.buffer[from..]);
            self.buffer.truncate(from + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(n) => {
                    self.hash.update(&self.buffer[from..]);
                    self.bytes += n as u64;
                    self.ended = n == 0;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.failed = Some(e);
                    self.ended = true;
                }
            }
        }
    }

    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Whether all of the input was read, without a failure.
    pub fn is_at_end(&self) -> bool {
        self.ended && self.failed.is_none()
    }

    /// Bytes that a decoder has taken.
    pub fn position(&self) -> u64 {
        self.bytes - self.buffered().len() as u64
    }

    /// Reads what nobody wants, for the hash.
    pub fn drain(&mut self) {
        while !self.ended {
            self.buffer.clear();
            self.at = 0;
            self.prefill(1);
        }
    }

    pub fn sha256(&self) -> Hash {
        Hash(self.hash.clone().finalize().into())
    }
}

impl BufRead for Raw<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            self.prefill(1);
        }
        if self.at == self.buffer.len() && self.failed.is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at = self.buffer.len().min(self.at + n);
    }
}

impl Read for Raw<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}
