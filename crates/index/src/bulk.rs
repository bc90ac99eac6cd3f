//! Bodies of bulk requests.
//!
//! What it is: lines of operations and documents, cut by bytes and number. In: documents. Out: a body, and what each
//! of its items is, in its order.

use std::ops::Range;

use keytrail_model::Uid;

use crate::document::{Event, Writer};
use crate::name::IndexName;

/// What is done with a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// It is new: refused with 409 where its id is there already.
    Create,
    /// It takes the place of the one that is there: after `renormalize` and `withhold`.
    Index,
}

/// How large a body may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes before compression.
    pub bytes: usize,
    /// Items.
    pub items: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 5 << 20, items: 5_000 }
    }
}

/// An item of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// What is done.
    pub op: Op,
    /// The document's id.
    pub uid: Uid,
    /// Its index, by its number in [`Bulk::indices`].
    pub index: usize,
    /// Its two lines in the body.
    pub lines: Range<usize>,
    /// Where its document begins.
    pub document: usize,
}

/// A body in the making.
#[derive(Clone, Default, Debug)]
pub struct Bulk {
    body: Vec<u8>,
    items: Vec<Item>,
    indices: Vec<IndexName>,
    limits: Limits,
}

impl Bulk {
    /// Empty.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Appends an event's document.
    pub fn push(&mut self, op: Op, index: &IndexName, event: &Event<'_>, writer: &mut Writer) {
        self.push_with(op, index, event.uid, |out| writer.write(event, out));
    }

    /// Appends a document that `write` appends as one line without its end.
    pub fn push_with(&mut self, op: Op, index: &IndexName, uid: Uid, write: impl FnOnce(&mut Vec<u8>)) {
        // Rows come sorted: an index's documents stand together.
        let number = match self.indices.last() {
            Some(last) if last == index => self.indices.len() - 1,
            _ => self.indices.iter().position(|known| known == index).unwrap_or_else(|| {
                self.indices.push(index.clone());
                self.indices.len() - 1
            }),
        };
        let start = self.body.len();
        self.body.extend_from_slice(match op {
            Op::Create => b"{\"create\":{\"_index\":\"".as_slice(),
            Op::Index => b"{\"index\":{\"_index\":\"",
        });
        // Names of indices have no character that JSON escapes.
        self.body.extend_from_slice(index.as_str().as_bytes());
        self.body.extend_from_slice(b"\",\"_id\":\"");
        self.body.extend_from_slice(&uid.hex());
        self.body.extend_from_slice(b"\"}}\n");
        let document = self.body.len();
        write(&mut self.body);
        self.body.push(b'\n');
        self.items.push(Item { op, uid, index: number, lines: start..self.body.len(), document });
    }

    /// Whether it is as large as it may become.
    pub fn is_full(&self) -> bool {
        self.body.len() >= self.limits.bytes || self.items.len() >= self.limits.items
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The body, in newline-delimited JSON.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What it asks for, in its order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The index that an item's document belongs in.
    pub fn index_of(&self, item: &Item) -> &IndexName {
        &self.indices[item.index]
    }

    /// All indices that it writes to.
    pub fn indices(&self) -> &[IndexName] {
        &self.indices
    }

    /// An item's document.
    pub fn document(&self, item: &Item) -> &[u8] {
        self.body[item.document..item.lines.end].trim_ascii_end()
    }

    /// A body of some of the items, by their numbers.
    #[must_use]
    pub fn some(&self, numbers: impl IntoIterator<Item = usize>) -> Self {
        let mut some = Self::new(self.limits);
        for item in numbers.into_iter().filter_map(|n| self.items.get(n)) {
            some.push_with(item.op, self.index_of(item), item.uid, |out| {
                out.extend_from_slice(self.document(item))
            });
        }
        some
    }

    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.body.clear();
        self.items.clear();
        self.indices.clear();
    }
}

#[cfg(test)]
mod tests {
    use keytrail_model::Day;

    use super::*;
    use crate::name::{Namespace, Period};

    fn index(month: &str) -> IndexName {
        let day = Day::parse(&format!("{month}-01")).expect("a day");
        IndexName::of("aws.cloudtrail", &Namespace::default(), Period::Month, day)
    }

    fn bulk(limits: Limits) -> Bulk {
        let mut bulk = Bulk::new(limits);
        for (n, month) in [(1, "2023-07"), (2, "2023-08"), (3, "2023-07")] {
            let op = if n == 2 { Op::Index } else { Op::Create };
            bulk.push_with(op, &index(month), Uid([n; 20]), |out| {
                out.extend_from_slice(format!("{{\"n\":{n}}}").as_bytes())
            });
        }
        bulk
    }

    #[test]
    fn a_body_has_two_lines_for_each_item() {
        let bulk = bulk(Limits::default());
        let body = std::str::from_utf8(bulk.body()).expect("UTF-8");
        assert!(body.ends_with("}\n"), "the last line needs its end");
        let lines: Vec<&str> = body.lines().collect();
        let expected = r#"{"create":{"_index":"keytrail-aws.cloudtrail-default-2023.07","_id":"0101010101010101010101010101010101010101"}}"#;
        assert_eq!(lines[..2], [expected, r#"{"n":1}"#]);
        assert!(lines[2].starts_with(r#"{"index":{"_index":"keytrail-aws.cloudtrail-default-2023.08""#));
        assert_eq!((bulk.indices().len(), bulk.items()[2].index), (2, 0));
        assert_eq!(bulk.document(&bulk.items()[2]), br#"{"n":3}"#);
    }

    #[test]
    fn some_of_the_items_are_sent_again_as_they_were() {
        let whole = bulk(Limits::default());
        let some = whole.some([1, 2]);
        assert_eq!(some.items().iter().map(|i| i.uid.0[0]).collect::<Vec<_>>(), [2, 3]);
        assert!(whole.body().ends_with(some.body()));
    }

    #[test]
    fn it_is_full_by_bytes_or_by_number() {
        assert!(!bulk(Limits::default()).is_full());
        assert!(bulk(Limits { bytes: 100, items: 99 }).is_full());
        assert!(bulk(Limits { bytes: 1 << 20, items: 3 }).is_full());
    }
}
