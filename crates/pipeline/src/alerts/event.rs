//! The rules that look at events: rows of archive objects to hits.
//!
//! Most rows are of no interest, and that is decided on four columns ([`looks`]); only the others are read
//! whole. Action classes are those of the normalizers, so a rule holds over all sources that have the class.

use keytrail_archive::{Projection, Selection};
use keytrail_model::row::{Encoded, columns, text};
use keytrail_model::{ActionClass, Column, Fatal};
use keytrail_normalize::{Format, Masker};
use keytrail_ports::BlobStore;

use super::hit::{Facts, Hit, shown};
use super::rule::Rule;
use super::selectors::{Configured, configured};
use crate::objects::{self, StoredEvent};

/// The columns that decide whether a row is looked at.
const FIRST: [Column; 4] = [
    Column::EventAction,
    Column::KeytrailActionClass,
    Column::KeytrailActorPolicies,
    Column::KeytrailActorType,
];

/// Vault's call that seals it.
const SEAL: &str = "sys/seal";

/// A record of an operation that another record tells the end of: a Vault's request, an intent.
const OPENINGS: [&str; 5] = ["request", "intent", "RequestReceived", "ResponseStarted", "first"];

/// A hit, and what is needed to tell whether a later record says the same.
pub(super) struct Found {
    pub hit: Hit,
    /// The operation, where its records are several.
    pub operation: Option<String>,
    /// Another record should tell how it ended.
    pub opening: bool,
}

/// The hits among the rows of an archive object, in file order.
pub(super) fn hits(
    store: &dyn BlobStore,
    key: &str,
    masker: &Masker,
    each: &mut dyn FnMut(Found),
) -> Result<(), Fatal> {
    let reader = objects::open(store, key)?;
    let mut numbers = Vec::new();
    for batch in reader.batches(&Projection::Columns(FIRST.to_vec()), Selection::All) {
        let batch = batch.map_err(|e| objects::at(key, e))?;
        numbers.extend(batch.rows().filter(|row| looks(row.columns)).map(|row| row.number));
    }
    objects::rows(&reader, &numbers, &mut |event| of(&event, masker, each)).map_err(|e| objects::at(key, e))
}

/// Whether a rule may apply to a row, by the columns of [`FIRST`].
fn looks(row: &[u8]) -> bool {
    columns(row).any(|(column, value)| match (column, value) {
        (Column::KeytrailActionClass, Encoded::Text(class)) => {
            use ActionClass as C;
            [C::ScheduleDeletion, C::Destroy, C::Disable, C::AuditControl].iter().any(|c| c.name() == class)
        }
        (Column::KeytrailActorType, Encoded::Text(kind)) => kind == "Root",
        (Column::EventAction, Encoded::Text(action)) => action == SEAL,
        (Column::KeytrailActorPolicies, Encoded::List(mut policies)) => policies.any(|p| p == "root"),
        _ => false,
    })
}

/// The hits of an event.
fn of(event: &StoredEvent, masker: &Masker, each: &mut dyn FnMut(Found)) {
    let at = |column| event.text(column).unwrap_or_default();
    let (dataset, action, phase) =
        (at(Column::EventDataset), at(Column::EventAction), at(Column::KeytrailPhase));
    let opening = OPENINGS.contains(&phase);
    let mut tell = |rule: Rule, key: String, detail: Option<String>, lowered: bool| {
        let failed = at(Column::EventOutcome) == "failure";
        let severity = [lowered, failed].iter().filter(|l| **l).fold(rule.severity(), |s, _| s.lowered());
        let facts = Facts { detail, ..facts(event) };
        let hit = Hit {
            rule,
            severity,
            failed,
            key: shown(&key),
            time: event.time,
            uid: Some(event.uid),
            count: 1,
            facts,
            explain: vec!["explain".into(), event.uid.to_string()],
        };
        let operation = event.text(Column::KeytrailOperationId).filter(|_| !phase.is_empty());
        each(Found { hit, operation: operation.map(str::to_owned), opening });
    };

    let class = at(Column::KeytrailActionClass);
    let of_class = |c: ActionClass| class == c.name();
    if of_class(ActionClass::ScheduleDeletion) {
        tell(Rule::KeyDeletionScheduled, key_of(event), None, is_secret(event));
    } else if of_class(ActionClass::Destroy) {
        tell(Rule::KeyDestroyed, key_of(event), None, is_secret(event));
    } else if of_class(ActionClass::Disable) {
        tell(Rule::KeyDisabled, key_of(event), None, is_secret(event));
    } else if of_class(ActionClass::AuditControl) && dataset == Format::CloudTrail.dataset() {
        cloudtrail(event, action, masker, &mut tell);
    } else if of_class(ActionClass::AuditControl)
        && let Some(rule) = audit_change(dataset, action, event.text(Column::KeytrailVaultPath))
    {
        tell(rule, resource(event), None, false);
    }
    if dataset == Format::Vault.dataset() {
        if action == SEAL {
            tell(Rule::VaultSealed, vault(event), None, false);
        }
        // The response says how it ended; a request without one was refused by the audit devices.
        if !opening && has_root_policy(event) {
            tell(Rule::RootUsed, identity(event), Some("a token with the policy `root`".into()), false);
        }
    }
    if is_aws_root(event) {
        tell(Rule::RootUsed, at(Column::CloudAccountId).to_owned(), Some("the root user".into()), false);
    }
}

/// The calls of CloudTrail itself.
fn cloudtrail(
    event: &StoredEvent,
    action: &str,
    masker: &Masker,
    tell: &mut dyn FnMut(Rule, String, Option<String>, bool),
) {
    let Configured { name, excluded, weakened } = configured(action, event.original.as_deref());
    // The name is the caller's; it is no column, so it has not been masked.
    let trail = name.map(|n| masker.scrub(n).into_owned()).unwrap_or_else(|| resource(event));
    match action {
        "StopLogging" | "StopEventDataStoreIngestion" => tell(Rule::TrailStopped, trail, None, false),
        "DeleteTrail" | "DeleteEventDataStore" => tell(Rule::TrailDeleted, trail, None, false),
        _ if excluded.is_some() || !weakened.is_empty() => {
            if let Some((what, changes)) = excluded {
                tell(Rule::KeyEventsExcluded, trail.clone(), Some(what.into()), !changes);
            }
            if !weakened.is_empty() {
                tell(Rule::TrailWeakened, trail, Some(weakened.join("; ")), false);
            }
        }
        _ if ["Delete", "Stop", "Deregister"].iter().any(|verb| action.starts_with(verb)) => {
            tell(Rule::AuditConfigChanged, trail, None, false);
        }
        _ => {}
    }
}

/// The rule for a call of class `audit-control` of any other source; `None` where it only adds a recording.
fn audit_change(dataset: &str, action: &str, path: Option<&str>) -> Option<Rule> {
    if dataset == Format::Vault.dataset() {
        let deletes = action.ends_with("/delete");
        let device = action.starts_with("sys/audit/") || path.is_some_and(|p| p.starts_with("sys/audit/"));
        return match (deletes, device) {
            (true, true) => Some(Rule::AuditDeviceDisabled),
            (true, false) => Some(Rule::AuditConfigChanged),
            _ => None,
        };
    }
    // `google.logging.v2.ConfigServiceV2.DeleteSink`, or the verb of a request to Kubernetes.
    let name = action.rsplit('.').next().unwrap_or(action).to_ascii_lowercase();
    let adds = ["create", "undelete", "copy"].iter().any(|verb| name.starts_with(verb));
    (!adds || name.contains("exclusion")).then_some(Rule::AuditConfigChanged)
}

/// The root user of an account, but for a service that calls in its name, as the CIS benchmark for AWS
/// counts it.
fn is_aws_root(event: &StoredEvent) -> bool {
    event.text(Column::EventDataset) == Some(Format::CloudTrail.dataset())
        && event.text(Column::KeytrailActorType) == Some("Root")
        && event.text(Column::KeytrailActorInvokedBy).is_none()
        && event.text(Column::EventCode) != Some("AwsServiceEvent")
}

fn has_root_policy(event: &StoredEvent) -> bool {
    columns(&event.columns).any(|(column, value)| match (column, value) {
        (Column::KeytrailActorPolicies, Encoded::List(mut policies)) => policies.any(|p| p == "root"),
        _ => false,
    })
}

/// Whether it is about a secret's value and not about a key.
fn is_secret(event: &StoredEvent) -> bool {
    let at = |column| event.text(column).unwrap_or_default();
    match at(Column::EventDataset) {
        d if d == Format::Kubernetes.dataset() => true,
        d if d == Format::Vault.dataset() => ["kv", "generic", "cubbyhole"]
            .contains(&at(Column::EventAction).split('/').next().unwrap_or_default()),
        d if d == Format::KeyVault.dataset() => at(Column::EventAction).starts_with("Secret"),
        _ => {
            let provider = at(Column::EventProvider);
            provider.starts_with("secretmanager")
                || provider.starts_with("secretsmanager")
                || at(Column::EventAction).contains("k8s")
        }
    }
}

/// The first of some columns that is set.
fn first(event: &StoredEvent, wanted: &[Column]) -> String {
    wanted.iter().find_map(|c| event.text(*c)).unwrap_or_default().to_owned()
}

/// The first resource that a record names.
fn resource(event: &StoredEvent) -> String {
    let list = columns(&event.columns).find_map(|(column, value)| match (column, value) {
        (Column::KeytrailResourceIds, Encoded::List(mut ids)) => ids.next(),
        _ => None,
    });
    list.map_or_else(
        || {
            first(
                event,
                &[Column::KeytrailVaultPath, Column::OrchestratorResourceName, Column::KeytrailScope],
            )
        },
        str::to_owned,
    )
}

/// What the key or secret is called; keys of a Vault behind their mount.
fn key_of(event: &StoredEvent) -> String {
    let key = first(event, &[Column::KeytrailKeyArn, Column::KeytrailKeyId, Column::KeytrailKeyAlias]);
    match event.text(Column::KeytrailVaultMountPoint) {
        _ if key.is_empty() => resource(event),
        Some(mount) => format!("{mount}{key}"),
        None => key,
    }
}

/// Which Vault it is, as far as its records say.
fn vault(event: &StoredEvent) -> String {
    first(event, &[Column::KeytrailScope, Column::KeytrailVaultNamespace])
}

fn identity(event: &StoredEvent) -> String {
    first(event, &[Column::KeytrailActorAccessKeyId, Column::UserName])
}

fn facts(event: &StoredEvent) -> Facts {
    let some = |columns: &[Column]| columns.iter().find_map(|c| text(&event.columns, *c)).map(shown);
    Facts {
        dataset: some(&[Column::EventDataset]),
        source: some(&[Column::KeytrailSource]),
        action: some(&[Column::EventAction]),
        outcome: some(&[Column::EventOutcome]),
        actor: some(&[
            Column::KeytrailActorArn,
            Column::UserName,
            Column::UserId,
            Column::KeytrailActorAccessKeyId,
        ]),
        address: some(&[Column::SourceAddress]),
        account: some(&[
            Column::CloudAccountId,
            Column::CloudProjectId,
            Column::OrchestratorClusterName,
            Column::KeytrailVaultNamespace,
        ]),
        region: some(&[Column::CloudRegion]),
        detail: None,
    }
}
