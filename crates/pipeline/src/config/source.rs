//! `[[sources]]`: what is expected to be heard (ARCHITECTURE rule 7).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keytrail_model::{Fatal, Reject, Rejection};
use keytrail_normalize::{Declaration, Format};

use super::location::{File, Location};
use crate::input::{Input, Source};
use keytrail_ports::section::{Section, Text, list};

/// A declared source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeclaredSource {
    /// `keytrail_source` of its rows.
    pub name: String,
    /// What its records are.
    pub format: Format,
    /// Vault's audit device, the HSM of CloudHSM, the cluster of Kubernetes: what of several the records are
    /// of, where they do not say it themselves. It is the scope that conflicts are judged in, never part
    /// of a uid.
    pub instance: Option<String>,
    /// Where its logs are.
    pub locations: Vec<Location>,
    /// Accounts that its records may be of; any where none is named.
    pub accounts: Vec<String>,
    /// It is silent, and that is a finding, when nothing of it was heard for longer.
    pub longest_silence: Option<Duration>,
}

/// Says of each input which source declares it: the one in whose locations its file lies.
///
/// # Errors
/// `Config.Location`: a file lies in locations of two sources. `Fatal.Input`: the current folder cannot be
/// told.
pub fn claim(inputs: &mut [Input], sources: &[Arc<DeclaredSource>]) -> Result<(), Fatal> {
    let lost =
        |e: std::io::Error| Fatal::new("Fatal.Input", format!("the current folder cannot be told: {e}"));
    let mut places = Vec::new();
    for source in sources {
        for location in &source.locations {
            places.push((source, location.place().map_err(lost)?));
        }
    }
    for input in inputs.iter_mut().filter(|_| !places.is_empty()) {
        let file = match &input.source {
            Source::Path(path) => File::at(path).map_err(lost)?,
            Source::Blob(_) => File::object(&input.name),
            _ => continue,
        };
        for (source, _) in places.iter().filter(|(_, place)| place.holds(&file)) {
            if let Some(other) = input.declared.as_ref().filter(|other| other.name != source.name) {
                return Err(Fatal::new(
                    "Config.Location",
                    format!(
                        "`{}` lies in locations of the sources `{}` and `{}`, expected it in those of one",
                        input.name, other.name, source.name
                    ),
                ));
            }
            input.declared = Some(Arc::clone(source));
        }
    }
    Ok(())
}

impl DeclaredSource {
    /// What normalizers have to know of it.
    pub(crate) fn declaration(&self) -> Declaration<'_> {
        Declaration { source: &self.name, instance: self.instance.as_deref(), accounts: &self.accounts }
    }

    /// The refusal of a record of another shape.
    pub(crate) fn mismatch(&self, is: Format) -> Rejection {
        let (dataset, name, other) = (self.format.dataset(), &self.name, is.dataset());
        let reason = format!(
            "expected a record of `{dataset}`, as the source `{name}` declares, found one of `{other}`"
        );
        Rejection::new(Reject::SourceMismatch, reason)
    }
}

/// Its part of the template.
pub const TEMPLATE: &str = r#"
# A source that is expected to be heard, one [[sources]] for each. Rows of its files have its name in
# keytrail_source; what no source declares is read too, and is marked keytrail_undeclared. A record of another
# dataset or account goes to quarantine as source_mismatch.
#
# name             unique: small letters, digits, - and .
# dataset          aws.cloudtrail, aws.cloudhsm, azure.keyvault, gcp.audit, keytrail.key_operation,
#                  kubernetes.audit or vault.audit
# location         a file, folder (all files below it) or glob, or a list of them; no two sources share a file
# instance         which audit device of Vault, HSM of CloudHSM (hsm-...) or cluster of Kubernetes it is: their
#                  records do not say so, and are judged for conflicts only where it is declared
# accounts         accounts that its records may be of [default: any]: AWS account ids, Google Cloud projects,
#                  Azure subscriptions
# longest_silence  it is overdue, and that is told, when nothing of it was heard for longer [default: never]
#
# Examples:
#[[sources]]
#name = "vault-eu"
#dataset = "vault.audit"
#instance = "vault-eu/file"
#location = "/var/log/vault/audit*.log"
#longest_silence = "15m"

#[[sources]]
#name = "cloudtrail-prod"
#dataset = "aws.cloudtrail"
#location = ["/srv/cloudtrail/AWSLogs/111122223333", "/srv/cloudtrail/AWSLogs/444455556666"]
#accounts = ["111122223333", "444455556666"]
#longest_silence = "1h"
"#;

/// A year: a source that may be silent for longer need not be declared so.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// The declared sources.
pub(super) fn read(top: &mut Section<'_, '_>, folder: &Path) -> Vec<Arc<DeclaredSource>> {
    let mut earlier: Vec<(DeclaredSource, usize)> = Vec::new();
    top.sections("sources", |section| {
        if let Some(source) = one(section, folder, &earlier) {
            earlier.push((source, section.line_of("name")));
        }
    });
    earlier.into_iter().map(|(source, _)| Arc::new(source)).collect()
}

/// One source, checked by itself and against those before it.
fn one(
    section: &mut Section<'_, '_>,
    folder: &Path,
    earlier: &[(DeclaredSource, usize)],
) -> Option<DeclaredSource> {
    let name = section.required_text("name", "the source's name, as in \"vault-eu\"");
    if let Some(name) = name {
        check_name(section, name.text, earlier);
    }
    let datasets = list(&Format::ALL.map(Format::dataset));
    let dataset = section.required_text("dataset", &format!("one of {datasets}"));
    let format = dataset.and_then(|d| {
        let format = Format::ALL.into_iter().find(|f| f.dataset() == d.text);
        if format.is_none() {
            section.problem(
                "dataset",
                match Format::by_name(d.text) {
                    Some(format) => format!("the dataset of `{}` is `{}`", d.text, format.dataset()),
                    None => format!("expected one of {datasets}, found `{}`", d.text),
                },
            );
        }
        format
    });
    let instance = section.text("instance", "what of several the records are of, as in \"vault-eu/file\"");
    if let (Some(instance), Some(format)) = (instance, format) {
        check_instance(section, instance.text, format);
    }
    let expected = "a file, folder or glob, or a list of them";
    let mut locations: Vec<Location> = Vec::new();
    for text in section.required_texts("location", expected) {
        match Location::new(text.text, folder) {
            Ok(location) => {
                check_apart(section, text, &location, &locations, earlier);
                locations.push(location);
            }
            Err(problem) => section.problem_at(text.line, "location", problem),
        }
    }
    let accounts = section.texts("accounts", "an account's id as a text, or a list of them");
    for account in &accounts {
        if let Some(format) = format
            && let Err(problem) = check_account(account.text, format)
        {
            section.problem_at(account.line, "accounts", problem);
        }
    }
    let longest_silence = section.duration("longest_silence", Duration::from_secs(1)..=LONGEST);
    Some(DeclaredSource {
        name: name?.text.to_owned(),
        format: format?,
        instance: instance.map(|i| i.text.to_owned()),
        locations,
        accounts: accounts.iter().map(|a| a.text.to_owned()).collect(),
        longest_silence,
    })
}

/// Names stand in columns, metrics and file names. One that is a format's stays that of its undeclared rows.
fn check_name(section: &mut Section<'_, '_>, name: &str, earlier: &[(DeclaredSource, usize)]) {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !first || name.len() > 64 || !name.bytes().all(allowed) {
        section.problem(
            "name",
            "expected up to 64 small letters, digits, `-` and `.`, the first a letter or digit",
        );
    } else if name == "unknown" || Format::by_name(name).is_some() {
        section.problem(
            "name",
            format!("`{name}` is what undeclared records are counted under, expected another name"),
        );
    } else if let Some((_, line)) = earlier.iter().find(|(s, _)| s.name == name) {
        section.problem(
            "name",
            format!("the source of line {line} is named `{name}` too, expected another name"),
        );
    }
}

fn check_instance(section: &mut Section<'_, '_>, instance: &str, format: Format) {
    let printable =
        !instance.is_empty() && instance.len() <= 128 && instance.bytes().all(|b| b.is_ascii_graphic());
    match format {
        Format::CloudHsm if !is_hsm_id(instance) => {
            section.problem("instance", "expected the id of an HSM, as in \"hsm-3i4c2dgkkti\"");
        }
        _ if format.has_instances() && printable => {}
        _ if format.has_instances() => {
            section.problem("instance", "expected up to 128 printable ASCII characters without spaces");
        }
        _ => {
            let dataset = format.dataset();
            section.problem(
                "instance",
                format!("records of `{dataset}` say themselves whose they are, expected none"),
            );
        }
    }
}

/// The ids that CloudHSM gives, which are names of log streams, too.
fn is_hsm_id(text: &str) -> bool {
    text.starts_with("hsm-")
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// A file of two sources would be of neither.
fn check_apart(
    section: &mut Section<'_, '_>,
    text: Text<'_>,
    location: &Location,
    own: &[Location],
    earlier: &[(DeclaredSource, usize)],
) {
    if let Some(other) = own.iter().find(|other| other.overlaps(location)) {
        let problem =
            format!("`{}` and `{}` can have files in common, expected each once", text.text, other.text());
        section.problem_at(text.line, "location", problem);
    }
    for (source, line) in earlier {
        if let Some(other) = source.locations.iter().find(|other| other.overlaps(location)) {
            let problem = format!(
                "`{}` can have files in common with `{}` of the source `{}` in line {line}, expected files of \
                 one source",
                text.text,
                other.text(),
                source.name
            );
            section.problem_at(text.line, "location", problem);
        }
    }
}

/// AWS account id: 12 digits. Google Cloud project id or number. Azure subscription: a GUID.
fn check_account(account: &str, format: Format) -> Result<(), String> {
    let lowercase =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b':' || b == b'.';
    let (good, expected) = match format {
        Format::CloudHsm | Format::CloudTrail => (
            account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()),
            "an AWS account id, 12 digits",
        ),
        Format::Gcp => (
            (1..=63).contains(&account.len()) && account.bytes().all(lowercase),
            "the id of a Google Cloud project, folder, organisation or billing account",
        ),
        Format::KeyVault => (is_guid(account), "the id of an Azure subscription, a GUID"),
        Format::KeyOperation | Format::Kubernetes | Format::Vault => {
            return Err(format!("records of `{}` name no account, expected none", format.dataset()));
        }
    };
    if good { Ok(()) } else { Err(format!("expected {expected}, found `{account}`")) }
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|g| g.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|g| g.bytes().all(|b| b.is_ascii_hexdigit()))
}
