//! One archive object against its manifest, row by row.

use std::collections::BTreeMap;

use keytrail_archive::{Digests, Leaf, ObjectReader, Projection, ReadError, Selection, StoredRow};
use keytrail_ledger::{Code, Finding};
use keytrail_model::manifest::{DetailRef, ObjectRef, RowsRef};
use keytrail_model::merkle::RootBuilder;
use keytrail_model::row::{Encoded, Provenance, columns, text};
use keytrail_model::sha256::of_two;
use keytrail_model::{Column, Day, Fatal, Hash, RowBuffer, Timestamp, Uid};
use keytrail_normalize::sequence::Position;
use keytrail_normalize::{Context, Declaration, Format, Origin, normalize_of};
use keytrail_ports::BlobStore;

use crate::decisions::Withheld;
use crate::lineage::Lineage;
use crate::objects::{self, Object};
use crate::readable::{self, Retired, SealedObject};
use crate::sequence::Sequences;
use crate::tally::format_of;
use crate::verify::{Followed, Rederive};

/// Checks objects.
pub(crate) struct ObjectCheck<'a> {
    pub store: &'a dyn BlobStore,
    pub rederive: Option<Rederive<'a>>,
    /// What was retired.
    pub history: &'a BTreeMap<u64, Retired>,
    /// What was withheld.
    pub withheld: &'a Withheld,
    /// The last log entry that is damaged or missing, or goes on with such a one.
    pub last_lost: Option<u64>,
    /// Takes what has a place in a chain.
    pub chains: &'a Followed,
}

/// What one object gave.
#[derive(Default)]
pub(crate) struct Checked {
    pub findings: Vec<Finding>,
    pub rows: u64,
    /// Rows whose normalizer this binary has not, by its version.
    pub other_versions: BTreeMap<String, u64>,
    /// Masked values that could not be compared.
    pub masked: u64,
    /// Rows without an original.
    pub withheld: u64,
    /// Rows without an original, of which a list that cannot be read may say why.
    pub undecided: u64,
    /// What was not checked, and why.
    pub unchecked: Vec<String>,
    /// Rewrites below it that could not be looked into.
    pub unknown: u64,
    /// All rows were read.
    pub whole: bool,
    /// Their numbers.
    pub sequences: Sequences,
    /// Numbered rows that do not say of which HSM they are.
    pub without_hsm: u64,
}

impl ObjectCheck<'_> {
    /// Checks one object. An error means that the store failed; everything else is a finding.
    pub fn object(&self, sealed: &SealedObject) -> Result<Checked, Fatal> {
        let mut checked = Checked::default();
        let key = &sealed.object.key;
        let finding = |code, message: String| Finding::new(code, key.clone(), message);
        let ObjectRef { bytes, sha256, .. } = &sealed.object;
        let place = format!("archive/dataset={}/day={}/", sealed.rows.dataset, sealed.rows.day);
        if key.strip_prefix(&place).is_none_or(|name| name.contains('/')) {
            // Readers of the folder take dataset and day from its name.
            checked.findings.push(finding(Code::ObjectMismatch, format!("it does not lie in `{place}`")));
        }
        let Some(object) = objects::object(self.store, key)? else {
            if self.last_lost.is_some_and(|lost| lost > sealed.leaf) {
                let why = "what may have replaced it is missing or damaged, see the findings";
                checked.unchecked.push(format!("`{key}`: it is not there; {why}"));
                return Ok(checked);
            }
            let gone = format!("it is not there; sealed were {bytes} bytes with the SHA-256 {sha256}");
            checked.findings.push(finding(Code::FileMissing, gone));
            return Ok(checked);
        };
        if let Some(message) = changed(&object, &sealed.object)? {
            checked.findings.push(finding(Code::ObjectMismatch, message));
            return Ok(checked);
        }
        let read = object.reader(key).and_then(|reader| {
            let read = self.rows(&reader, sealed, &mut checked);
            read.and_then(|()| numbers(&reader, sealed, &mut checked)).map_err(|e| match e {
                ReadError::Io(fatal) => fatal,
                ReadError::Damaged(m) => Fatal::new("Fatal.ArchiveDamaged", m),
            })
        });
        match read {
            Err(e) if e.code == "Fatal.ArchiveDamaged" => {
                checked.findings.push(finding(Code::ObjectMismatch, e.message));
                Ok(checked)
            }
            other => other.map(|()| checked),
        }
    }

    fn rows(&self, reader: &ObjectReader, sealed: &SealedObject, out: &mut Checked) -> Result<(), ReadError> {
        let key = &sealed.object.key;
        let expected = &sealed.rows;
        let (mut events, mut rows) = (RootBuilder::new(), RootBuilder::new());
        let mut digests = Digests::default();
        let (mut time_min, mut time_max) = (None::<i64>, None::<i64>);
        let mut before: Option<Uid> = None;
        let may_be_decided = self.withheld.is_lost_before(sealed.leaf)
            || self.last_lost.is_some_and(|lost| lost < sealed.leaf);
        let mut again = RowBuffer::new();
        let mut misplaced = Misplaced { expected, last: None };
        let mut details = |sealed: &DetailRef| match readable::detail(self.store, sealed) {
            Err(e) if e.code == "Fatal.ObjectMissing" => Ok(None),
            other => other,
        };
        let mut lineage = Lineage::of(sealed, self.history, &mut details).map_err(ReadError::Io)?;
        for batch in reader.batches(&Projection::Bound, Selection::All) {
            let batch = batch?;
            self.chains.rows(key, &batch);
            let mut whole = self.rederive.map(|rederive| (rederive, batch.rows()));
            let leaves: Vec<Leaf<'_>> = batch.leaves(&mut digests).collect();
            for (leaf, original_hash) in leaves.iter().zip(original_hashes(&leaves)) {
                let [event, row] = events.push_both(&mut rows, [&leaf.hash, &leaf.digest]);
                if let Some(lineage) = &mut lineage {
                    lineage.push(event, row);
                }
                let element = || format!("{key} row {} uid {}", leaf.number, leaf.uid);
                if before == Some(leaf.uid) {
                    out.findings.push(Finding::new(
                        Code::Dup,
                        element(),
                        "the event stands twice in its object",
                    ));
                }
                before = Some(leaf.uid);
                match leaf.original {
                    Some(_) if original_hash != leaf.hash => out.findings.push(Finding::new(
                        Code::LeafMismatch,
                        element(),
                        "`event_hash` is not the SHA-256 of `event_original`",
                    )),
                    Some(_) => {}
                    None => {
                        out.withheld += 1;
                        match self.withheld.reason(&leaf.uid, sealed.leaf) {
                            Some(reason) => out.findings.push(Finding::new(
                                Code::Withheld,
                                element(),
                                format!("its original bytes were withheld, their hash is kept: {reason}"),
                            )),
                            None if may_be_decided => out.undecided += 1,
                            None => out.findings.push(Finding::new(
                                Code::LeafMismatch,
                                element(),
                                "its original bytes are not there, and no entry of the log withholds them",
                            )),
                        }
                    }
                }
                if let Some(message) = misplaced.is(leaf) {
                    out.findings.push(Finding::new(Code::ColumnMismatch, element(), message));
                }
                if let Some(t) = leaf.time {
                    time_min = Some(time_min.map_or(t.0, |m| m.min(t.0)));
                    time_max = Some(time_max.map_or(t.0, |m| m.max(t.0)));
                }
                if let Some((rederive, row)) = whole.as_mut().and_then(|(r, rows)| Some((*r, rows.next()?))) {
                    derive_again(&row, rederive, &mut again, out, &element);
                }
                out.rows += 1;
            }
        }
        let mut differs = |code, what: &str| {
            out.findings.push(Finding::new(
                code,
                key.clone(),
                format!("{what} is not what the manifest says"),
            ));
        };
        if events.root() != expected.events_root || events.size() != expected.count {
            differs(Code::LeafMismatch, "the root over the event hashes");
        }
        if rows.root() != expected.rows_root {
            differs(Code::ColumnMismatch, "the root over the rows' columns");
        }
        if (time_min, time_max) != (expected.time_min, expected.time_max) {
            differs(Code::ColumnMismatch, "the range of event times");
        }
        if let Some(lineage) = lineage {
            out.unknown += lineage.unknown();
            out.findings.extend(lineage.finish());
        }
        Ok(())
    }
}

/// The numbers of rows whose producer numbers them, and does not chain them.
fn numbers(reader: &ObjectReader, sealed: &SealedObject, out: &mut Checked) -> Result<(), ReadError> {
    if let Some(format @ Format::CloudHsm) = format_of(&sealed.rows.dataset) {
        let projection = Projection::Columns(Position::COLUMNS.to_vec());
        for batch in reader.batches(&projection, Selection::All) {
            for row in batch?.rows() {
                match Position::of_row(format, row.columns) {
                    Some(position) => out.sequences.add(&position),
                    None => out.without_hsm += 1,
                }
            }
        }
    }
    out.whole = true;
    Ok(())
}

/// SHA-256 of each row's original bytes, or of none.
fn original_hashes(leaves: &[Leaf<'_>]) -> Vec<Hash> {
    fn bytes<'a>(leaf: &Leaf<'a>) -> &'a [u8] {
        leaf.original.unwrap_or_default()
    }
    let mut hashes = Vec::with_capacity(leaves.len());
    for two in leaves.chunks(2) {
        match two {
            [a, b] => hashes.extend(of_two(bytes(a), bytes(b))),
            _ => hashes.extend(two.iter().map(|leaf| Hash::of(bytes(leaf)))),
        }
    }
    hashes
}

/// What is wrong with an object's bytes as a whole.
pub(crate) fn changed(object: &Object, sealed: &ObjectRef) -> Result<Option<String>, Fatal> {
    if object.len() != sealed.bytes {
        return Ok(Some(format!("it has {} bytes, sealed were {}", object.len(), sealed.bytes)));
    }
    let is = object.sha256()?;
    Ok((is != sealed.sha256).then(|| format!("its SHA-256 is {is}, sealed was {}", sealed.sha256)))
}

/// Tells rows that do not belong into their partition.
struct Misplaced<'a> {
    expected: &'a RowsRef,
    /// The last row's day, and its name where it is not the partition's: rows are sorted by time.
    last: Option<(Day, Option<String>)>,
}

impl Misplaced<'_> {
    fn is(&mut self, row: &Leaf<'_>) -> Option<String> {
        let expected = self.expected;
        if row.dataset != Some(expected.dataset.as_str()) {
            return Some(format!("`event_dataset` is not that of its partition, `{}`", expected.dataset));
        }
        let day = Day::of(row.time);
        if self.last.as_ref().is_none_or(|(last, _)| *last != day) {
            self.last = Some((day, Some(day.to_string()).filter(|name| *name != expected.day)));
        }
        let other = self.last.as_ref().and_then(|(_, other)| other.as_ref())?;
        Some(format!("its time is of the day `{other}`, its partition is `{}`", expected.day))
    }
}

/// Normalizes the original again and compares all derived columns. What a container or a declaration said of
/// the record is not in the original: it is taken from the row.
fn derive_again(
    row: &StoredRow<'_>,
    rederive: Rederive<'_>,
    again: &mut RowBuffer,
    out: &mut Checked,
    element: &dyn Fn() -> String,
) {
    let Some(original) = row.original else { return };
    let version = text(row.columns, Column::KeytrailNormalizer).unwrap_or_default();
    let format = Format::ALL.into_iter().find(|f| f.normalizer() == version);
    let Some(format) = format else {
        *out.other_versions.entry(version.to_owned()).or_default() += 1;
        return;
    };
    again.clear();
    let declared = Declaration::of_row(format, row.columns);
    let ctx = Context { now: Timestamp(i64::MAX), masker: rederive.masker, declared };
    let from = Provenance { input: 0, offset: 0 };
    let mut wrong = |message: String| {
        out.findings.push(Finding::new(Code::ColumnMismatch, element(), message));
    };
    let origin = Origin::of_row(format, row.columns);
    if let Err(rejection) = normalize_of(format, original, &origin, from, &ctx, again) {
        wrong(format!("the original gives no event: {}: {}", rejection.code, rejection.reason));
        return;
    }
    let derived = again.row(0);
    if !derived.head.keyless
        && (derived.head.uid, derived.head.group) != (row.uid, row.group.unwrap_or_default())
    {
        wrong("`keytrail_uid` or `keytrail_group` is not what the original gives".into());
    }
    if derived.columns == row.columns {
        return;
    }
    let stored: BTreeMap<Column, Encoded<'_>> = columns(row.columns).collect();
    let expected: BTreeMap<Column, Encoded<'_>> = columns(derived.columns).collect();
    for column in Column::ALL {
        let (is, should) = (stored.get(&column), expected.get(&column));
        if is == should {
            continue;
        }
        if !rederive.has_key && [is, should].into_iter().flatten().any(holds_mask) {
            out.masked += 1;
            continue;
        }
        wrong(format!("`{}` is {}, the original gives {}", column.name(), show(is), show(should)));
    }
}

fn holds_mask(value: &Encoded<'_>) -> bool {
    match value {
        Encoded::Text(t) => t.contains("masked:"),
        Encoded::List(items) => (*items).into_iter().any(|t| t.contains("masked:")),
        _ => false,
    }
}

fn show(value: Option<&Encoded<'_>>) -> String {
    match value {
        None => "null".into(),
        Some(Encoded::Text(t)) => format!("`{t}`"),
        Some(Encoded::Int(n)) => n.to_string(),
        Some(Encoded::Bool(b)) => b.to_string(),
        Some(Encoded::List(items)) => format!("[{}]", (*items).into_iter().collect::<Vec<_>>().join(", ")),
    }
}
