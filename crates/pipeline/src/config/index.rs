//! `[index]`: the search index that follows the archive.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keytrail_index::{Limits, Namespace, Period};

use super::section::Section;
use crate::index::Settings;

/// Its part of the template.
pub const TEMPLATE: &str = r#"
# A search index, Elasticsearch or OpenSearch, that follows the archive (schemas/index.md).
#
# url            where its server is; without it, and without --elasticsearch, nothing is indexed
# credentials    an API key in Base64, as Kibana gives it, or `user:password`, in a file that only its owner can read
# ca_file        certificates (PEM) of who may have signed the server's, beside those that all trust
# namespace      part of all names of indices: keytrail-<dataset>-<namespace>-<period>
# period         what time an index is of: day, month or year
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
#retention = "400d"
#original = false
#connections = 4
#bulk_bytes = 5242880
#new_indices = 500
#timeout = "60s"
#patience = "30s"
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
        let period = section.text("period", "`day`, `month` or `year`").map(|t| t.text);
        let period = period.map_or_else(Period::default, |name| {
            Period::by_name(name).unwrap_or_else(|| {
                section.problem("period", format!("expected `day`, `month` or `year`, found `{name}`"));
                Period::default()
            })
        });
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
                period,
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
