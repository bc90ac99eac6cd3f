//! What `verify` found, as a report tells it.

use std::collections::BTreeMap;

use keytrail_ledger::{Code, Finding};
use keytrail_report::model::{CodeCount, FindingRow, Integrity};

use super::week::Week;
use crate::verify::Report;

/// Findings shown, and gaps, each.
const SHOWN: usize = 200;

/// The findings of a week.
pub fn integrity(week: Week, found: &Report) -> Integrity {
    let mut codes: BTreeMap<Code, u64> = BTreeMap::new();
    found.findings.iter().for_each(|f| *codes.entry(f.code).or_default() += 1);
    let rows = |gaps: bool| -> Vec<FindingRow> {
        let wanted = found.findings.iter().filter(|f| (f.code == Code::Gap) == gaps);
        wanted.take(SHOWN).map(row).collect()
    };
    let (gaps, findings) = (rows(true), rows(false));
    Integrity {
        good: found.failures().next().is_none(),
        scope: format!(
            "signature and tree of the whole log, its lists, and every archive object with events of {week}"
        ),
        objects: found.objects,
        rows: found.rows,
        codes: codes
            .into_iter()
            .map(|(code, count)| CodeCount {
                code: code.as_str().to_owned(),
                informational: code.informational(),
                count,
            })
            .collect(),
        more: (found.findings.len() - gaps.len() - findings.len()) as u64,
        gaps,
        findings,
        not_checked: found.unchecked.clone(),
    }
}

fn row(finding: &Finding) -> FindingRow {
    FindingRow {
        code: finding.code.as_str().to_owned(),
        element: finding.element.clone(),
        message: finding.message.clone(),
    }
}
