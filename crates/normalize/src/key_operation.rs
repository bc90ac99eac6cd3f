//! Key operation events, version 1: what the sidecar of the HSM-fronting service records.
//!
//! What it is: one record of a source's chain (INTEGRITY section 2) to one event. What it is not: it
//! follows no chain and joins no intent to its outcome; `verify` does, over the archived bytes.
//! In: a JSON object of `schemas/key-operation.v1.schema.json`. Out: [`AuditEvent`]s of
//! `keytrail.key_operation`. `schemas/mappings/key-operation.md` is the mapping in words.
//!
//! The boundary is closed: an unknown field, null, or a value of another form than the schema's refuses
//! the record. So no plaintext, ciphertext, signature, PIN or key material can pass as an extra field.

use std::borrow::Cow;

use keytrail_model::key_operation::{
    self, Actor, Answer, Count, Deny, Envelope, EpochClose, EpochOpen, Gap, Head, Heartbeat, Hex32, Hsm, Id,
    Intent, Key, Mechanism, Operation, Outcome, Policy, Text, Timings,
};
use keytrail_model::{AuditEvent, Column, Identity, Reject, Rejection, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::category::classify;
use crate::sequence::Position;
use crate::{Context, Format, json_rejection};

/// `event.dataset` of these events.
pub const DATASET: &str = "keytrail.key_operation";

/// Normalizer and version, `keytrail.normalizer`.
pub const NORMALIZER: &str = "key-operation/1";

/// The version of the envelope that this module reads.
pub(crate) const VERSION: i64 = 1;

/// Whether a record's content looks like one of this source: an envelope with the fields of a chain.
pub fn recognises(record: &str) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        v: Option<IgnoredAny>,
        source: Option<IgnoredAny>,
        epoch: Option<IgnoredAny>,
        seq: Option<IgnoredAny>,
        prev: Option<IgnoredAny>,
        phase: Option<IgnoredAny>,
    }
    serde_json::from_str::<Probe>(record)
        .is_ok_and(|p| [p.v, p.source, p.epoch, p.seq, p.prev, p.phase].iter().all(Option::is_some))
}

/// The event of one record. Refused is whatever the schema does not define.
pub fn normalize<'a>(json: &'a str, ctx: &Context<'a>) -> Result<AuditEvent<'a>, Rejection> {
    let envelope: Envelope<'a> = serde_json::from_str(json).map_err(|e| refusal(&e, ""))?;
    if envelope.v.0 != VERSION {
        return Err(Rejection::new(Reject::FormatUnknown, "expected 1 in `v`: no other version is read"));
    }
    let phase = envelope.phase.0;
    let mut e = AuditEvent::new(DATASET, "keytrail");
    e.text(Column::KeytrailNormalizer, NORMALIZER);
    e.at(Timestamp::parse(&envelope.time.0));
    e.text(Column::EventKind, "event");

    let operation = match phase.as_ref() {
        "intent" | "outcome" | "deny" => true,
        "epoch_open" | "heartbeat" | "head" | "gap" | "epoch_close" => false,
        _ => {
            return Err(Rejection::new(
                Reject::FieldType,
                "expected `epoch_open`, `intent`, `outcome`, `deny`, `heartbeat`, `head`, `gap` or \
                 `epoch_close` in `phase`",
            ));
        }
    };
    if operation != envelope.op_id.is_some() {
        return Err(match operation {
            true => Rejection::new(Reject::FieldMissing, "`op_id` is missing"),
            false => Rejection::new(Reject::FieldType, "expected no `op_id`: the record is of no operation"),
        });
    }
    match phase.as_ref() {
        "intent" => intent(&mut e, body(envelope.body)?, ctx),
        "outcome" => outcome(&mut e, body(envelope.body)?, ctx)?,
        "deny" => deny(&mut e, body(envelope.body)?, ctx)?,
        "epoch_open" => {
            let open: EpochOpen<'a> = body(envelope.body)?;
            of_source(&mut e, "event", "start");
            hsm(&mut e, open.hsm, ctx);
        }
        "heartbeat" => {
            body::<Heartbeat<'a>>(envelope.body)?;
            of_source(&mut e, "state", "info");
        }
        "head" => {
            body::<Head<'a>>(envelope.body)?;
            of_source(&mut e, "state", "info");
        }
        "gap" => {
            let gap: Gap<'a> = body(envelope.body)?;
            of_source(&mut e, "event", "info");
            e.text(Column::EventReason, ctx.masker.scrub(gap.cause.0));
        }
        _ => {
            let close: EpochClose<'a> = body(envelope.body)?;
            of_source(&mut e, "event", "end");
            e.text(Column::EventReason, ctx.masker.scrub(close.reason.0));
        }
    }
    if !operation {
        e.text(Column::EventAction, phase.clone());
    }
    e.text(Column::EventCode, phase.clone());
    e.text(Column::KeytrailPhase, phase);
    e.maybe(Column::KeytrailOperationId, envelope.op_id);

    let (epoch, seq, source) = (envelope.epoch.0, envelope.seq.0, envelope.source.0);
    e.text(Column::EventId, format!("{epoch}/{seq}"));
    e.int(Column::EventSequence, seq);
    e.int(Column::KeytrailLedgerEpoch, epoch);
    e.int(Column::KeytrailLedgerSeq, seq);
    e.text(Column::KeytrailLedgerPrev, envelope.prev);
    e.text(Column::KeytrailLedgerSource, source.clone());
    e.text(Column::KeytrailScope, source.clone());
    e.identity = Identity { scope: source, key: vec![epoch.to_string().into(), seq.to_string().into()] };
    Ok(e)
}

/// Where a record says that it stands in its chain, whatever else is wrong with it.
pub(crate) fn position(record: &str) -> Option<Position<'_>> {
    #[derive(Deserialize)]
    struct Place<'a> {
        #[serde(borrow)]
        source: Id<'a>,
        epoch: Count,
        seq: Count,
        #[serde(borrow)]
        prev: Option<Hex32<'a>>,
    }
    let place: Place<'_> = serde_json::from_str(record).ok()?;
    let prev = place.prev.map_or(Cow::Borrowed(""), Cow::from);
    let (format, source) = (Format::KeyOperation, place.source.0);
    Some(Position { format, source, epoch: place.epoch.0, seq: place.seq.0, prev, leaf: None })
}

/// Reads the body of a phase.
fn body<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Rejection> {
    serde_json::from_str(raw.get()).map_err(|e| refusal(&e, " of `body`"))
}

/// As [`json_rejection`], and never the name of an unknown field: it is not ours to repeat.
fn refusal(error: &serde_json::Error, of: &str) -> Rejection {
    let text = error.to_string();
    if text.starts_with("unknown field") {
        let place = format!("line {} column {}{of}", error.line(), error.column());
        return Rejection::new(
            Reject::FieldType,
            format!("a field that the schema does not define, at {place}"),
        );
    }
    let mut rejection = json_rejection(error);
    rejection.reason.push_str(of);
    rejection
}

/// A record of the source itself, not of an operation: its process starts, lives, ends.
fn of_source(e: &mut AuditEvent<'_>, kind: &'static str, type_: &'static str) {
    e.text(Column::EventKind, kind);
    e.add(Column::EventCategory, "process");
    e.add(Column::EventType, type_);
}

fn intent<'a>(e: &mut AuditEvent<'a>, b: Intent<'a>, ctx: &Context<'a>) {
    operation(e, b.operation, b.mechanism, b.count.map(|c| c.0));
    // What was meant, not what came of it.
    e.text(Column::EventOutcome, "unknown");
    actor(e, b.actor, ctx);
    policy(e, Some(b.policy), ctx);
    key(e, b.key, b.target_key_id, ctx);
    hsm(e, b.hsm, ctx);
    timings(e, b.timings);
}

fn outcome<'a>(e: &mut AuditEvent<'a>, b: Outcome<'a>, ctx: &Context<'a>) -> Result<(), Rejection> {
    operation(e, b.operation, b.mechanism, b.count.map(|c| c.0));
    match b.result {
        Answer { rv: Some(rv), unknown: None, .. } if rv.0 == "CKR_OK" => {
            e.text(Column::EventOutcome, "success")
        }
        Answer { rv: Some(rv), unknown: None, .. } => {
            e.text(Column::EventOutcome, "failure");
            e.text(Column::ErrorCode, rv);
        }
        Answer { rv: None, unknown: Some(why), .. } => {
            e.text(Column::EventOutcome, "unknown");
            e.text(Column::EventReason, ctx.masker.scrub(why.0));
        }
        _ => {
            return Err(Rejection::new(
                Reject::FieldType,
                "expected either `rv` or `unknown` in `body.result`",
            ));
        }
    }
    actor(e, b.actor, ctx);
    policy(e, b.policy, ctx);
    key(e, b.key, b.target_key_id, ctx);
    hsm(e, b.hsm, ctx);
    timings(e, b.timings);
    Ok(())
}

fn deny<'a>(e: &mut AuditEvent<'a>, b: Deny<'a>, ctx: &Context<'a>) -> Result<(), Rejection> {
    if b.policy.decision.0 != "deny" {
        return Err(Rejection::new(Reject::FieldType, "expected `deny` in `body.policy.decision`"));
    }
    operation(e, b.operation, b.mechanism, b.count.map(|c| c.0));
    e.add(Column::EventType, "denied");
    e.text(Column::EventOutcome, "failure");
    e.text(Column::EventReason, ctx.masker.scrub(b.reason.0));
    actor(e, b.actor, ctx);
    policy(e, Some(b.policy), ctx);
    key(e, b.key, b.target_key_id, ctx);
    if let Some(b) = b.hsm {
        hsm(e, b, ctx);
    }
    timings(e, b.timings);
    Ok(())
}

fn operation<'a>(
    e: &mut AuditEvent<'a>,
    operation: Operation<'a>,
    mechanism: Option<Mechanism<'a>>,
    count: Option<i64>,
) {
    classify(e, key_operation::class(&operation.0));
    e.text(Column::EventAction, operation);
    e.maybe(Column::KeytrailMechanism, mechanism);
    if let Some(count) = count {
        e.int(Column::KeytrailBatchCount, count);
    }
}

fn actor<'a>(e: &mut AuditEvent<'a>, actor: Actor<'a>, ctx: &Context<'a>) {
    let id = ctx.masker.scrub(actor.id.0);
    let name = actor.name.map_or_else(|| id.clone(), |n| n.0);
    e.add(Column::RelatedUser, name.clone());
    e.add(Column::RelatedUser, id.clone());
    e.text(Column::UserName, name);
    e.text(Column::UserId, id);
    e.text(Column::KeytrailActorType, actor.r#type);
    e.maybe(Column::KeytrailActorSession, actor.session);
    e.maybe(Column::ServiceName, actor.service.map(|s| ctx.masker.scrub(s.0)));
    if let Some(ip) = actor.ip.map(|ip| ip.0) {
        e.add(Column::RelatedIp, ip.clone());
        e.text(Column::SourceAddress, ip.clone());
        e.text(Column::SourceIp, ip);
    }
    if let Some(port) = actor.port {
        e.int(Column::SourcePort, port.0);
    }
}

fn policy<'a>(e: &mut AuditEvent<'a>, policy: Option<Policy<'a>>, ctx: &Context<'a>) {
    let Some(policy) = policy else { return };
    e.text(Column::KeytrailPolicyDecision, policy.decision);
    for id in policy.ids.into_iter().flat_map(|ids| ids.0) {
        e.add(Column::KeytrailPolicyIds, ctx.masker.scrub(id.0));
    }
    for person in policy.requester.into_iter().chain(policy.approvers.into_iter().flat_map(|a| a.0)) {
        e.add(Column::RelatedUser, ctx.masker.scrub(person.0));
    }
}

fn key<'a>(e: &mut AuditEvent<'a>, key: Option<Key<'a>>, target: Option<Text<'a>>, ctx: &Context<'a>) {
    let scrubbed = |t: Option<Text<'a>>| t.map(|t| ctx.masker.scrub(t.0));
    if let Some(key) = key {
        let id: Cow<'a, str> = ctx.masker.scrub(key.id.0);
        e.add(Column::KeytrailResourceIds, id.clone());
        e.text(Column::KeytrailKeyId, id);
        e.maybe(Column::KeytrailKeyAlias, scrubbed(key.label));
        e.maybe(Column::KeytrailKeyVersion, scrubbed(key.version));
        e.maybe(Column::KeytrailKeyAlgorithm, scrubbed(key.algorithm));
        e.maybe(Column::KeytrailKeyState, key.state);
        e.maybe(Column::KeytrailKeyUsage, scrubbed(key.usage));
        e.maybe(Column::KeytrailKeyOrigin, key.origin);
        e.maybe(Column::KeytrailKeyStore, scrubbed(key.store));
    }
    if let Some(target) = scrubbed(target) {
        e.add(Column::KeytrailResourceIds, target.clone());
        e.text(Column::KeytrailKeyTargetId, target);
    }
}

fn hsm<'a>(e: &mut AuditEvent<'a>, hsm: Hsm<'a>, ctx: &Context<'a>) {
    e.text(Column::KeytrailHsmId, ctx.masker.scrub(hsm.id.0));
    e.maybe(Column::KeytrailHsmSerial, hsm.serial.map(|s| ctx.masker.scrub(s.0)));
    e.maybe(Column::KeytrailHsmFirmware, hsm.firmware.map(|f| ctx.masker.scrub(f.0)));
    if let Some(slot) = hsm.slot {
        e.int(Column::KeytrailHsmSlot, slot.0);
    }
}

fn timings(e: &mut AuditEvent<'_>, timings: Option<Timings<'_>>) {
    if let Some(timings) = timings {
        e.int(Column::EventDuration, timings.total_ns.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Masker};

    const HEARTBEAT: &str = r#"{"v":1,"source":"hsm-a/p0","epoch":7,"seq":2,"prev":"0000000000000000000000000000000000000000000000000000000000000000","phase":"heartbeat","time":"2026-11-21T09:30:45Z","mono_ns":5,"body":{"in_flight":0,"unshipped_records":0,"unshipped_bytes":0,"spool_free_bytes":9}}"#;

    fn of(json: &str) -> Result<(Identity<'_>, Option<String>), Rejection> {
        let masker = Masker::new(&[7; 32]);
        let ctx = Context { now: Timestamp(i64::MAX), masker: &masker, declared: None };
        // The context lives as long as the record in production; here the event is taken apart at once.
        normalize(json, &ctx).map(|e| {
            let scope = e.get_text(Column::KeytrailScope).map(str::to_owned);
            let key = e.identity.key.iter().map(|k| k.clone().into_owned().into()).collect();
            (Identity { scope: e.identity.scope.into_owned().into(), key }, scope)
        })
    }

    #[test]
    fn identity_is_source_epoch_and_seq() {
        let (identity, scope) = of(HEARTBEAT).unwrap();
        assert_eq!((identity.scope.as_ref(), scope.as_deref()), ("hsm-a/p0", Some("hsm-a/p0")));
        assert_eq!(identity.key, ["7", "2"]);
    }

    #[test]
    fn an_unknown_field_is_refused_and_not_repeated() {
        let with = HEARTBEAT.replace("\"in_flight\"", "\"4111111111111111\":1,\"in_flight\"");
        let refused = of(&with).unwrap_err();
        assert_eq!(refused.code, Reject::FieldType);
        assert_eq!(refused.reason, "a field that the schema does not define, at line 1 column 19 of `body`");
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        let refused = of(&HEARTBEAT.replace("\"seq\":2", "\"seq\":18446744073709551615")).unwrap_err();
        assert_eq!(refused.code, Reject::FieldType);
        assert!(
            refused.reason.contains("a whole number from 0 to 9223372036854775807"),
            "{}",
            refused.reason
        );
    }

    #[test]
    fn the_envelope_is_recognised() {
        assert_eq!(Format::detect(HEARTBEAT), Some(Format::KeyOperation));
        assert!(!recognises(r#"{"v":1,"source":"a"}"#));
        assert!(!recognises("[]"));
    }
}
