//! Files that nothing sealed names.

use keytrail_ledger::{Code, Finding};
use keytrail_model::Fatal;
use keytrail_ports::BlobStore;

use super::Report;

/// Names them below `prefix`. If not `all` names are known, they are no finding: the damage is.
pub(super) fn unnamed(
    store: &dyn BlobStore,
    prefix: &str,
    named: &dyn Fn(&str) -> Result<bool, Fatal>,
    retired_by: &dyn Fn(&str) -> Option<u64>,
    all: bool,
    report: &mut Report,
) -> Result<(), Fatal> {
    for key in store.list(prefix)? {
        if named(&key)? {
            continue;
        }
        if let Some(leaf) = retired_by(&key) {
            report.findings.push(Finding::new(
                Code::FileUnlisted,
                key,
                format!("log entry {leaf} retired it, and it was left behind: the next run deletes it"),
            ));
            continue;
        }
        if !all {
            report.unchecked.push(format!("`{key}`: what names it is missing or damaged, see the findings"));
            continue;
        }
        let (code, message) = if prefix == "quarantine/" {
            (
                Code::Unsealed,
                "no entry of the log names it: put there by somebody else, or by a run that was killed; the next run seals it",
            )
        } else {
            (
                Code::FileUnlisted,
                "no entry of the log names it: put there by somebody else, or left by a run that was killed",
            )
        };
        report.findings.push(Finding::new(code, key, message));
    }
    Ok(())
}
