//! Cloud Audit Logs of Google Cloud.
//!
//! What it is: one LogEntry whose payload is an AuditLog to one event, of every service; keys and secrets
//! of Cloud KMS, Secret Manager, Certificate Authority Service and the Secrets of GKE clusters. What it is
//! not: it reads no other log of Cloud Logging, and it joins no entries of a long-running operation.
//! In: a JSON object as sinks write it on a line and `gcloud logging read --format=json` in an array. Out:
//! [`AuditEvent`]s of `gcp.audit`. `schemas/mappings/gcp.md` is the mapping in words.
//!
//! Source: the references of `LogEntry` and `AuditLog`, "Understanding audit logs".

mod actions;
mod keys;
mod record;

use keytrail_model::{AuditEvent, Column, Reject, Rejection, Timestamp};

use crate::category::classify_or;
use crate::lists::add_all;
use crate::reader::fields;
use crate::value::{Open, items, number, opened, slice, text};
use crate::{Context, address, walk};
use actions::{Request, Service};
pub(crate) use record::Record;
use record::{AuditLog, Authentication};

/// `event.dataset` of these events.
pub const DATASET: &str = "gcp.audit";

/// `keytrail.normalizer`: raised with every change of what a record becomes.
pub const NORMALIZER: &str = "gcp/1";

/// The part of a log's name by which audit logs are known.
const AUDIT_LOG: &str = "/logs/cloudaudit.googleapis.com";

/// The type of their payload; some services leave it out.
const PAYLOAD: &str = "type.googleapis.com/google.cloud.audit.AuditLog";

/// Permission denied, of `google.rpc.Code`.
const PERMISSION_DENIED: i64 = 7;

/// Whether a record's content looks like one of this source: a `protoPayload` in an audit log, or of the
/// type of audit logs.
pub fn recognises(record: &str) -> bool {
    let (mut log, mut typed, mut payload, mut inside, mut foreign) = (false, false, false, false, false);
    walk::upper_keys(record, |depth, key, value| {
        if depth == 1 {
            inside = key == "protoPayload";
        }
        match (depth, key) {
            (1, "logName") => log = walk::holds(value, AUDIT_LOG),
            (1, "protoPayload") => payload = value.trim_ascii_start().starts_with('{'),
            (1, "eventVersion" | "apiVersion") => foreign = true,
            (2, "@type") if inside => typed = walk::holds(value, PAYLOAD),
            _ => {}
        }
        !foreign && !(payload && (log || typed))
    });
    payload && (log || typed) && !foreign
}

/// The event of one record.
///
/// Refused are an entry without `protoPayload` or of another log, one whose payload is of another type, and one with
/// neither `methodName` nor `serviceName`. A time that is missing or unreadable leaves the event undated.
pub(crate) fn normalize<'a>(record: &Record<'a>, ctx: &Context<'a>) -> Result<AuditEvent<'a>, Rejection> {
    let Some(log) = &record.payload.0 else {
        return Err(if record.text_payload.or(record.json_payload).is_some() {
            Rejection::new(Reject::FormatUnknown, "expected `protoPayload`, found the payload of another log")
        } else {
            Rejection::new(Reject::FieldMissing, "`protoPayload` is missing")
        });
    };
    if !matches!(&*log.kind, "" | PAYLOAD) {
        return Err(Rejection::new(
            Reject::FormatUnknown,
            "expected `type.googleapis.com/google.cloud.audit.AuditLog` in `protoPayload.@type`",
        ));
    }
    if log.method_name.is_empty() && log.service_name.is_empty() {
        return Err(Rejection::new(
            Reject::FieldMissing,
            "`protoPayload.methodName` is missing, and so is `protoPayload.serviceName`",
        ));
    }
    let masker = ctx.masker;
    let mut e = AuditEvent::new(DATASET, "gcp");
    e.text(Column::KeytrailNormalizer, NORMALIZER);
    e.at(Timestamp::parse(&record.timestamp).or_else(|| Timestamp::parse(&record.receive_timestamp)));
    identify(&mut e, record);
    e.text(Column::EventKind, "event");
    e.maybe(Column::EventAction, log.method_name.get().map(|m| masker.scrub(m)));
    e.maybe(Column::EventProvider, log.service_name.get().map(|s| masker.scrub(s)));
    place(&mut e, record, log, ctx);
    who(&mut e, log, ctx);
    if let Some(metadata) = &log.request_metadata.0 {
        if let Some(ip) = metadata.caller_ip.get() {
            address::source(&mut e, ip, masker);
        }
        let agent = metadata.caller_supplied_user_agent.get();
        e.maybe(Column::UserAgentOriginal, agent.map(|a| masker.scrub(a)));
    }

    let service = Service::of(&log.service_name);
    let name = actions::short(&log.method_name);
    let request = if service == Service::Kubernetes { Request::of(&log.method_name) } else { None };
    let class = request.map_or_else(|| actions::class(service, name), Request::class);
    let class = keys::fill(&mut e, log, service, class, masker)?;
    let effect = request.map_or_else(|| actions::effect(name), Request::effect);
    classify_or(&mut e, class, effect);
    if let Some(request) = request {
        keys::object(&mut e, log, request, masker);
    }
    outcome(&mut e, record, log, ctx)?;
    Ok(e)
}

/// Frozen with `keytrail/uid/1`: the log's name is the scope, time and id as they are written the key.
fn identify<'a>(e: &mut AuditEvent<'a>, record: &Record<'a>) {
    let scope = record.log_name.get();
    if let (Some(log), Some(time), Some(id)) = (&scope, record.timestamp.get(), record.insert_id.get()) {
        e.text(Column::KeytrailScope, log.clone());
        e.identity.key = vec![time, id];
    }
    e.maybe(Column::EventId, record.insert_id.get());
    e.identity.scope = scope.unwrap_or_default();
}

/// Project, region, service, log and resources.
fn place<'a>(e: &mut AuditEvent<'a>, record: &Record<'a>, log: &AuditLog<'a>, ctx: &Context<'a>) {
    let masker = ctx.masker;
    e.text(Column::CloudProvider, "gcp");
    let name = log.service_name.get();
    let service = name.and_then(|n| slice(&n, |n| Some(n.strip_suffix(".googleapis.com").unwrap_or(n))));
    e.maybe(Column::CloudServiceName, service.map(|s| masker.scrub(s)));
    let nothing = Default::default();
    let labels = record.resource.0.as_ref().and_then(|r| r.labels.0.as_ref()).unwrap_or(&nothing);
    // `projects/<id>/logs/...`, and the same of organizations, folders and billing accounts.
    let log_name = record.log_name.get();
    let project =
        log_name.as_ref().and_then(|n| keys::member(n, "projects")).or_else(|| labels.project_id.get());
    let owner = log_name.as_ref().and_then(|n| slice(n, |n| n.split('/').nth(1)));
    e.maybe(Column::CloudAccountId, owner.or_else(|| project.clone()).map(|o| masker.scrub(o)));
    e.maybe(Column::CloudProjectId, project.map(|p| masker.scrub(p)));
    let kind = log_name.as_ref().and_then(|n| {
        slice(n, |n| {
            n.split_once(AUDIT_LOG)?.1.trim_start_matches("%2F").trim_start_matches('/').split('/').next()
        })
    });
    e.maybe(Column::EventCode, kind.map(|k| masker.scrub(k)));
    let locations = log.resource_location.0.as_ref().and_then(|l| l.current_locations.as_deref());
    let only = match locations {
        Some([one]) => one.get(),
        _ => None,
    };
    let named = || log.resource_name.get().and_then(|n| keys::member(&n, "locations"));
    let region = labels.location.get().or(only).or_else(named);
    e.maybe(Column::CloudRegion, region.map(|r| masker.scrub(r)));
    e.maybe(Column::OrchestratorClusterName, labels.cluster_name.get().map(|c| masker.scrub(c)));
    let asked = log.authorization_info.iter().flatten().filter_map(|a| a.0.as_ref()?.resource.get());
    let resources = log.resource_name.get().into_iter().chain(asked);
    add_all(e, Column::KeytrailResourceIds, resources.map(|r| masker.scrub(r)));
}

/// The caller: the person or workload behind a service account where somebody acts as one.
fn who<'a>(e: &mut AuditEvent<'a>, log: &AuditLog<'a>, ctx: &Context<'a>) {
    let masker = ctx.masker;
    let nothing = Authentication::default();
    let who = log.authentication_info.0.as_ref().unwrap_or(&nothing);
    let subject = who.principal_subject.get();
    let caller = who.principal_email.get().or_else(|| subject.clone());
    let mut chain = who.delegation.iter().flatten().filter_map(|d| {
        let delegation = d.0.as_ref()?;
        let email = delegation.first_party.0.as_ref().and_then(|p| p.principal_email.get());
        email.or_else(|| delegation.principal_subject.get())
    });
    let first = chain.next();
    // A service of Google's that asks for a workload's tokens is nobody who acts as it.
    let (behind, agent) = match first {
        Some(agent) if is_agent(&agent) => (None, Some(agent)),
        first => (first, None),
    };
    let (name, effective) = match behind {
        Some(behind) => (Some(behind), caller),
        None => (caller, None),
    };
    let kind = subject.as_ref().and_then(|s| slice(s, |s| s.split_once(':').map(|(kind, _)| kind)));
    e.maybe(Column::KeytrailActorType, kind.map(|k| masker.scrub(k)));
    e.maybe(Column::KeytrailActorInvokedBy, agent.map(|a| masker.scrub(a)));
    let key = who.service_account_key_name.get();
    e.maybe(
        Column::KeytrailActorAccessKeyId,
        key.and_then(|k| keys::member(&k, "keys")).map(|k| masker.scrub(k)),
    );
    for (column, value) in
        [(Column::UserId, subject), (Column::UserName, name), (Column::UserEffectiveName, effective)]
    {
        if let Some(value) = value.map(|v| masker.scrub(v)) {
            e.add(Column::RelatedUser, value.clone());
            e.text(column, value);
        }
    }
    add_all(e, Column::RelatedUser, chain.map(|c| masker.scrub(c)));
}

/// `service-<project number>@...`: a name that only Google's own services have.
fn is_agent(email: &str) -> bool {
    email
        .strip_prefix("service-")
        .and_then(|rest| rest.split_once('@'))
        .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fields! {
    /// An item of `status.details`.
    struct Detail<'a> {
        #[serde(borrow)]
        reason: Open<'a> = "reason",
    }
}

/// What came of the call, and what the policy said.
fn outcome<'a>(
    e: &mut AuditEvent<'a>,
    record: &Record<'a>,
    log: &AuditLog<'a>,
    ctx: &Context<'a>,
) -> Result<(), Rejection> {
    let masker = ctx.masker;
    let operation = record.operation.0.as_ref();
    let flag = |of: fn(&record::Operation<'_>) -> Option<bool>| operation.and_then(of) == Some(true);
    let (first, last) = (flag(|o| o.first.0), flag(|o| o.last.0));
    e.maybe(Column::KeytrailOperationId, operation.and_then(|o| o.id.get()).map(|id| masker.scrub(id)));
    match (first, last) {
        (true, false) => e.text(Column::KeytrailPhase, "first"),
        (false, true) => e.text(Column::KeytrailPhase, "last"),
        _ => {}
    }
    let status = log.status.0.as_ref();
    let code = status.and_then(|s| number(s.code)).unwrap_or_default();
    let outcome = match (code != 0, first && !last) {
        (true, _) => "failure",
        // The operation has begun: its last entry says how it ended.
        (false, true) => "unknown",
        (false, false) => "success",
    };
    e.text(Column::EventOutcome, outcome);
    if let Some(status) = status.filter(|_| code != 0) {
        e.text(Column::ErrorCode, code.to_string());
        e.maybe(Column::ErrorMessage, status.message.get().map(|m| masker.scrub(m)));
        for detail in items(status.details) {
            let detail: Detail<'a> = opened("protoPayload.status.details", detail)?;
            if let Some(reason) = text(detail.reason) {
                e.text(Column::EventReason, masker.scrub(reason));
                break;
            }
        }
    }
    let asked = || log.authorization_info.iter().flatten().filter_map(|a| a.0.as_ref());
    let decision = match (asked().next(), asked().any(|a| a.granted.0 == Some(true))) {
        _ if code == PERMISSION_DENIED => Some("deny"),
        (Some(_), true) => Some("allow"),
        (Some(_), false) => Some("deny"),
        (None, _) => None,
    };
    e.maybe(Column::KeytrailPolicyDecision, decision);
    if decision == Some("deny") {
        e.add(Column::EventType, "denied");
    }
    let mut kinds = asked().map(|a| &*a.permission_type).filter(|k| !k.is_empty()).peekable();
    if kinds.peek().is_some() {
        e.flag(Column::KeytrailReadOnly, kinds.all(|k| matches!(k, "ADMIN_READ" | "DATA_READ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_of_google_are_told_from_accounts() {
        assert!(is_agent("service-1234567890@compute-system.iam.gserviceaccount.com"));
        for other in ["service-@x", "service-one@p.iam.gserviceaccount.com", "ann@example.com", "service-12"]
        {
            assert!(!is_agent(other), "{other}");
        }
    }
}
