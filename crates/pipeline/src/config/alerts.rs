//! `[alerts]` and `[[notify]]`: what is alerted, and who is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::alerts::{Options, QuarantineLimit, Rule, Severity};
use keytrail_ports::section::{Section, list};

/// Who is told, as `[[notify]]` has it. Its text may be secret: `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct DeclaredReceiver {
    /// Where alerts go.
    pub target: Target,
    /// What is less severe is not told.
    pub least: Severity,
}

/// Where alerts go.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// A command line.
    Command(String),
    /// A URL, and the file with the secret that signs, if it names one.
    Url(String, Option<PathBuf>),
}

impl std::fmt::Debug for DeclaredReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.target {
            Target::Command(_) => "command",
            Target::Url(..) => "url",
        };
        write!(f, "{kind} of severity {}", self.least.name())
    }
}

/// Its part of the template.
pub const TEMPLATE: &str = r#"
# Alerts: schemas/alerts.md says what each rule means. `keytrail alerts` shows what they find.
#
# window              further alerts of a rule and key are held back for so long, and told in one
# off                 rules that are not asked, as in ["root-used", "key-disabled"]
# quarantine_records  alert when, within an hour, more records are refused than this ...
# quarantine_percent  ... and more than so many percent of those read
#
#[alerts]
#window = "15m"
#off = []
#quarantine_records = 10
#quarantine_percent = 1

# Who is told, one [[notify]] for each, beside those of --notify.
#
# command      run by `sh -c` for each alert: reads it as JSON on standard input, exits with 0 when it has it
# url          ... or an http(s) URL, to which each alert is posted, signed. Where it is a secret, only the owner
#              of this file should be able to read it
# secret_file  the secret that signs, `whsec_` and 24 to 64 bytes in Base64, in a file that only its owner can read
#              [default: the environment's KEYTRAIL_NOTIFY_SECRET]
# severity     what is less severe is not told: low, medium, high or critical
#
# Examples:
#[[notify]]
#command = "jq -r .data.title | mail -s keytrail security@example.com"
#severity = "low"

#[[notify]]
#url = "https://alerts.example.com/keytrail"
#secret_file = "hook.secret"
#severity = "high"
"#;

/// A day: what is held back for longer is no alert.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How alerts are made.
pub(super) fn options(top: &mut Section<'_, '_>) -> Options {
    let default = Options::default();
    top.section("alerts", |section| {
        let window = section.duration("window", Duration::from_secs(1)..=LONGEST);
        let mut off = BTreeSet::new();
        let rules = list(&Rule::ALL.map(Rule::id));
        for text in section.texts("off", "a rule's id, or a list of them") {
            match Rule::by_id(text.text) {
                Some(rule) => {
                    off.insert(rule);
                }
                None => section.problem_at(
                    text.line,
                    "off",
                    format!("expected one of {rules}, found `{}`", text.text),
                ),
            }
        }
        let mut count = |key, most, default: u64| {
            section.number(key, 0..=most).and_then(|n| u64::try_from(n).ok()).unwrap_or(default)
        };
        let records = count("quarantine_records", i64::MAX, default.quarantine.records);
        let percent = count("quarantine_percent", 100, default.quarantine.percent);
        Options {
            window_micros: window
                .and_then(|w| i64::try_from(w.as_micros()).ok())
                .unwrap_or(default.window_micros),
            quarantine: QuarantineLimit { records, percent },
            off,
        }
    })
}

/// Who is told.
pub(super) fn receivers(top: &mut Section<'_, '_>, folder: &Path) -> Vec<DeclaredReceiver> {
    top.sections("notify", |section| one(section, folder)).into_iter().flatten().collect()
}

fn one(section: &mut Section<'_, '_>, folder: &Path) -> Option<DeclaredReceiver> {
    let command = section.text("command", "a command line").map(|t| t.text);
    let url = section.text("url", "an http(s) URL").map(|t| t.text);
    let secret = section.text("secret_file", "a file's path").map(|t| folder.join(t.text));
    let least = match section.text("severity", "a severity, as in \"high\"").map(|t| t.text) {
        None => Severity::Low,
        Some(name) => Severity::by_name(name).unwrap_or_else(|| {
            let names = list(&Severity::ALL.map(Severity::name));
            section.problem("severity", format!("expected one of {names}, found `{name}`"));
            Severity::Low
        }),
    };
    if command.is_some() && secret.is_some() {
        section.problem("secret_file", "a command is not signed for, expected none");
    }
    let target = match (command, url) {
        (Some(line), None) if !line.trim().is_empty() => Target::Command(line.to_owned()),
        (None, Some(url)) if is_url(url) => Target::Url(url.to_owned(), secret),
        (None, Some(_)) => {
            section.problem("url", "expected an `http://` or `https://` URL");
            return None;
        }
        _ => {
            section.problem("command", "expected either `command` or `url`");
            return None;
        }
    };
    Some(DeclaredReceiver { target, least })
}

/// Whether a target is a URL and no command line.
pub fn is_url(target: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn alerts_and_receivers_are_read() {
        let text = r#"
            [alerts]
            window = "1h"
            off = ["root-used"]
            quarantine_percent = 5
            [[notify]]
            command = "cat >> /tmp/alerts"
            [[notify]]
            url = "https://example.com/t0ken"
            secret_file = "hook.secret"
            severity = "high"
        "#;
        let config = Config::parse(text, Path::new("/etc")).unwrap();
        let options = Options {
            window_micros: 3_600_000_000,
            quarantine: QuarantineLimit { records: 10, percent: 5 },
            off: BTreeSet::from([Rule::RootUsed]),
        };
        assert_eq!(config.alerts, options);
        let url = Target::Url("https://example.com/t0ken".into(), Some("/etc/hook.secret".into()));
        assert_eq!(
            config.notify,
            [
                DeclaredReceiver {
                    target: Target::Command("cat >> /tmp/alerts".into()),
                    least: Severity::Low
                },
                DeclaredReceiver { target: url, least: Severity::High },
            ]
        );
        assert!(!format!("{config:?}").contains("t0ken"));
    }

    #[test]
    fn problems_name_what_was_expected_and_no_address() {
        let text = r#"
            [alerts]
            off = ["nothing"]
            [[notify]]
            severity = "loud"
            [[notify]]
            url = "ftp://t0ken"
            [[notify]]
            command = "true"
            secret_file = "s"
        "#;
        let problems = Config::parse(text, Path::new("/etc")).unwrap_err();
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for expected in [
            "line 3: `alerts.off`: expected one of `trail-stopped`, `trail-deleted`",
            "line 5: `notify[0].severity`: expected one of `low`, `medium`, `high` or `critical`, found `loud`",
            "`notify[0].command`: expected either `command` or `url`",
            "line 7: `notify[1].url`: expected an `http://` or `https://` URL",
            "line 10: `notify[2].secret_file`: a command is not signed for, expected none",
        ] {
            assert!(said.iter().any(|s| s.contains(expected)), "{expected}: {said:#?}");
        }
        assert!(!said.concat().contains("t0ken"));
    }
}
