//! Audit events of Kubernetes API servers.
//!
//! What it is: one `audit.k8s.io` Event, which is one stage of one request, to one audit event; the
//! stages of a request share `auditID` (`keytrail.operation.id`). What it is not: it joins no stages, and
//! it reads the values of no Secret. In: a JSON object as the log backend writes it on a line and the
//! webhook backend sends it in an EventList, whose items may lack `kind` and `apiVersion`. Out:
//! [`AuditEvent`]s of `kubernetes.audit`. `schemas/mappings/kubernetes.md` is the mapping in words.
//!
//! Source: "Auditing" of the Kubernetes documentation and its reference of `audit.k8s.io/v1`.

pub(crate) mod actions;
mod objects;
mod record;

use keytrail_model::{ActionClass, AuditEvent, Column, Reject, Rejection, Timestamp};

use crate::category::{Effect, classify_or};
use crate::lists::add_all;
use crate::value::{items, number, opened, text};
use crate::{Context, address, walk};
pub(crate) use record::Record;
use record::{Extra, Status};

/// `event.dataset` of these events.
pub const DATASET: &str = "kubernetes.audit";

/// `keytrail.normalizer`: raised with every change of what a record becomes.
pub const NORMALIZER: &str = "kubernetes/1";

/// API group of audit events, with the slash before its version.
const API: &str = "audit.k8s.io/";

const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

/// Whether a record's content looks like one of this source: an Event of the audit API, or what is left
/// of one as an item of a list, an `auditID` beside a known `stage`. Objects of other APIs, the Events
/// that `kubectl get events` shows among them, are not claimed.
pub fn recognises(record: &str) -> bool {
    let (mut api, mut event, mut id, mut stage, mut foreign) = (false, false, false, false, false);
    walk::top_keys(record, |key, value| {
        let value = value.trim_ascii_start();
        let text = value.strip_prefix('"').unwrap_or_default();
        match key {
            "apiVersion" => (api, foreign) = (text.starts_with(API), foreign || !text.starts_with(API)),
            "kind" => {
                event = text.starts_with("Event\"");
                foreign |= !event;
            }
            "auditID" => id = value.starts_with('"'),
            "stage" => {
                stage = STAGES.iter().any(|s| text.strip_prefix(s).is_some_and(|t| t.starts_with('"')))
            }
            "eventVersion" => foreign = true,
            _ => {}
        }
        !foreign
    });
    !foreign && ((api && event) || (id && stage))
}

/// The event of one record.
///
/// Refused are an object of another API or kind, a record without `stage`, and one with neither `verb`
/// nor `requestURI`. A time that is missing or unreadable leaves the event undated.
pub(crate) fn normalize<'a>(record: &Record<'a>, ctx: &Context<'a>) -> Result<AuditEvent<'a>, Rejection> {
    if !record.api_version.is_empty() && !record.api_version.starts_with(API) {
        return Err(Rejection::new(
            Reject::FormatUnknown,
            "expected `audit.k8s.io/` and a version in `apiVersion`",
        ));
    }
    if !matches!(&*record.kind, "" | "Event") {
        return Err(Rejection::new(Reject::FormatUnknown, "expected `Event` in `kind`"));
    }
    if record.stage.is_empty() {
        return Err(Rejection::new(Reject::FieldMissing, "`stage` is missing"));
    }
    if record.verb.is_empty() && record.request_uri.is_empty() {
        return Err(Rejection::new(Reject::FieldMissing, "`verb` is missing, and so is `requestURI`"));
    }
    let masker = ctx.masker;
    let mut e = AuditEvent::new(DATASET, "kubernetes");
    e.text(Column::KeytrailNormalizer, NORMALIZER);
    when(&mut e, record);
    // Frozen with `keytrail/uid/1`. No record names its cluster: the scope is empty, and nothing is judged.
    if let Some(id) = record.audit_id.get() {
        e.text(Column::EventId, masker.scrub(id.clone()));
        e.text(Column::KeytrailOperationId, masker.scrub(id.clone()));
        e.identity.key = vec![id, record.stage.0.clone()];
    }
    e.text(Column::EventKind, "event");
    e.maybe(Column::EventCode, record.level.get().map(|l| masker.scrub(l)));
    e.text(Column::KeytrailPhase, masker.scrub(record.stage.0.clone()));
    e.maybe(Column::EventAction, record.verb.get().map(|v| masker.scrub(v)));
    who(&mut e, record, ctx)?;
    whence(&mut e, record, ctx);

    let nothing = Default::default();
    let target = record.object_ref.0.as_ref().unwrap_or(&nothing);
    let (verb, sub) = (&*record.verb, &*target.subresource);
    let class = actions::class(&target.api_group, &target.resource, sub, verb);
    if !verb.is_empty() {
        e.flag(Column::KeytrailReadOnly, actions::reads(verb, sub));
    }
    let effect = actions::effect(verb, sub);
    classify_or(&mut e, class, effect);
    if effect == Effect::Delete && class.is_some_and(changes) {
        e.add(Column::EventType, "deletion");
    }
    objects::fill(&mut e, record, target, class, masker)?;
    outcome(&mut e, record, ctx);
    Ok(e)
}

/// Whether a class says of a change no more than that there is one.
fn changes(class: ActionClass) -> bool {
    use ActionClass as C;
    matches!(class, C::PolicyChange | C::Grant | C::Administer | C::AuditControl)
}

/// The stage's own time; before v1 the one of the request. The duration is from receipt to the stage.
fn when(e: &mut AuditEvent<'_>, record: &Record<'_>) {
    let received = Timestamp::parse(&record.request_received_timestamp);
    let reached = Timestamp::parse(&record.stage_timestamp);
    let older = || {
        let created = record.metadata.0.as_ref().and_then(|m| Timestamp::parse(&m.creation_timestamp));
        Timestamp::parse(&record.timestamp).or(created)
    };
    e.at(reached.or(received).or_else(older));
    if let (Some(from), Some(to)) = (received, reached)
        && &*record.stage != "RequestReceived"
        && to >= from
    {
        e.int(Column::EventDuration, to.0.saturating_sub(from.0).saturating_mul(1_000));
    }
}

/// The caller, and who the call was made as.
fn who<'a>(e: &mut AuditEvent<'a>, record: &Record<'a>, ctx: &Context<'a>) -> Result<(), Rejection> {
    let masker = ctx.masker;
    if let Some(user) = &record.user.0 {
        e.maybe(Column::UserName, user.username.get().map(|n| masker.scrub(n)));
        e.maybe(Column::UserId, user.uid.get().map(|n| masker.scrub(n)));
        if !user.username.is_empty() {
            e.text(Column::KeytrailActorType, kind(&user.username));
        }
        let groups = user.groups.iter().flatten().map(|g| masker.scrub(g.0.clone()));
        add_all(e, Column::KeytrailActorPolicies, groups);
        let extra: Extra<'_> = opened("user.extra", user.extra)?;
        for (column, list) in [
            (Column::KeytrailActorArn, extra.arn),
            (Column::KeytrailActorAccessKeyId, extra.access_key_id.or(extra.credential_id)),
            (Column::KeytrailActorSession, extra.session_name),
        ] {
            e.maybe(column, items(list).into_iter().find_map(text).map(|t| masker.scrub(t)));
        }
    }
    let effective = record.impersonated_user.0.as_ref().and_then(|u| u.username.get());
    e.maybe(Column::UserEffectiveName, effective.map(|n| masker.scrub(n)));
    for column in [Column::UserId, Column::UserName, Column::UserEffectiveName] {
        if let Some(user) = e.get_text(column).map(str::to_owned) {
            e.add(Column::RelatedUser, user);
        }
    }
    Ok(())
}

/// The kind of caller that a user name tells ("Authenticating" of the documentation).
fn kind(name: &str) -> &'static str {
    match name.strip_prefix("system:") {
        Some(rest) if rest.starts_with("serviceaccount:") => "ServiceAccount",
        Some(rest) if rest.starts_with("node:") => "Node",
        Some("anonymous") => "Anonymous",
        Some(_) => "System",
        None => "User",
    }
}

/// Where the request came from. All addresses but the last are what the client and proxies claim; the
/// first is the client's.
fn whence<'a>(e: &mut AuditEvent<'a>, record: &Record<'a>, ctx: &Context<'a>) {
    let ips = record.source_ips.as_deref().unwrap_or_default();
    if let Some(first) = ips.iter().find_map(|ip| ip.get()) {
        address::source(e, first, ctx.masker);
    }
    let all = ips.iter().filter_map(|ip| address::parse(ip)).map(|(ip, _)| ip.to_string().into());
    add_all(e, Column::RelatedIp, all);
    e.maybe(Column::UserAgentOriginal, record.user_agent.get().map(|a| ctx.masker.scrub(a)));
}

/// What came of the request, as far as this stage tells.
fn outcome<'a>(e: &mut AuditEvent<'a>, record: &Record<'a>, ctx: &Context<'a>) {
    let masker = ctx.masker;
    let no_status = Status::default();
    let status = record.response_status.0.as_ref().unwrap_or(&no_status);
    let code = number(status.code);
    let no_annotations = Default::default();
    let said = record.annotations.0.as_ref().unwrap_or(&no_annotations);
    let decision = match &*said.decision {
        "allow" => Some("allow"),
        "forbid" | "deny" => Some("deny"),
        _ => None,
    };
    e.maybe(Column::KeytrailPolicyDecision, decision);
    e.maybe(Column::EventReason, said.reason.get().map(|r| masker.scrub(r)));
    let failed = &*record.stage == "Panic"
        || decision == Some("deny")
        || &*status.status == "Failure"
        || code.is_some_and(|c| c >= 400);
    let outcome = match (failed, code) {
        (true, _) => "failure",
        // What was received has no outcome yet, and an answer without a code tells none.
        (false, None) => "unknown",
        (false, Some(_)) => "success",
    };
    e.text(Column::EventOutcome, outcome);
    if failed {
        let code_text = || code.filter(|c| *c >= 400).map(|c| c.to_string().into());
        e.maybe(Column::ErrorCode, status.reason.get().map(|r| masker.scrub(r)).or_else(code_text));
        e.maybe(Column::ErrorMessage, status.message.get().map(|m| masker.scrub(m)));
    }
    if decision == Some("deny") || matches!(code, Some(401 | 403)) {
        e.add(Column::EventType, "denied");
    }
}
