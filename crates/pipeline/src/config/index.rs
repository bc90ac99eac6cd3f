//! `[index]`: the search index that follows the archive.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keytrail_index::{Filter, Layout, Layouts, Limits, Namespace, Period, Rule};
use keytrail_model::{ActionClass, Day};
use keytrail_normalize::Format;

use crate::index::Settings;
use keytrail_ports::section::{Section, list};

/// Its part of the template.
pub const TEMPLATE: &str = r#"
# A search index, Elasticsearch or OpenSearch, that follows the archive (schemas/index.md).
#
# url            where its server is; without it, and without --elasticsearch, nothing is indexed
# credentials    an API key in Base64, as Kibana gives it, or `user:password`, in a file that only its owner can read
# ca_file        certificates (PEM) of who may have signed the server's, beside those that all trust
# namespace      part of all names of indices: keytrail-<dataset>-<namespace>-<period>
# period         what time an index is of: day, month or year
# shards         primary shards of an index
# retention      events older than this stay in the archive alone [default: all are indexed]
# original       documents have the original bytes (event.original), too, with all that is secret in them
# connections    requests at once, at most
# bulk_bytes     size at which a request is closed
# new_indices    indices made in one go, at most: event times may be anything
# timeout        how long a request may take
# patience       how long a server that takes nothing is asked again before the rest is left for later
#
# Example:
#[index]
#url = "https://search.example.com:9200"
#credentials = "search.key"
#ca_file = "search-ca.pem"
#namespace = "default"
#period = "month"
#shards = 1
#retention = "400d"
#original = false
#connections = 4
#bulk_bytes = 5242880
#new_indices = 500
#timeout = "60s"
#patience = "30s"
#
# Another period or number of shards, for events from a month of their own time on (what is indexed keeps its place):
#[[index.changes]]
#from = "2027-01"
#period = "day"
#shards = 3
#
# Which events are indexed: those that an include names [default: all], but what an exclude names. Each names events
# by all of its lists; what is left out stays in the archive alone.
#[[index.include]]
#outcomes = ["failure", "success", "unknown"]
#
#[[index.exclude]]
#datasets = ["aws.cloudtrail"]
#classes = ["access", "decrypt"]
#outcomes = ["success"]
"#;

/// A search index, as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeclaredIndex {
    /// Where its server is.
    pub url: Option<String>,
    /// The file of an API key or of `user:password`.
    pub credentials: Option<PathBuf>,
    /// Certificates (PEM) of who may have signed the server's.
    pub ca: Option<PathBuf>,
    /// How long a request may take.
    pub timeout: Duration,
    /// How events are indexed.
    pub settings: Settings,
}

impl Default for DeclaredIndex {
    fn default() -> Self {
        Self { url: None, credentials: None, ca: None, timeout: TIMEOUT, settings: Settings::default() }
    }
}

const TIMEOUT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const CENTURY: Duration = Duration::from_secs(36_525 * 86_400);

/// Reads it.
pub(super) fn read(top: &mut Section<'_, '_>, folder: &Path) -> DeclaredIndex {
    let default = Settings::default();
    top.section("index", |section| {
        let url = section.text("url", "an http(s) URL").map(|t| t.text.to_owned());
        let mut file = |key| section.text(key, "a file's path").map(|t| folder.join(t.text));
        let (credentials, ca) = (file("credentials"), file("ca_file"));
        let namespace = section.text("namespace", "a name").map(|t| t.text);
        let namespace = namespace.map_or_else(Namespace::default, |name| {
            Namespace::new(name).unwrap_or_else(|| {
                let expected = "lower-case letters, digits and `_`, at most 64";
                section.problem("namespace", format!("expected {expected}, found `{name}`"));
                Namespace::default()
            })
        });
        let first = layout(section, Layout::default());
        let layouts = layouts(section, first);
        let filter = Filter { include: rules(section, "include"), exclude: rules(section, "exclude") };
        let mut number = |key, within: RangeInclusive<i64>, default: usize| {
            section.number(key, within).and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
        };
        let connections = number("connections", 1..=64, default.connections);
        let bytes = number("bulk_bytes", 100_000..=100_000_000, default.limits.bytes);
        let new_indices = number("new_indices", 1..=10_000, default.new_indices);
        DeclaredIndex {
            url,
            credentials,
            ca,
            timeout: section.duration("timeout", SECOND..=HOUR).unwrap_or(TIMEOUT),
            settings: Settings {
                namespace,
                layouts,
                filter,
                original: section.flag("original").unwrap_or(default.original),
                retention: section.duration("retention", DAY..=CENTURY),
                limits: Limits { bytes, ..default.limits },
                connections,
                new_indices,
                patience: section.duration("patience", SECOND..=HOUR).unwrap_or(default.patience),
            },
        }
    })
}

/// `period` and `shards`, else those before.
fn layout(section: &mut Section<'_, '_>, before: Layout) -> Layout {
    let period = section.text("period", "`day`, `month` or `year`").map(|t| t.text);
    let period = period.map_or(before.period, |name| {
        Period::by_name(name).unwrap_or_else(|| {
            section.problem("period", format!("expected `day`, `month` or `year`, found `{name}`"));
            before.period
        })
    });
    let shards = section.number("shards", 1..=1_024).and_then(|n| u32::try_from(n).ok());
    Layout { period, shards: shards.unwrap_or(before.shards) }
}

/// `[[index.changes]]`.
fn layouts(section: &mut Section<'_, '_>, first: Layout) -> Layouts {
    const MONTH: &str = "a month, as in \"2027-01\"";
    let mut layouts = Layouts::new(first);
    section.sections("changes", |section| {
        let before = layouts.last();
        let layout = layout(section, before);
        let Some(text) = section.required_text("from", MONTH) else { return };
        let month = text.text;
        match Day::parse(&format!("{month}-01")) {
            Some(Day::Dated(day)) if month.len() == 7 => {
                if layout == before {
                    section.problem("from", "nothing changes: expected another `period` or `shards`");
                }
                if !layouts.change(day, layout) {
                    section.problem("from", "expected a later month than that of the change before");
                }
            }
            _ => section.problem("from", format!("expected {MONTH}, found `{month}`")),
        }
    });
    layouts
}

/// `[[index.include]]` or `[[index.exclude]]`.
fn rules(section: &mut Section<'_, '_>, key: &'static str) -> Vec<Rule> {
    let datasets = Format::ALL.map(Format::dataset);
    let classes = ActionClass::ALL.map(ActionClass::name);
    section.sections(key, |section| {
        let rule = Rule {
            datasets: named(section, "datasets", &datasets),
            classes: named(section, "classes", &classes)
                .iter()
                .filter_map(|name| ActionClass::ALL.into_iter().find(|class| class.name() == name))
                .collect(),
            outcomes: named(section, "outcomes", &["failure", "success", "unknown"]),
        };
        if rule == Rule::default() {
            section.problem("datasets", "expected at least one of `datasets`, `classes` and `outcomes`");
        }
        rule
    })
}

/// A list of known names.
fn named(section: &mut Section<'_, '_>, key: &'static str, known: &[&str]) -> Vec<String> {
    let expected = format!("a list of {}", list(known));
    let texts = section.texts(key, &expected);
    for text in texts.iter().filter(|text| !known.contains(&text.text)) {
        section.problem_at(text.line, key, format!("expected {expected}, found `{}`", text.text));
    }
    texts.into_iter().map(|text| text.text.to_owned()).collect()
}
