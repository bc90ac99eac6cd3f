//! The rules: a closed list, each with its id, its severity and its words. `schemas/alerts.md` documents
//! them for receivers; ids are a promise.

use serde::{Deserialize, Serialize};

/// How much an alert matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be looked at with the others.
    Low,
    /// To be looked at within days.
    Medium,
    /// To be looked at today.
    High,
    /// To be looked at now.
    Critical,
}

impl Severity {
    /// All, ascending.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Its name, as in alerts and in `keytrail.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// One less: of an attempt that failed, of a secret in place of a key.
    pub const fn lowered(self) -> Self {
        match self {
            Self::Critical => Self::High,
            Self::High => Self::Medium,
            Self::Medium | Self::Low => Self::Low,
        }
    }
}

macro_rules! rules {
    ($($name:ident $id:literal $severity:ident, $by:literal, $title:literal, $failed:literal, $meaning:literal;)*) => {
        /// What is alerted.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum Rule { $(#[doc = $meaning] #[serde(rename = $id)] $name,)* }

        impl Rule {
            /// All rules, in the order of the documentation.
            pub const ALL: [Self; [$($id),*].len()] = [$(Self::$name),*];

            /// The stable id, as in alerts and in `keytrail.toml`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// The severity of what succeeded.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What its alerts are grouped by.
            pub const fn by(self) -> &'static str {
                match self { $(Self::$name => $by,)* }
            }

            /// The title: words of ours alone, never of a log.
            pub const fn title(self, failed: bool) -> &'static str {
                match self { $(Self::$name => if failed { $failed } else { $title },)* }
            }

            /// What it means, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

rules! {
    TrailStopped "trail-stopped" Critical, "trail",
        "Recording of a CloudTrail trail was stopped", "An attempt to stop a CloudTrail trail failed",
        "`StopLogging`, `StopEventDataStoreIngestion`: from then on nothing is recorded";
    TrailDeleted "trail-deleted" Critical, "trail",
        "A CloudTrail trail was deleted", "An attempt to delete a CloudTrail trail failed",
        "`DeleteTrail`, `DeleteEventDataStore`: from then on nothing is recorded";
    KeyEventsExcluded "key-events-excluded" Critical, "trail",
        "A CloudTrail trail no longer records all events of KMS", "An attempt to exclude events of KMS from a CloudTrail trail failed",
        "`PutEventSelectors`, `UpdateEventDataStore` after which management events of KMS are not recorded, or not all of them, or that cannot be read";
    TrailWeakened "trail-weakened" High, "trail",
        "A CloudTrail trail was changed to record or prove less", "An attempt to weaken a CloudTrail trail failed",
        "`UpdateTrail` that switches off log file validation, all regions, global services, the organization, CloudWatch Logs or encryption; `PutEventSelectors` that excludes the RDS Data API alone";
    AuditDeviceDisabled "audit-device-disabled" Critical, "device",
        "An audit device of a Vault was disabled", "An attempt to disable an audit device of a Vault failed",
        "`DELETE sys/audit/...`: that device records nothing any more";
    AuditConfigChanged "audit-config-changed" Medium, "resource",
        "What is recorded was changed", "An attempt to change what is recorded failed",
        "anything else of class `audit-control` that ends or changes a recording: sinks, exclusions and log buckets of Google Cloud, audit sinks of Kubernetes, channels of CloudTrail, headers that a Vault records, an HSM gateway's own";
    KeyDeletionScheduled "key-deletion-scheduled" High, "key",
        "Deletion of a key or secret was scheduled", "An attempt to schedule deletion of a key or secret failed",
        "class `schedule-deletion`: it is gone after a waiting time, unless somebody calls it off";
    KeyDestroyed "key-destroyed" High, "key",
        "A key or secret was destroyed", "An attempt to destroy a key or secret failed",
        "class `destroy`: what it protects can never be read again";
    KeyDisabled "key-disabled" Medium, "key",
        "A key or secret was disabled", "An attempt to disable a key or secret failed",
        "class `disable`: it cannot be used until somebody enables it";
    RootUsed "root-used" High, "identity",
        "A root identity was used", "A call by a root identity failed",
        "the root user of an AWS account, but not a service for it; a root token of a Vault";
    VaultSealed "vault-sealed" Critical, "vault",
        "A Vault was sealed", "An attempt to seal a Vault failed",
        "`sys/seal`: nobody can use its keys and secrets until it is unsealed";
    Conflict "conflict" Medium, "source",
        "Different events came under one id of their producer", "Different events came under one id of their producer",
        "`CONFLICT`: two events claim to be the same one, and differ; one of them may be forged";
    Gap "gap" High, "source",
        "Records of a source are missing", "Records of a source are missing",
        "`GAP`: sequence numbers that nobody has seen";
    TailSilent "tail-silent" High, "source",
        "A chained source fell silent", "A chained source fell silent",
        "`TAIL_SILENT`: the end of its chain may be cut off";
    SourceSilent "source-silent" High, "source",
        "A declared source is silent", "A declared source is silent",
        "nothing came for longer than its declaration allows";
    Quarantine "quarantine" Medium, "quarantine",
        "Many records went to quarantine", "Many records went to quarantine",
        "more records than the threshold were refused within an hour: a format that changed, a damaged input, or an attack";
    VerifyFailed "verify-failed" Critical, "finding",
        "The archive or its log does not verify", "The archive or its log does not verify",
        "a finding of a verify that keytrail ran by itself, what ended a run, or an archive object that cannot be read";
}

impl Rule {
    /// The rule of that id.
    pub fn by_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.id() == id)
    }

    /// Whether it tells of a state, which is seen again whenever somebody looks, and not of an event.
    pub const fn is_state(self) -> bool {
        matches!(self, Self::Gap | Self::TailSilent | Self::SourceSilent | Self::VerifyFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids are a promise to whoever routes by them, and every rule is documented.
    #[test]
    fn rules_are_documented() {
        let document = include_str!("../../../../schemas/alerts.md");
        let schema = include_str!("../../../../schemas/alert.v1.schema.json");
        for rule in Rule::ALL {
            let row = format!(
                "| `{}` | {} | {} | {} |",
                rule.id(),
                rule.severity().name(),
                rule.by(),
                rule.meaning()
            );
            assert!(document.contains(&row), "schemas/alerts.md lacks: {row}");
            assert!(schema.contains(&format!("\"{}\"", rule.id())), "the schema lacks `{}`", rule.id());
            assert_eq!(Rule::by_id(rule.id()), Some(rule));
        }
    }
}
