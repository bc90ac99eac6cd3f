//! `[[tables]]`: what new events are enriched with.

use std::path::{Path, PathBuf};

use keytrail_enrich::{Format, Validity, time};
use keytrail_model::TableKind;
use keytrail_model::table::{MAX_NAME_BYTES, MAX_TABLES};

use keytrail_ports::section::{Section, list};

/// Its part of the template.
pub const TEMPLATE: &str = r#"
# What the organization knows of keys, callers, networks and accounts, one [[tables]] for each file: new events
# carry it in columns of their own (schemas/tables.md). Files are read at start; a file that changed counts from
# the next start on. `keytrail enrich check` reads them.
#
# kind        keys, principals, networks, accounts or geoip
# path        the file, from the folder of this one
# format      csv, json, yaml, parquet or mmdb [default: by the file's extension]
# name        by which archive and log name it [default: the kind]
# valid_from  rows that do not say when they hold do from this day or moment on [default: always]
#
# Examples:
#[[tables]]
#kind = "keys"
#path = "tables/keys.csv"

#[[tables]]
#kind = "principals"
#path = "tables/principals.yaml"

#[[tables]]
#kind = "networks"
#path = "tables/networks.csv"
#valid_from = "2024-01-01"

#[[tables]]
#kind = "accounts"
#path = "tables/accounts.json"

#[[tables]]
#kind = "geoip"
#name = "asn"
#path = "GeoLite2-ASN.mmdb"
#format = "mmdb"
"#;

/// A declared table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeclaredTable {
    /// What it tells of.
    pub kind: TableKind,
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// How the file is written.
    pub format: Format,
    /// When rows hold that do not say it.
    pub default: Validity,
    /// Its line in the configuration.
    pub line: usize,
}

/// The tables.
pub(super) fn read(top: &mut Section<'_, '_>, folder: &Path) -> Vec<DeclaredTable> {
    let mut names: Vec<(String, usize)> = Vec::new();
    let all = top.sections("tables", |section| {
        let declared = one(section, folder);
        if let Some(table) = &declared {
            match names.iter().find(|(name, _)| *name == table.name) {
                Some((name, line)) => {
                    section.problem("name", format!("the table of line {line} is named `{name}` too"));
                }
                None => names.push((table.name.clone(), table.line)),
            }
            if names.len() > MAX_TABLES {
                section.problem("name", format!("expected at most {MAX_TABLES} tables"));
            }
        }
        declared
    });
    all.into_iter().flatten().collect()
}

fn one(section: &mut Section<'_, '_>, folder: &Path) -> Option<DeclaredTable> {
    let kinds = list(&TableKind::ALL.map(TableKind::name));
    let kind = section.required_text("kind", &format!("one of {kinds}")).and_then(|text| {
        let kind = TableKind::by_name(text.text);
        if kind.is_none() {
            section.problem("kind", format!("expected one of {kinds}, found `{}`", text.text));
        }
        kind
    });
    let path = section.required_text("path", "the table's file").map(|text| text.text);
    let formats = list(&Format::ALL.map(Format::name));
    let format = match section.text("format", &format!("one of {formats}")).map(|text| text.text) {
        Some(name) => {
            let format = Format::ALL.into_iter().find(|f| f.name() == name);
            if format.is_none() {
                section.problem("format", format!("expected one of {formats}, found `{name}`"));
            }
            format
        }
        None => path.and_then(|path| {
            let extension = Path::new(path).extension().and_then(|e| e.to_str());
            let format = extension.and_then(Format::of_extension);
            if format.is_none() {
                section.problem(
                    "format",
                    format!("missing, expected one of {formats}: the file's name does not say it"),
                );
            }
            format
        }),
    };
    if let (Some(kind), Some(format)) = (kind, format)
        && (kind == TableKind::Geoip) != (format == Format::Mmdb)
    {
        section.problem("format", "expected `mmdb` for the kind `geoip`, and another for all others");
    }
    let name = section.text("name", "a name").map_or_else(
        || kind.map(|k| k.name().to_owned()),
        |text| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            let good =
                !text.text.is_empty() && text.text.len() <= MAX_NAME_BYTES && text.text.chars().all(fits);
            if !good {
                let expected = format!("up to {MAX_NAME_BYTES} small letters, digits, `-` and `.`");
                section.problem("name", format!("expected {expected}, found `{}`", text.text));
            }
            good.then(|| text.text.to_owned())
        },
    );
    let expected = "a day as in \"2024-01-31\", or a time as in \"2024-01-31T12:00:00Z\"";
    let from = section.text("valid_from", expected).map(|text| {
        let from = time(text.text);
        if from.is_none() {
            section.problem("valid_from", format!("expected {expected}, found `{}`", text.text));
        }
        from
    });
    let default = Validity { from: from.flatten(), to: None };
    let line = section.line_of("kind");
    Some(DeclaredTable { kind: kind?, name: name?, path: folder.join(path?), format: format?, default, line })
}
