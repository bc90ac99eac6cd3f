//! A row's values, asked for one by one under their types: what is wrong is noted, and a name that was nearly
//! asked for is a problem, too.

use keytrail_model::table::{Cell, Record};
use keytrail_model::{TableKind, Timestamp};

use crate::problem::{Problem, Problems};
use crate::validity::{self, Validity};
use crate::{Cryptoperiod, MAX_VALUE_BYTES};

/// A column of a table's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What a value is, in words.
    pub values: &'static str,
    /// What it says.
    pub doc: &'static str,
}

const fn field(name: &'static str, values: &'static str, doc: &'static str) -> Field {
    Field { name, values, doc }
}

const TEXT: &str = "text";
const FLAG: &str = "`true` or `false`";
const TIME: &str = "RFC 3339 time or date";
const FROM: Field = field("valid_from", TIME, "the row holds from this moment on; empty: since ever");
const TO: Field = field("valid_to", TIME, "the row holds up to and without this moment; empty: for ever");
const DATASET: Field =
    field("dataset", "dataset, e.g. `vault.audit`", "the row is about events of this dataset alone");

/// The columns of a kind of table.
pub const fn fields_of(kind: TableKind) -> &'static [Field] {
    match kind {
        TableKind::Keys => {
            const {
                &[
                    field(
                        "id",
                        TEXT,
                        "id of the key: KMS key id, Vault key name, resource name of Google Cloud, URL of Azure Key Vault, PKCS#11 handle",
                    ),
                    field("arn", TEXT, "ARN of the key"),
                    field(
                        "alias",
                        "text, or several with `;` between",
                        "aliases of the key, with or without `alias/`",
                    ),
                    field("account", TEXT, "account or project of the key, where `arn` does not say it"),
                    field("region", TEXT, "region of the key, where `arn` does not say it"),
                    field(
                        "store",
                        TEXT,
                        "Vault mount, key ring, key vault, HSM cluster or custom key store of the key",
                    ),
                    DATASET,
                    field("owner", TEXT, "who answers for the key"),
                    field("team", TEXT, "who runs it"),
                    field("purpose", TEXT, "what it protects"),
                    field("tier", TEXT, "how much depends on it, e.g. `critical`"),
                    field(
                        "cryptoperiod",
                        "ISO 8601 duration or days",
                        "how long one version may be used, e.g. `P1Y`",
                    ),
                    field("algorithm", TEXT, "algorithm and size"),
                    field("origin", TEXT, "where its material was made, e.g. `AWS_CLOUDHSM`"),
                    field("state", TEXT, "state by NIST SP 800-57, e.g. `active`"),
                    field("activated", TIME, "when it became active"),
                    field("rotated", TIME, "when its newest version was made"),
                    FROM,
                    TO,
                ]
            }
        }
        TableKind::Principals => {
            const {
                &[
                    field(
                        "principal",
                        "text, or several with `;` between",
                        "ARN, user name, e-mail, Vault entity, service account, object id",
                    ),
                    field("account", TEXT, "account in which the principal is known by it"),
                    DATASET,
                    field("person", TEXT, "who is behind it: a person's name, or a workload's"),
                    field("team", TEXT, "team"),
                    field("role", TEXT, "role in the organization, e.g. `key custodian`"),
                    field("privileged", FLAG, "it may do what others may not"),
                    field("service", FLAG, "it is a service, no person"),
                    FROM,
                    TO,
                ]
            }
        }
        TableKind::Networks => {
            const {
                &[
                    field(
                        "network",
                        "CIDR, IPv4 or IPv6, or an address",
                        "the network; of several the longest prefix counts",
                    ),
                    field("zone", TEXT, "its zone, e.g. `hsm`"),
                    field("site", TEXT, "where it is"),
                    FROM,
                    TO,
                ]
            }
        }
        TableKind::Accounts => {
            const {
                &[
                    field(
                        "id",
                        TEXT,
                        "AWS account, Google Cloud project or organization, Azure subscription",
                    ),
                    field("name", TEXT, "its name"),
                    field("tier", TEXT, "its environment, e.g. `production`"),
                    field("owner", TEXT, "who answers for it"),
                    FROM,
                    TO,
                ]
            }
        }
        // An MMDB file has its own.
        TableKind::Geoip => &[],
    }
}

/// The values of a row.
pub(crate) struct Fields<'r> {
    record: &'r Record,
    problems: &'r mut Problems,
}

impl<'r> Fields<'r> {
    pub fn new(record: &'r Record, problems: &'r mut Problems) -> Self {
        Self { record, problems }
    }

    /// Notes a problem.
    pub fn problem(&mut self, column: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            row: Some(self.record.number),
            line: self.record.line,
            column: column.to_owned(),
            message: message.into(),
        });
    }

    fn cell(&self, column: &str) -> &'r Cell {
        const NULL: &Cell = &Cell::Null;
        let found = self.record.cells.iter().find(|(name, _)| name == column);
        match found {
            Some((_, Cell::Text(text))) if text.trim().is_empty() => NULL,
            Some((_, cell)) => cell,
            None => NULL,
        }
    }

    fn wrong<T>(&mut self, column: &str, expected: &str) -> Option<T> {
        let found = match self.cell(column) {
            Cell::Text(text) => format!("`{}`", clipped(text)),
            Cell::Null => "none".into(),
            Cell::Bool(flag) => format!("`{flag}`"),
            Cell::Time(_) => "a time".into(),
            Cell::List(_) => "a list".into(),
            Cell::Other(kind) => (*kind).into(),
        };
        self.problem(column, format!("expected {expected}, found {found}"));
        None
    }

    /// A text without the space around it.
    pub fn text(&mut self, column: &str) -> Option<&'r str> {
        match self.cell(column) {
            Cell::Null => None,
            Cell::Text(text) => self.bounded(column, text),
            _ => self.wrong(column, "a text"),
        }
    }

    /// [`text`](Self::text), kept.
    pub fn owned(&mut self, column: &str) -> Option<Box<str>> {
        self.text(column).map(Into::into)
    }

    fn bounded(&mut self, column: &str, text: &'r str) -> Option<&'r str> {
        let text = text.trim();
        if text.len() > MAX_VALUE_BYTES {
            self.problem(column, format!("expected at most {MAX_VALUE_BYTES} bytes, found {}", text.len()));
            return None;
        }
        Some(text)
    }

    /// Several texts: a list, or one text with `;` between them.
    pub fn texts(&mut self, column: &str) -> Vec<&'r str> {
        let all: Vec<&str> = match self.cell(column) {
            Cell::Null => return Vec::new(),
            Cell::Text(text) => text.split(';').collect(),
            Cell::List(items) => items.iter().map(String::as_str).collect(),
            _ => self.wrong(column, "a text, or a list of texts").unwrap_or_default(),
        };
        let bounded = all.into_iter().filter_map(|text| self.bounded(column, text));
        bounded.filter(|text| !text.is_empty()).collect()
    }

    /// True or false.
    pub fn flag(&mut self, column: &str) -> Option<bool> {
        match self.cell(column) {
            Cell::Null => None,
            Cell::Bool(flag) => Some(*flag),
            Cell::Text(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
            Cell::Text(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
            _ => self.wrong(column, "`true` or `false`"),
        }
    }

    /// A moment.
    pub fn time(&mut self, column: &str) -> Option<Timestamp> {
        const EXPECTED: &str = "a time as in `2024-01-31T12:00:00Z`, or a date as in `2024-01-31`";
        match self.cell(column) {
            Cell::Null => None,
            Cell::Time(time) => Some(*time),
            Cell::Text(text) => validity::time(text.trim()).or_else(|| self.wrong(column, EXPECTED)),
            _ => self.wrong(column, EXPECTED),
        }
    }

    /// How long a key may be used.
    pub fn cryptoperiod(&mut self, column: &str) -> Option<Cryptoperiod> {
        let text = self.text(column)?;
        Cryptoperiod::parse(text)
            .or_else(|| self.wrong(column, "an ISO 8601 duration as in `P1Y`, or days as in `365`"))
    }

    /// When the row holds.
    pub fn validity(&mut self, default: Validity) -> Validity {
        let from = self.time("valid_from").or(default.from);
        let to = self.time("valid_to").or(default.to);
        if let (Some(from), Some(to)) = (from, to)
            && to <= from
        {
            self.problem("valid_to", format!("expected a time after `valid_from`, {}", from.to_rfc3339()));
        }
        Validity { from, to }
    }
}

/// The start of a text that a message quotes.
pub(crate) fn clipped(text: &str) -> String {
    const CHARACTERS: usize = 60;
    let mut start: String = text.chars().take(CHARACTERS).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

/// The column that an unknown name was meant to be, where it is near enough to one that is not there.
pub(crate) fn meant(name: &str, kind: TableKind, there: &[String]) -> Option<&'static str> {
    let absent = fields_of(kind).iter().filter(|f| !there.iter().any(|t| t == f.name));
    let near =
        absent.map(|f| (strsim::damerau_levenshtein(&name.to_ascii_lowercase(), f.name), f.name)).min();
    near.filter(|(distance, known)| *distance <= known.len() / 4).map(|(_, known)| known)
}
