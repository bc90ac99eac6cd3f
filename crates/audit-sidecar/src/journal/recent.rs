//! Lines that were recorded lately: one that comes again is the same line.
//!
//! Writers of audit lines send a line again where they did not hear that it was taken. Its record stands once,
//! and the second answer is the first one's receipt.

use std::collections::{HashMap, VecDeque};

use keytrail_model::{Hash, Receipt};

/// Lines that are remembered.
const LINES: usize = 16_384;

/// The last lines, by SHA-256.
#[derive(Default)]
pub struct Recent {
    receipts: HashMap<Hash, Receipt>,
    order: VecDeque<Hash>,
}

impl Recent {
    /// The record of a line.
    pub fn get(&self, line: &Hash) -> Option<&Receipt> {
        self.receipts.get(line)
    }

    /// A line was recorded.
    pub fn add(&mut self, line: Hash, receipt: Receipt) {
        if self.receipts.insert(line, receipt).is_some() {
            return;
        }
        self.order.push_back(line);
        if self.order.len() > LINES
            && let Some(oldest) = self.order.pop_front()
        {
            self.receipts.remove(&oldest);
        }
    }
}
