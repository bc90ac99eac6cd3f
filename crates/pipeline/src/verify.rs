//! Checks a trail without trust in who runs it (INTEGRITY section 5): signatures, consistency, the
//! tree, then every object that the log names, down to the bytes of each event.
//!
//! It goes on after the first thing that does not fit and names all of them. It reads only, and says
//! what it did not check.

mod calls;
mod chains;
mod events;
mod ranges;
mod unnamed;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use keytrail_ledger::chain::Counts;
use keytrail_ledger::tile::{Level, Tile, WIDTH};
use keytrail_ledger::{Audit, Checkpoint, Code, Finding, LogKeys, VerifierKey, audit};
use keytrail_model::manifest::{ManifestKind, RunItem};
use keytrail_model::{Detail, Fatal, Hash, Manifest, Receipt, Timestamp};
use keytrail_normalize::sequence::of_refused;
use keytrail_normalize::{Format, Masker};
use keytrail_ports::BlobStore;

use crate::cloudtrail_digests::{self, DigestReport, Digests};
use crate::concurrent;
use crate::decisions::Withheld;
use crate::object_check::{Checked, ObjectCheck};
use crate::quarantine::Entry;
use crate::readable::{Readable, SealedObject, add_runs};
use crate::retention;
use crate::sequence::Sequences;
use unnamed::unnamed;

pub(crate) use chains::Followed;
pub use ranges::by_range;
use ranges::{in_range, outside};

/// What to check and against what.
pub struct Options<'a> {
    /// Keys to check the head with.
    pub keys: LogKeys,
    /// They were got from elsewhere than from the trail itself.
    pub pinned: bool,
    /// A head that was seen before.
    pub known: Option<Checkpoint>,
    /// Only archive objects with events from this time on, microseconds since 1970.
    pub from: Option<i64>,
    /// Only archive objects with events before this time.
    pub to: Option<i64>,
    /// Only archive objects of log entries from here on.
    pub first_leaf: u64,
    /// Derive columns again.
    pub rederive: Option<Rederive<'a>>,
    /// CloudTrail's digests, to check what was ingested against.
    pub digests: Option<Digests<'a>>,
    /// Cores to use.
    pub threads: usize,
    /// Whether chains of sources are followed, and numbers that are missing between records of one source are findings.
    pub gaps: bool,
    /// Public keys of sidecars, got from elsewhere: they vouch for the keys of epochs.
    pub audit_keys: Vec<VerifierKey>,
    /// Each of them demands its record.
    pub receipts: Vec<Receipt>,
    /// Somebody may be writing: files that no manifest names are no finding.
    pub writing: bool,
}

/// How columns are derived again.
#[derive(Clone, Copy)]
pub struct Rederive<'a> {
    /// The mask key's, or any other where there is none.
    pub masker: &'a Masker,
    /// Whether it has the trail's mask key: without it masked values cannot be compared.
    pub has_key: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Everything that does not fit, and what sources sent or what was decided.
    pub findings: Vec<Finding>,
    /// The head, as far as `authentic` says.
    pub checkpoint: Option<Checkpoint>,
    /// Keys from elsewhere signed the head, and it is that of the entries; `None`: no such keys were given.
    pub authentic: Option<bool>,
    /// The log continues a head that was seen before; `None`: none was given.
    pub continues: Option<bool>,
    /// Archive objects and rows checked.
    pub objects: u64,
    /// Rows checked.
    pub rows: u64,
    /// Chains of sources, if there are any.
    pub chains: Option<Counts>,
    /// What CloudTrail's digests say, if they were given.
    pub digests: Option<DigestReport>,
    /// What was not checked, and why.
    pub unchecked: Vec<String>,
}

impl Report {
    /// Findings that count: not those that only tell what sources sent.
    pub fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| !f.code.informational())
    }
}

/// Verifies a trail. An error means that it could not be verified; what is wrong with it is in the report.
pub fn verify(store: &dyn BlobStore, options: &Options<'_>) -> Result<Report, Fatal> {
    for _ in 0..ATTEMPTS {
        let before = store.get(HEAD)?;
        let found = once(store, options);
        let moved = store.get(HEAD)? != before;
        match &found {
            Ok(report) if moved && raced(store, options, report)? => {}
            Err(e) if moved && e.code == "Fatal.ObjectMissing" => {}
            _ => return found,
        }
    }
    once(store, options)
}

/// The published checkpoint.
const HEAD: &str = "log/checkpoint";

/// Whether something was missed that a writer replaced meanwhile, or found that one has sealed by now.
fn raced(store: &dyn BlobStore, options: &Options<'_>, report: &Report) -> Result<bool, Fatal> {
    let now = check_log(store, options, ATTEMPTS, &mut Report::default())?.readable;
    let keys = now.object_keys();
    Ok(report.findings.iter().any(|f| match f.code {
        Code::FileMissing => f.element.starts_with("archive/") && !keys.contains(f.element.as_str()),
        Code::FileUnlisted => {
            f.element.starts_with("log/")
                || keys.contains(f.element.as_str())
                || now.details.contains_key(&f.element)
        }
        _ => false,
    }))
}

fn once(store: &dyn BlobStore, options: &Options<'_>) -> Result<Report, Fatal> {
    let mut report = Report::default();
    let Entries { readable, all: all_entries, last_lost } = check_log(store, options, ATTEMPTS, &mut report)?;
    let chains = Followed::new(options);
    let details = check_details(store, &readable, options, &chains, &mut report)?;
    let rows = check_objects(store, &readable, last_lost, options, &|_| false, &chains, &mut report)?;
    retention::check(store, &readable, &|o| in_range(o, options), &mut report)?;
    events::check_copies(store, &readable, options, &mut report)?;
    events::check_conflicts(store, &readable, options, &mut report)?;
    check_digests(store, &readable, options, &mut report)?;
    if options.gaps {
        let expired = readable.decisions(ManifestKind::Expire).next().is_some();
        check_chains(chains, store, &readable, &details, rows.all && !expired, options, &mut report)?;
        check_sequences(rows, &details, expired, &mut report);
    } else if details.runs.iter().any(|run| !run.first_prev.is_empty()) {
        report.unchecked.push("chains of sources: keytrail verify follows them".into());
    }
    if options.writing {
        report.unchecked.push("files that no entry of the log names: a run is writing to this folder".into());
    } else {
        let named = readable.object_keys();
        let retired: HashMap<&str, u64> =
            readable.history().values().map(|r| (r.object.object.key.as_str(), r.by)).collect();
        let by = |key: &str| retired.get(key).copied();
        unnamed(store, "archive/", &|key| Ok(named.contains(key)), &by, all_entries, &mut report)?;
        let all = all_entries && details.all;
        // Whoever archives what others archive, too, can leave lists that say nothing new.
        let is_copy = |key: &str| Ok::<_, Fatal>(all && details.has(key, store.get(key)?.as_deref()));
        let is_detail = |key: &str| Ok(readable.details.contains_key(key) || is_copy(key)?);
        unnamed(store, "detail/", &is_detail, &|_| None, all_entries, &mut report)?;
        unnamed(
            store,
            "quarantine/",
            &|key| Ok(details.quarantine.contains(key)),
            &|_| None,
            all,
            &mut report,
        )?;
    }
    report.findings.sort();
    Ok(report)
}

/// How often the log is read again when a writer changed it meanwhile.
const ATTEMPTS: u32 = 10;

/// What the log's entries say.
struct Entries {
    readable: Readable,
    /// All of them could be followed.
    all: bool,
    /// The last one that is damaged or missing, or goes on with such a one.
    last_lost: Option<u64>,
}

/// The log itself.
fn check_log(
    store: &dyn BlobStore,
    options: &Options<'_>,
    attempts: u32,
    report: &mut Report,
) -> Result<Entries, Fatal> {
    let files: Vec<String> =
        store.list("log/")?.iter().filter_map(|f| f.strip_prefix("log/")).map(str::to_owned).collect();
    if files.is_empty() {
        return Err(Fatal::new("Fatal.NotVerified", "there is no log: `log/` is empty or missing"));
    }
    let before = store.get(HEAD)?;
    let mut entries = Vec::new();
    let read = |path: &str| store.get(&format!("log/{path}")).map_err(|e| e.to_string());
    let mut audited: Audit =
        audit(&read, &files, Some(&options.keys), options.known.as_ref(), &mut |entry| {
            entries.push((entry.index, entry.agrees, Manifest::parse(entry.bytes)));
        })
        .map_err(|e| Fatal::new("Fatal.NotVerified", e))?;
    // A run that appended meanwhile shows as damage that is not there: look again at what it left.
    if attempts > 0 && store.get(HEAD)? != before {
        return check_log(store, options, attempts - 1, report);
    }
    if options.writing {
        // A writer puts tiles before it publishes the head that asks for them.
        audited.findings.retain(|f| f.code != Code::FileUnlisted || !f.element.starts_with("log/tile/"));
    }
    let bundles = blamed(&audited.findings, Level::Entries);
    let tiles = blamed(&audited.findings, Level::Hashes(0));
    let mut readable = Readable::with_history();
    let (mut next, mut all, mut last_lost) = (0, true, None);
    for (index, agrees, manifest) in entries {
        if index > next {
            last_lost = Some(index - 1);
        }
        next = index + 1;
        let block = index / WIDTH;
        // A changed entry is named already; what it says would only blame files that are right.
        if bundles.contains(&block) && (!agrees || tiles.contains(&block)) {
            last_lost = Some(index);
            continue;
        }
        let (e, is_manifest) = match manifest.map(|m| readable.add(index, m)) {
            Ok(Ok(())) => continue,
            Ok(Err(e)) => (e.message, true),
            Err(e) => (e, false),
        };
        all = false;
        if is_manifest && last_lost.is_some() {
            // What it goes on with may be what is lost.
            report.unchecked.push(format!("log entry {index}, for want of others: {e}"));
            last_lost = Some(index);
            continue;
        }
        report.findings.push(Finding::new(
            Code::LeafMismatch,
            format!("log entry {index}"),
            format!("it was sealed and cannot be followed: {e}"),
        ));
    }
    if next < audited.size {
        last_lost = Some(audited.size - 1);
    }
    let head_differs = |f: &Finding| matches!(f.code, Code::Fork | Code::Rollback);
    report.continues =
        options.known.as_ref().map(|_| audited.authentic && !audited.findings.iter().any(head_differs));
    report.authentic = options.pinned.then_some(audited.authentic);
    report.findings.extend(audited.findings);
    report.checkpoint = audited.checkpoint;
    Ok(Entries { readable, all: all && last_lost.is_none(), last_lost })
}

/// Indices of a level's files whose content is found to be wrong.
fn blamed(findings: &[Finding], level: Level) -> HashSet<u64> {
    findings
        .iter()
        .filter(|f| f.code != Code::FileMissing)
        .filter_map(|f| f.element.strip_prefix("log/").and_then(Tile::parse))
        .filter(|t| t.level == level)
        .map(|t| t.index)
        .collect()
}

/// What detail objects say.
#[derive(Default)]
struct Details {
    /// SHA-256 of inputs.
    inputs: HashSet<Hash>,
    /// Keys of quarantine entries.
    quarantine: HashSet<String>,
    /// Whether all of them could be read.
    all: bool,
    /// Numbers of archived and refused records, as the writer had them.
    sealed: Sequences,
    /// Those that refused records claim.
    refused: Sequences,
    /// Runs of chained records.
    runs: Vec<RunItem>,
}

impl Details {
    /// Whether a detail object says nothing that is not sealed: of inputs and quarantine entries, and nothing that somebody
    /// decided. Which rows a rewrite took from where says nothing without its entry.
    fn has(&self, key: &str, bytes: Option<&[u8]>) -> bool {
        let Some(detail) = bytes.and_then(|bytes| Detail::parse(bytes).ok()) else { return false };
        let Detail { copies, decision, inputs, quarantine, .. } = &detail;
        detail.to_object().1.key == key
            && copies.is_empty()
            && decision.is_none()
            && inputs.iter().all(|input| self.inputs.contains(&input.sha256))
            && quarantine.iter().all(|entry| self.quarantine.contains(&entry.key))
    }
}

/// Detail objects and the quarantine entries that they list.
fn check_details(
    store: &dyn BlobStore,
    readable: &Readable,
    options: &Options<'_>,
    chains: &Followed,
    report: &mut Report,
) -> Result<Details, Fatal> {
    let mut quarantine: BTreeMap<String, Hash> = BTreeMap::new();
    let mut details = Details::default();
    let before = report.findings.len();
    // Of a run's own verify, those that are new: who looks for files that nothing names needs all.
    let from = if options.writing { options.first_leaf } else { 0 };
    let sealed: Vec<_> = readable.details_since(from).collect();
    concurrent::in_order(
        &sealed,
        |sealed| Ok(store.get(&sealed.key)?),
        |sealed, bytes| {
            let key = &sealed.key;
            let mut wrong = |code, message: String| report.findings.push(Finding::new(code, key, message));
            let Some(bytes) = bytes else {
                wrong(Code::FileMissing, "it is not there, and the log names it".into());
                return Ok(());
            };
            if Hash::of(&bytes) != sealed.sha256 {
                wrong(
                    Code::ObjectMismatch,
                    format!("its SHA-256 is {}, sealed was {}", Hash::of(&bytes), sealed.sha256),
                );
                return Ok(());
            }
            match Detail::parse(&bytes) {
                Err(e) => wrong(Code::ObjectMismatch, format!("no detail object: {e}")),
                Ok(detail) => {
                    let is = detail.to_object().1;
                    if is != **sealed {
                        wrong(
                            Code::ObjectMismatch,
                            "count or root of its items is not what the manifest says".into(),
                        );
                    }
                    let (chained, numbered): (Vec<_>, Vec<_>) =
                        detail.runs.into_iter().partition(|run| !run.first_prev.is_empty());
                    add_runs(&mut details.sealed, &numbered);
                    details.runs.extend(chained);
                    details.inputs.extend(detail.inputs.into_iter().map(|i| i.sha256));
                    quarantine.extend(detail.quarantine.into_iter().map(|q| (q.key, q.sha256)));
                }
            }
            Ok(())
        },
    )?;
    details.all = report.findings.len() == before;
    if options.from.is_none() && options.to.is_none() && options.first_leaf == 0 {
        let entries: Vec<_> = quarantine.iter().collect();
        concurrent::in_order(
            &entries,
            |(key, _)| Ok(store.get(key)?),
            |(key, sha256), stored| {
                let message = match stored {
                    None => {
                        report.findings.push(Finding::new(
                            Code::FileMissing,
                            *key,
                            format!("it is not there; sealed was one with the SHA-256 {sha256}"),
                        ));
                        return Ok(());
                    }
                    Some(stored) if Hash::of(&stored) != **sha256 => {
                        format!("its SHA-256 is {}, sealed was {sha256}", Hash::of(&stored))
                    }
                    Some(stored) => match Entry::parse(key, &stored) {
                        Ok(entry) => {
                            let hsm = entry.header.instance.as_deref();
                            chains.refused(&entry);
                            of_refused(&entry.original, hsm, &mut |p| {
                                if p.format == Format::CloudHsm {
                                    details.refused.add(&p);
                                }
                            });
                            return Ok(());
                        }
                        Err(e) => e,
                    },
                };
                report.findings.push(Finding::new(Code::ObjectMismatch, *key, message));
                Ok(())
            },
        )?;
    } else if !quarantine.is_empty() {
        report.unchecked.push(format!("{} quarantine entries: a range was asked for", quarantine.len()));
    }
    details.quarantine = quarantine.into_keys().collect();
    Ok(details)
}

/// Chains of sources. Where not all of their records were read, what the log says of the rest is believed.
fn check_chains(
    chains: Followed,
    store: &dyn BlobStore,
    readable: &Readable,
    details: &Details,
    all: bool,
    options: &Options<'_>,
    report: &mut Report,
) -> Result<(), Fatal> {
    if !all || !details.all {
        chains.runs(details.runs.iter());
    }
    let counts = chains.finish(store, readable, options, report)?;
    report.chains = (counts.sources > 0).then_some(counts);
    Ok(())
}

/// Numbers that are missing of records that are not chained. Where all rows were read they alone say what is there; where a range was asked
/// for, an object is damaged and has its own finding, or some expired, what the log says of the rest is
/// believed.
fn check_sequences(rows: Rows, details: &Details, expired: bool, report: &mut Report) {
    let Rows { sequences: seen, all, without_hsm } = rows;
    let mut there = seen.clone();
    there.merge(details.refused.clone());
    if !all || expired {
        there.merge(details.sealed.clone());
    }
    let gaps = there.gaps().filter(|gap| all || seen.surround(gap));
    report.findings.extend(gaps.map(|gap| gap.finding()));
    if without_hsm > 0 {
        report
            .unchecked
            .push(format!("sequence of {without_hsm} records of CloudHSM whose HSM is not known"));
    }
}

/// What rows say beside their own findings.
#[derive(Default)]
struct Rows {
    /// Their numbers.
    sequences: Sequences,
    /// Whether all rows of the archive were read.
    all: bool,
    /// Numbered ones that do not say of what.
    without_hsm: u64,
}

/// Archive objects, on all cores.
fn check_objects(
    store: &dyn BlobStore,
    readable: &Readable,
    last_lost: Option<u64>,
    options: &Options<'_>,
    good: &dyn Fn(&SealedObject) -> bool,
    chains: &Followed,
    report: &mut Report,
) -> Result<Rows, Fatal> {
    let mut wanted: Vec<&SealedObject> = readable.objects().filter(|o| in_range(o, options)).collect();
    let all = readable.objects().count();
    if wanted.len() < all {
        report.unchecked.push(format!(
            "{} of {all} archive objects: {}",
            all - wanted.len(),
            outside(options)
        ));
    }
    for object in wanted.extract_if(.., |o| good(o)) {
        report.objects += 1;
        report.rows += object.rows.count;
    }
    // Chains are folded as they come: least waits where their order is about that of time.
    wanted.sort_by_key(|o| o.rows.time_min);
    let withheld = Withheld::load(store, readable)?;
    let check = ObjectCheck {
        store,
        rederive: options.rederive,
        history: readable.history(),
        withheld: &withheld,
        last_lost,
        chains,
    };
    let mut rows = Rows { all: wanted.len() == all, ..Rows::default() };
    let queue = Mutex::new(wanted.into_iter());
    let done: Mutex<Vec<Result<Checked, Fatal>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut q| q.next());
                    let Some(object) = next else { return };
                    let checked = check.object(object);
                    if let Ok(mut done) = done.lock() {
                        done.push(checked);
                    }
                }
            });
        }
    });
    let done =
        done.into_inner().map_err(|_| Fatal::new("Fatal.Internal", "a checking thread ended early"))?;
    let mut other_versions: BTreeMap<String, u64> = BTreeMap::new();
    let (mut masked, mut withheld, mut unknown, mut undecided) = (0, 0, 0, 0);
    for checked in done {
        let checked = checked?;
        report.objects += 1;
        report.rows += checked.rows;
        report.findings.extend(checked.findings);
        rows.all &= checked.whole;
        rows.sequences.merge(checked.sequences);
        rows.without_hsm += checked.without_hsm;
        masked += checked.masked;
        withheld += checked.withheld;
        unknown += checked.unknown;
        undecided += checked.undecided;
        report.unchecked.extend(checked.unchecked);
        for (version, rows) in checked.other_versions {
            *other_versions.entry(version).or_default() += rows;
        }
    }
    if options.rederive.is_none() {
        report.unchecked.push("columns against the original bytes: --rederive does it".into());
    }
    for (version, rows) in other_versions {
        report
            .unchecked
            .push(format!("columns of {rows} rows by `{version}`: this version has another normalizer"));
    }
    if masked > 0 {
        report.unchecked.push(format!("{masked} masked values: the mask key is not here"));
    }
    if unknown > 0 {
        report.unchecked.push(format!("what {unknown} rewrites replaced: see the findings of their lists"));
    }
    if undecided > 0 {
        report.unchecked.push(format!(
            "whether {undecided} rows without original bytes were withheld: see the findings of lists and entries"
        ));
    }
    if withheld > 0 {
        report.unchecked.push(format!("columns of {withheld} withheld rows"));
    }
    Ok(rows)
}

/// What AWS delivered against what was ingested.
fn check_digests(
    store: &dyn BlobStore,
    readable: &Readable,
    options: &Options<'_>,
    report: &mut Report,
) -> Result<(), Fatal> {
    let Some(digests) = &options.digests else { return Ok(()) };
    let range =
        cloudtrail_digests::Range { from: options.from.map(Timestamp), to: options.to.map(Timestamp) };
    let (checked, findings, unchecked) = cloudtrail_digests::check(store, readable, digests, &range)?;
    report.digests = Some(checked);
    report.findings.extend(findings);
    report.unchecked.extend(unchecked);
    Ok(())
}
