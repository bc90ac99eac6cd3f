//! What a report asks of a row, and the terms that follow from it: operation, actor, key, privileged.
//!
//! The queries of the report ([`super::queries`]) say the same in SQL; a test holds the two against each other.

use std::borrow::Cow;

use keytrail_archive::StoredRow;
use keytrail_model::row::{Encoded, columns};
use keytrail_model::{ActionClass, Column, Uid};
use keytrail_normalize::Format;

/// The columns that are read.
pub const COLUMNS: [Column; 20] = [
    Column::CloudAccountId,
    Column::CloudProjectId,
    Column::EventAction,
    Column::EventCode,
    Column::EventOutcome,
    Column::KeytrailActionClass,
    Column::KeytrailActorArn,
    Column::KeytrailActorInvokedBy,
    Column::KeytrailActorPolicies,
    Column::KeytrailActorType,
    Column::KeytrailKeyAlgorithm,
    Column::KeytrailKeyAlias,
    Column::KeytrailKeyId,
    Column::KeytrailKeyState,
    Column::KeytrailKeyStore,
    Column::KeytrailPhase,
    Column::KeytrailSource,
    Column::KeytrailUndeclared,
    Column::OrchestratorClusterName,
    Column::Timestamp,
];

/// Columns of which the actor is the first that has a value.
const ACTOR: [Column; 2] = [Column::UserName, Column::UserId];

/// Phases of records of an operation that another record tells the end of.
pub const OPENINGS: [&str; 5] = ["RequestReceived", "ResponseStarted", "first", "intent", "request"];

/// A kind of privileged operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// By a root identity, whatever it did.
    Root,
    /// Of an action class that only few may use.
    Class(ActionClass),
}

impl Kind {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 11] = [
        Self::Root,
        Self::Class(ActionClass::AuditControl),
        Self::Class(ActionClass::Destroy),
        Self::Class(ActionClass::ScheduleDeletion),
        Self::Class(ActionClass::CancelDeletion),
        Self::Class(ActionClass::Disable),
        Self::Class(ActionClass::Export),
        Self::Class(ActionClass::Import),
        Self::Class(ActionClass::PolicyChange),
        Self::Class(ActionClass::Grant),
        Self::Class(ActionClass::Administer),
    ];

    /// Its name: `root`, or the class.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Class(class) => class.name(),
        }
    }

    /// Its place in [`Kind::ALL`].
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|kind| *kind == self).unwrap_or(Self::ALL.len())
    }
}

/// What is asked of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    /// Identity.
    pub uid: Uid,
    /// Its own time, microseconds since 1970.
    pub time: Option<i64>,
    /// `keytrail_source`.
    pub source: Option<&'a str>,
    /// `keytrail_undeclared`.
    pub undeclared: bool,
    /// `event_action`.
    pub action: Option<&'a str>,
    /// `event_outcome`.
    pub outcome: Option<&'a str>,
    /// `keytrail_action_class`.
    pub class: Option<ActionClass>,
    /// The account, project or cluster.
    pub account: Option<&'a str>,
    /// `keytrail_key_alias`.
    pub key_alias: Option<&'a str>,
    /// `keytrail_key_algorithm`.
    pub key_algorithm: Option<&'a str>,
    /// `keytrail_key_state`.
    pub key_state: Option<&'a str>,
    project: Option<&'a str>,
    cluster: Option<&'a str>,
    key_id: Option<&'a str>,
    key_store: Option<&'a str>,
    phase: Option<&'a str>,
    code: Option<&'a str>,
    user_name: Option<&'a str>,
    user_id: Option<&'a str>,
    actor_arn: Option<&'a str>,
    actor_type: Option<&'a str>,
    invoked_by: bool,
    root_policy: bool,
    masters: bool,
}

/// The columns to read.
pub fn projection() -> Vec<Column> {
    COLUMNS.into_iter().chain(ACTOR).collect()
}

impl<'a> Fields<'a> {
    /// Those of a row that was read with [`projection`].
    pub fn of(row: &StoredRow<'a>) -> Self {
        let mut f = Self { uid: row.uid, time: row.time.map(|t| t.0), ..Self::default() };
        for (column, value) in columns(row.columns) {
            match value {
                Encoded::Text(text) => f.set(column, text),
                Encoded::Bool(flag) => f.undeclared |= flag && column == Column::KeytrailUndeclared,
                Encoded::List(items) if column == Column::KeytrailActorPolicies => {
                    for item in items {
                        f.root_policy |= item == "root";
                        f.masters |= item == "system:masters";
                    }
                }
                _ => {}
            }
        }
        f.account = f.account.or(f.project).or(f.cluster);
        f
    }

    fn set(&mut self, column: Column, text: &'a str) {
        let field = match column {
            Column::CloudAccountId => &mut self.account,
            Column::CloudProjectId => &mut self.project,
            Column::EventAction => &mut self.action,
            Column::EventCode => &mut self.code,
            Column::EventOutcome => &mut self.outcome,
            Column::KeytrailActionClass => {
                self.class = ActionClass::ALL.into_iter().find(|c| c.name() == text);
                return;
            }
            Column::KeytrailActorArn => &mut self.actor_arn,
            Column::KeytrailActorInvokedBy => {
                self.invoked_by = true;
                return;
            }
            Column::KeytrailActorType => &mut self.actor_type,
            Column::KeytrailKeyAlgorithm => &mut self.key_algorithm,
            Column::KeytrailKeyAlias => &mut self.key_alias,
            Column::KeytrailKeyId => &mut self.key_id,
            Column::KeytrailKeyState => &mut self.key_state,
            Column::KeytrailKeyStore => &mut self.key_store,
            Column::KeytrailPhase => &mut self.phase,
            Column::KeytrailSource => &mut self.source,
            Column::OrchestratorClusterName => &mut self.cluster,
            Column::UserId => &mut self.user_id,
            Column::UserName => &mut self.user_name,
            _ => return,
        };
        *field = Some(text);
    }

    /// Whether it is the record that counts its operation.
    pub fn is_operation(&self) -> bool {
        !self.phase.is_some_and(|phase| OPENINGS.contains(&phase))
    }

    /// Who did it.
    pub fn actor(&self) -> Option<&'a str> {
        self.user_name.or(self.actor_arn).or(self.user_id)
    }

    /// The key, within its dataset.
    pub fn key(&self, dataset: &str) -> Option<Cow<'a, str>> {
        match (self.key_id, self.key_store) {
            (Some(id), Some(mount)) if dataset == Format::Vault.dataset() => {
                Some(Cow::Owned(format!("{mount}{id}")))
            }
            (Some(id), _) => Some(Cow::Borrowed(id)),
            (None, _) => self.key_alias.map(Cow::Borrowed),
        }
    }

    /// What kind of privileged operation it is.
    pub fn privileged(&self, dataset: &str) -> Option<Kind> {
        if self.is_root(dataset) {
            return Some(Kind::Root);
        }
        let kind = Kind::Class(self.class?);
        Kind::ALL.contains(&kind).then_some(kind)
    }

    fn is_root(&self, dataset: &str) -> bool {
        match dataset {
            d if d == Format::CloudTrail.dataset() => {
                self.actor_type == Some("Root") && !self.invoked_by && self.code != Some("AwsServiceEvent")
            }
            d if d == Format::Vault.dataset() => self.root_policy,
            d if d == Format::Kubernetes.dataset() => self.masters,
            _ => false,
        }
    }
}
