//! What tables say of rows, beside their own columns: in no digest, in the same file.

/// Enrichment columns of rows, one after the other, each in the row encoding; none is no bytes.
#[derive(Clone, Default, Debug)]
pub struct Enrichment {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Enrichment {
    /// Appends what `write` appends for the next row.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Forgets all rows, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// A row's columns; of a row that was not pushed none.
    pub fn row(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or(0));
        self.ends.get(row).and_then(|end| self.bytes.get(start..*end)).unwrap_or_default()
    }
}
