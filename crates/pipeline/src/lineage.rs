//! Whether a rewritten object holds what it replaced: every retired object below it is put together again
//! from its rows, hash by hash, and compared with the manifest that it was sealed by.
//!
//! What it is: the check of rewrites (INTEGRITY section 4), by whoever verifies and by the writer before
//! anything is deleted. What it is not: it reads no rows. In: manifests, mappings, and the leaf hashes of
//! the rows that are there, in their order. Out: findings.
//!
//! A mapping pairs rows of the new object, and those that were dropped because they equal one of it, with
//! rows of the replaced ones. That a replaced object's roots come out the same says that none of its rows is
//! lost, altered or in another place; that each pairing is used up says that none was added or doubled.
//! Rows come in the order of the new object: a replaced object whose rows were sorted gets them in its own
//! order and needs the memory of a root alone, others keep those that wait for their turn.

use std::collections::BTreeMap;

use keytrail_ledger::{Code, Finding};
use keytrail_model::manifest::{DetailRef, DroppedRow, ManifestKind, RowRun, RowsRef};
use keytrail_model::merkle::RootBuilder;
use keytrail_model::{Detail, Fatal, Hash};

use crate::readable::{Retired, SealedObject};

/// Gives a detail object; `None` where it is not what was sealed, which is found elsewhere.
pub(crate) type Details<'a> = dyn FnMut(&DetailRef) -> Result<Option<Detail>, Fatal> + 'a;

/// The objects below one that is there.
pub(crate) struct Lineage {
    /// The first is the one that is there.
    nodes: Vec<Node>,
    /// Rewrites whose mapping is not to be had.
    unknown: u64,
}

struct Node {
    leaf: u64,
    key: String,
    /// The rewrite that retired it.
    by: (u64, ManifestKind),
    parent: usize,
    expected: RowsRef,
    /// Neither the rewrite that retired it nor one after it derived columns anew.
    same_columns: bool,
    events: RootBuilder,
    rows: RootBuilder,
    next: u32,
    /// Leaves that came before their turn.
    waiting: BTreeMap<u32, Leaf>,
    /// A row came twice.
    doubled: Option<u32>,
    mapping: Option<Mapping>,
}

/// Leaf hashes under `events_root` and `rows_root`.
type Leaf = (Hash, Hash);

/// Where the rows of a rewritten object come from.
struct Mapping {
    runs: std::vec::IntoIter<RowRun>,
    /// What is left of the current run.
    run: RowRun,
    dropped: std::iter::Peekable<std::vec::IntoIter<DroppedRow>>,
    row: u32,
    /// The replaced objects' nodes.
    inputs: std::ops::Range<usize>,
    /// What does not fit.
    wrong: Option<String>,
}

impl Lineage {
    /// All that is below an object.
    pub fn of(
        object: &SealedObject,
        history: &BTreeMap<u64, Retired>,
        details: &mut Details<'_>,
    ) -> Result<Option<Self>, Fatal> {
        if object.rewrite.is_none() {
            return Ok(None);
        }
        let mut lineage = Self { nodes: vec![Node::of(object, (0, ManifestKind::Add), 0, true)], unknown: 0 };
        let mut objects = vec![object];
        let mut at = 0;
        // Each object is retired once, by a later one: the nodes are a tree.
        while let Some(mut object) = objects.get(at).copied() {
            let mut same = lineage.nodes[at].same_columns;
            while let Some(rewrite) = &object.rewrite {
                let by = (object.leaf, rewrite.kind);
                let first = lineage.nodes.len();
                // The readable set took them from there, or would have refused the entry.
                let inputs: Vec<&Retired> = rewrite.replaces.iter().filter_map(|l| history.get(l)).collect();
                match details(&rewrite.detail)? {
                    Some(detail) if inputs.len() == rewrite.replaces.len() => {
                        same &= by.1 != ManifestKind::Renormalize;
                        // An object of years of withholdings is put together once.
                        if let [input] = inputs[..]
                            && is_whole(&detail, &object.rows)
                            && has_same_rows(&object.rows, &input.object.rows, same)
                        {
                            object = &input.object;
                            continue;
                        }
                        for input in inputs {
                            lineage.nodes.push(Node::of(&input.object, by, at, same));
                            objects.push(&input.object);
                        }
                        let inputs = first..lineage.nodes.len();
                        lineage.nodes[at].mapping = Some(Mapping::new(detail.rows, detail.dropped, inputs));
                    }
                    _ => lineage.unknown += 1,
                }
                break;
            }
            at += 1;
        }
        Ok(Some(lineage))
    }

    /// Of an object that is not sealed yet, and what it would replace.
    pub fn of_new(rows: &RowsRef, kind: ManifestKind, inputs: &[SealedObject], detail: &Detail) -> Self {
        let mut top = Node::new((u64::MAX, String::new()), rows, (0, ManifestKind::Add), 0, true);
        top.mapping = Some(Mapping::new(detail.rows.clone(), detail.dropped.clone(), 1..inputs.len() + 1));
        let same = kind != ManifestKind::Renormalize;
        let mut nodes = vec![top];
        nodes.extend(inputs.iter().map(|o| Node::of(o, (u64::MAX, kind), 0, same)));
        Self { nodes, unknown: 0 }
    }

    /// The next row of the object, by its leaf hashes.
    pub fn push(&mut self, event: Hash, row: Hash) {
        let next = self.nodes[0].next;
        let mut work = vec![(0, next, (event, row))];
        while let Some((at, row, leaf)) = work.pop() {
            let node = &mut self.nodes[at];
            if row != node.next {
                if row < node.next || node.waiting.insert(row, leaf).is_some() {
                    node.doubled = Some(row);
                }
                continue;
            }
            node.events.push(leaf.0);
            node.rows.push(leaf.1);
            // A row number is less than the greatest, which is checked where runs are taken.
            node.next = node.next.saturating_add(1);
            if let Some(leaf) = node.waiting.remove(&node.next) {
                work.push((at, node.next, leaf));
            }
            if let Some(mapping) = &mut node.mapping {
                mapping.next(&mut |input, row| work.push((input, row, leaf)));
            }
        }
    }

    /// Rewrites that could not be looked into: their detail object is missing or damaged.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// What does not fit. Below an object that is not what it was, nothing is judged.
    pub fn finish(self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut judged = vec![true; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            let mut wrong = None;
            if at > 0 && judged[node.parent] {
                wrong = node.wrong();
            } else if at > 0 {
                judged[at] = false;
            }
            if let Some((code, what)) = wrong {
                judged[at] = false;
                let (by, kind) = node.by;
                findings.push(Finding::new(
                    code,
                    format!("log entry {by}"),
                    format!(
                        "this `{}` does not keep what log entry {} held, `{}`: {what}",
                        kind.name(),
                        node.leaf,
                        node.key
                    ),
                ));
            }
            if let Some(what) = node.mapping.as_ref().and_then(Mapping::left)
                && judged[at]
            {
                let Some(input) = node.mapping.as_ref().and_then(|m| self.nodes.get(m.inputs.start)) else {
                    continue;
                };
                let (by, kind) = input.by;
                findings.push(Finding::new(
                    Code::LeafMismatch,
                    format!("log entry {by}"),
                    format!("this `{}` does not hold what it says: {what}", kind.name()),
                ));
            }
        }
        findings
    }
}

/// Whether all rows of a rewritten object are those of one that it replaces, each in its place.
fn is_whole(detail: &Detail, rows: &RowsRef) -> bool {
    let run = |r: &RowRun| (r.input, r.first, u64::from(r.count)) == (0, 0, rows.count);
    detail.dropped.is_empty() && matches!(&detail.rows[..], [all] if run(all))
}

/// Whether two objects were sealed with the same rows: one that is what it was says so of the other.
fn has_same_rows(one: &RowsRef, other: &RowsRef, same_columns: bool) -> bool {
    (one.count, one.events_root) == (other.count, other.events_root)
        && (!same_columns || one.rows_root == other.rows_root)
}

impl Node {
    fn of(object: &SealedObject, by: (u64, ManifestKind), parent: usize, same_columns: bool) -> Self {
        Self::new((object.leaf, object.object.key.clone()), &object.rows, by, parent, same_columns)
    }

    fn new(
        (leaf, key): (u64, String),
        expected: &RowsRef,
        by: (u64, ManifestKind),
        parent: usize,
        same_columns: bool,
    ) -> Self {
        Self {
            leaf,
            key,
            by,
            parent,
            expected: expected.clone(),
            same_columns,
            events: RootBuilder::new(),
            rows: RootBuilder::new(),
            next: 0,
            waiting: BTreeMap::new(),
            doubled: None,
            mapping: None,
        }
    }

    fn wrong(&self) -> Option<(Code, String)> {
        let (is, should) = (self.events.size(), self.expected.count);
        if let Some(row) = self.doubled {
            return Some((Code::LeafMismatch, format!("its row {row} is there twice")));
        }
        if let Some(row) = self.waiting.keys().next() {
            return Some((
                Code::LeafMismatch,
                format!("its row {} is missing, its row {row} is there", self.next),
            ));
        }
        if is != should {
            return Some((Code::LeafMismatch, format!("{is} of its {should} rows are there")));
        }
        if self.events.root() != self.expected.events_root {
            return Some((Code::LeafMismatch, "the root over its event hashes is another".into()));
        }
        if self.same_columns && self.rows.root() != self.expected.rows_root {
            return Some((Code::ColumnMismatch, "the root over its rows' columns is another".into()));
        }
        None
    }
}

impl Mapping {
    fn new(runs: Vec<RowRun>, dropped: Vec<DroppedRow>, inputs: std::ops::Range<usize>) -> Self {
        Self {
            runs: runs.into_iter(),
            run: RowRun { input: 0, first: 0, count: 0 },
            dropped: dropped.into_iter().peekable(),
            row: 0,
            inputs,
            wrong: None,
        }
    }

    /// Hands out where the next row comes from, and those that were dropped for it.
    fn next(&mut self, each: &mut dyn FnMut(usize, u32)) {
        let row = self.row;
        self.row = self.row.saturating_add(1);
        while self.run.count == 0 {
            match self.runs.next() {
                Some(run) => self.run = run,
                None => {
                    self.wrong.get_or_insert(format!("its row {row} comes from nowhere"));
                    return;
                }
            }
        }
        let RowRun { input, first, count } = self.run;
        self.run = RowRun { input, first: first.saturating_add(1), count: count - 1 };
        self.hand_out(input, first, each);
        while let Some(dropped) = self.dropped.next_if(|d| d.of == row) {
            self.hand_out(dropped.input, dropped.row, each);
        }
    }

    fn hand_out(&mut self, input: u32, row: u32, each: &mut dyn FnMut(usize, u32)) {
        match self.inputs.clone().nth(input as usize) {
            Some(node) if row < u32::MAX => each(node, row),
            _ => {
                let what =
                    format!("its row {} comes from row {row} of no object", self.row.saturating_sub(1));
                self.wrong.get_or_insert(what);
            }
        }
    }

    /// What does not fit, or is left when all rows were there.
    fn left(&self) -> Option<String> {
        let runs = self.run.count > 0 || self.runs.as_slice().iter().any(|r| r.count > 0);
        match &self.wrong {
            Some(wrong) => Some(wrong.clone()),
            None if runs => Some(format!("it has {} rows, fewer than come from others", self.row)),
            None if self.dropped.len() > 0 => Some("a row was dropped for one that is not there".into()),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use keytrail_model::manifest::ObjectRef;

    use super::*;
    use crate::readable::Rewrite;

    /// An object of 1,000 withholdings, one after the other, of which the one at `moved` says that it changed the
    /// order of the rows.
    fn chain(moved: u64) -> Lineage {
        let rows = |count| RowsRef {
            count,
            dataset: "aws.cloudtrail".into(),
            day: "2023-07-10".into(),
            events_root: Hash::of(b"events"),
            normalizers: Vec::new(),
            rows_root: Hash::of(b"rows"),
            schema: 1,
            tables: Vec::new(),
            time_max: None,
            time_min: None,
        };
        let detail = |leaf| {
            let run = |first, count| RowRun { input: 0, first, count };
            let rows = if leaf == moved { vec![run(4, 4), run(0, 4)] } else { vec![run(0, 8)] };
            Detail { rows, version: 1, ..Detail::default() }
        };
        let object = |leaf: u64| SealedObject {
            leaf,
            object: ObjectRef { bytes: 1, key: leaf.to_string(), sha256: Hash::default() },
            rows: rows(8),
            archived: 0,
            rewrite: (leaf > 0).then(|| {
                let detail = DetailRef { key: leaf.to_string(), ..detail(leaf).to_object().1 };
                Box::new(Rewrite { kind: ManifestKind::Withhold, replaces: vec![leaf - 1], detail })
            }),
        };
        let retired =
            |leaf| Retired { object: object(leaf), by: leaf + 1, kind: ManifestKind::Withhold, at: 0 };
        let history = (0..1_000).map(|leaf| (leaf, retired(leaf))).collect();
        let details = &mut |sealed: &DetailRef| Ok(sealed.key.parse().ok().map(detail));
        Lineage::of(&object(1_000), &history, details).unwrap().unwrap()
    }

    /// However often an object was written again, its rows are put together once for each that moved them.
    #[test]
    fn rows_that_stay_in_their_places_are_put_together_once() {
        assert_eq!(chain(0).nodes.len(), 1);
        let moved = chain(700);
        assert_eq!(moved.nodes.len(), 2);
        assert_eq!((moved.nodes[1].leaf, moved.nodes[1].by.0), (699, 700));
    }
}
