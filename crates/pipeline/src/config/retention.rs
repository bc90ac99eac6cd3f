//! `[[retention]]` and `[[holds]]`: how long events are kept, and what is kept longer.

use std::time::Duration;

use keytrail_model::{Day, Uid};
use keytrail_normalize::Format;

use crate::expire::Rule;
use crate::holds::Hold;
use keytrail_ports::section::{Section, list};

/// Its part of the template.
pub const TEMPLATE: &str = r#"
# How long events are kept, one [[retention]] for each rule; the first that names an event's dataset counts.
# `keytrail expire` says what expires, and with --apply deletes it: events that are older than that, and were
# archived longer ago than that.
#
# older_than  whole days, as in 400d
# dataset     its events alone [default: all]
# undated     events without a usable time expire by the day of their archiving alone [default: false, never]
#
# Examples:
#[[retention]]
#older_than = "400d"
#dataset = "kubernetes.audit"

#[[retention]]
#older_than = "2557d"
#undated = true

# A legal hold, one [[holds]] for each: what it names does not expire, and `keytrail
# withhold` refuses its events. It names at least one thing.
#
# reason    in words, for whoever asks why something is still there
# dataset   its events alone
# from, to  events of these days and those between
# uid       this event, and the objects that hold it
#
# Examples:
#[[holds]]
#reason = "case 17"
#dataset = "aws.cloudtrail"
#from = "2024-01-01"
#to = "2024-03-31"

#[[holds]]
#reason = "case 18"
#uid = "0123456789abcdef0123456789abcdef01234567"
"#;

const DAY: Duration = Duration::from_secs(86_400);

/// The rules.
pub(super) fn rules(top: &mut Section<'_, '_>) -> Vec<Rule> {
    let rules = top.sections("retention", |section| {
        let dataset = dataset(section);
        let undated = section.flag("undated").unwrap_or(false);
        if !section.has("older_than") {
            section.problem("older_than", "missing, expected whole days, as in \"400d\"");
        }
        let age = section.duration("older_than", DAY..=DAY * 36_500)?;
        if age.as_secs() % DAY.as_secs() != 0 {
            section.problem("older_than", "expected whole days, as in \"400d\"");
        }
        // At most 36,500.
        Some(Rule { days: (age.as_secs() / DAY.as_secs()) as u32, dataset, undated })
    });
    rules.into_iter().flatten().collect()
}

/// The holds.
pub(super) fn holds(top: &mut Section<'_, '_>) -> Vec<Hold> {
    top.sections("holds", |section| {
        let reason = section.required_text("reason", "why, as in \"case 17\"");
        let reason = reason.map(|t| t.text.to_owned()).unwrap_or_default();
        let (dataset, from, to) = (dataset(section), day(section, "from"), day(section, "to"));
        let uid = section.text("uid", "the uid of an event");
        let parsed = uid.and_then(|t| Uid::from_hex(t.text));
        if uid.is_some() && parsed.is_none() {
            section.problem("uid", "expected 40 lower-case hex digits");
        }
        if !["dataset", "from", "to", "uid"].iter().any(|key| section.has(key)) {
            section.problem("dataset", "expected at least one of `dataset`, `from`, `to` and `uid`");
        }
        Hold { reason, dataset, from, to, uid: parsed }
    })
}

fn dataset(section: &mut Section<'_, '_>) -> Option<String> {
    let datasets = list(&Format::ALL.map(Format::dataset));
    let text = section.text("dataset", &format!("one of {datasets}"))?.text;
    if !Format::ALL.iter().any(|f| f.dataset() == text) {
        section.problem("dataset", format!("expected one of {datasets}, found `{text}`"));
    }
    Some(text.to_owned())
}

fn day(section: &mut Section<'_, '_>, key: &'static str) -> Option<Day> {
    let expected = "a day, as in \"2024-01-31\"";
    let text = section.text(key, expected)?.text;
    let day = Day::parse(text).filter(|day| *day != Day::Undated);
    if day.is_none() {
        section.problem(key, format!("expected {expected}, found `{text}`"));
    }
    day
}
