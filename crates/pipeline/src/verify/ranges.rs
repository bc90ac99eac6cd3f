//! Several ranges of time at once: the log and its lists are checked once, each archive object with its range.

use keytrail_model::manifest::ManifestKind;
use keytrail_model::{Fatal, Timestamp};
use keytrail_normalize::Format;
use keytrail_ports::BlobStore;

use super::{
    ATTEMPTS, Entries, Followed, Options, Report, check_chains, check_details, check_log, check_objects,
    check_sequences, events,
};
use crate::readable::SealedObject;
use crate::retention;
use crate::tally::format_of;

/// Verifies a trail as [`super::verify`] does with `from` and `to` (microseconds since 1970), for each of
/// `ranges`. Only who holds the folder's lock may call it: nothing is looked at again because a writer was
/// faster. CloudTrail's digests and files that nothing names are left out. Objects of entries from `verified` on
/// were just found to be good: they are counted and not read again, but for those whose records are numbered, or may have a
/// place in a chain.
pub fn by_range(
    store: &dyn BlobStore,
    options: &Options<'_>,
    ranges: &[(i64, i64)],
    verified: Option<u64>,
) -> Result<Vec<Report>, Fatal> {
    let good = |object: &SealedObject| {
        verified.is_some_and(|from| object.leaf >= from)
            && !format_of(&object.rows.dataset).is_none_or(|f| f.is_numbered() || f == Format::Vault)
    };
    let ranged = |(from, to): (i64, i64)| Options {
        keys: options.keys.clone(),
        pinned: options.pinned,
        known: options.known.clone(),
        from: Some(from),
        to: Some(to),
        first_leaf: options.first_leaf,
        rederive: options.rederive,
        digests: None,
        threads: options.threads,
        gaps: options.gaps,
        audit_keys: options.audit_keys.clone(),
        receipts: options.receipts.clone(),
        writing: true,
    };
    let Some(first) = ranges.first() else { return Ok(Vec::new()) };
    let mut common = Report::default();
    let Entries { readable, last_lost, .. } = check_log(store, &ranged(*first), ATTEMPTS, &mut common)?;
    // A range's chains are filled by what the log lists: refused records are in there.
    let listed = Followed::new(&ranged(*first));
    let details = check_details(store, &readable, &ranged(*first), &listed, &mut common)?;
    let expired = readable.decisions(ManifestKind::Expire).next().is_some();
    let check = |range: &(i64, i64)| {
        let (options, mut report) = (ranged(*range), common.clone());
        let chains = Followed::new(&options);
        let rows = check_objects(store, &readable, last_lost, &options, &good, &chains, &mut report)?;
        retention::check(store, &readable, &|o| in_range(o, &options), &mut report)?;
        events::check_copies(store, &readable, &options, &mut report)?;
        events::check_conflicts(store, &readable, &options, &mut report)?;
        check_chains(chains, store, &readable, &details, false, &options, &mut report)?;
        check_sequences(rows, &details, expired, &mut report);
        report.unchecked.push("files that no entry of the log names: keytrail verify names them".into());
        report.findings.sort();
        Ok(report)
    };
    ranges.iter().map(check).collect()
}

/// What puts an object outside of what was asked for.
pub(super) fn outside(options: &Options<'_>) -> String {
    let time = |t: Option<i64>| t.map_or_else(|| "...".into(), |t| Timestamp(t).to_rfc3339());
    match (options.from, options.to) {
        (None, None) => "older than this run".into(),
        (from, to) => format!("all of their events are outside of {} to {}", time(from), time(to)),
    }
}

/// Whether an object may hold events of what was asked for.
pub(super) fn in_range(object: &SealedObject, options: &Options<'_>) -> bool {
    if object.leaf < options.first_leaf {
        return false;
    }
    match (object.rows.time_min, object.rows.time_max) {
        (Some(min), Some(max)) => {
            options.to.is_none_or(|to| min < to) && options.from.is_none_or(|from| max >= from)
        }
        // Rows without a time belong to every range.
        _ => true,
    }
}
