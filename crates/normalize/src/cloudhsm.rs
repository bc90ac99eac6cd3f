//! AWS CloudHSM: the audit log of an HSM.
//!
//! What it is: one block of the log (`Time: ...`, `Sequence No : 0x..`, `Opcode : CN_...`) to one event.
//! What it is not: it joins nothing. Key commands name the session, not its user, and gaps in the
//! sequence are for who sees a whole log: `keytrail.hsm.id`, `keytrail.hsm.reboot_counter` and
//! `event.sequence` are there for that.
//! In: a text block as CloudWatch Logs holds it, and what the container around it said. Out:
//! [`AuditEvent`]s of `aws.cloudhsm`. `schemas/mappings/cloudhsm.md` is the mapping in words.
//!
//! Source: "Interpreting AWS CloudHSM audit logs" and "AWS CloudHSM audit log reference" of the AWS CloudHSM user guide.

mod opcode;

use std::borrow::Cow;

use keytrail_model::row::text;
use keytrail_model::{AuditEvent, Column, Reject, Rejection, Timestamp};

use crate::Context;
use crate::containers::Origin;
use opcode::{Effect, effect};

/// `event.dataset` of these events.
pub const DATASET: &str = "aws.cloudhsm";

/// Normalizer and version, `keytrail.normalizer`.
pub const NORMALIZER: &str = "cloudhsm/1";

/// The last microsecond of the year 9999.
const LAST_MICROS: i64 = 253_402_300_799_999_999;

/// Log groups of clusters: what follows is the cluster's id.
const LOG_GROUP: &str = "/aws/cloudhsm/";

/// Whether a record looks like a block of this log: a first line `Time: `, and lines with a sequence
/// number and an opcode of the HSM's.
pub fn recognises(record: &[u8]) -> bool {
    let Some(rest) = record.strip_prefix(b"Time:") else { return false };
    let (mut sequence, mut opcode) = (false, false);
    for (name, value) in rest.split(|b| *b == b'\n').filter_map(field) {
        sequence |= name == b"Sequence No";
        opcode |= name == b"Opcode" && value.starts_with(b"CN_");
    }
    sequence && opcode
}

/// A line's name and value. The name holds no colon.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
}

/// The lines that have a meaning here.
#[derive(Default)]
struct Block<'a> {
    time: Option<&'a str>,
    sequence: Option<&'a str>,
    reboot_counter: Option<&'a str>,
    opcode: Option<&'a str>,
    session: Option<&'a str>,
    response: Option<&'a str>,
    log_type: Option<&'a str>,
    user_name: Option<&'a str>,
    user_type: Option<&'a str>,
    secret_key: Option<&'a str>,
    public_key: Option<&'a str>,
}

impl<'a> Block<'a> {
    fn read(record: &'a str) -> Result<Self, Rejection> {
        let mut block = Self::default();
        for line in record.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let name = name.trim_ascii();
            let place = match name {
                "Time" => &mut block.time,
                "Sequence No" => &mut block.sequence,
                "Reboot counter" => &mut block.reboot_counter,
                "Opcode" => &mut block.opcode,
                "Session Handle" => &mut block.session,
                "Response" => &mut block.response,
                "Log type" => &mut block.log_type,
                "User Name" => &mut block.user_name,
                "User Type" => &mut block.user_type,
                "Priv/Secret Key Handle" => &mut block.secret_key,
                "Public Key Handle" => &mut block.public_key,
                _ => continue,
            };
            if place.replace(value.trim_ascii()).is_some() {
                return Err(Rejection::new(
                    Reject::RecordTorn,
                    format!("`{name}` stands twice: a record broke off and another one goes on behind it"),
                ));
            }
        }
        Ok(block)
    }
}

/// The event of one block.
///
/// Refused are blocks without `Sequence No`, `Reboot counter`, `Opcode` or `Response`, which every event
/// has, numbers that are none, and blocks in which a line stands twice. A time that is missing or
/// unreadable leaves the event undated.
pub(crate) fn normalize<'a>(
    record: &'a str,
    origin: &'a Origin<'_>,
    ctx: &Context<'a>,
) -> Result<AuditEvent<'a>, Rejection> {
    let block = Block::read(record)?;
    let sequence = number("Sequence No", block.sequence)?;
    let reboot_counter = number("Reboot counter", block.reboot_counter)?;
    let opcode = symbol(required("Opcode", block.opcode)?);
    let response = required("Response", block.response)?;
    let scrub = |text: &'a str| ctx.masker.scrub(text);

    let mut e = AuditEvent::new(DATASET, "aws");
    e.at(block.time.and_then(time));
    e.text(Column::KeytrailNormalizer, NORMALIZER);
    e.text(Column::EventKind, "event");
    e.text(Column::CloudProvider, "aws");
    e.text(Column::CloudServiceName, "cloudhsm");
    e.text(Column::EventAction, scrub(opcode));
    e.maybe(Column::EventCode, block.log_type.map(|t| scrub(symbol(t))));
    e.maybe(Column::KeytrailActorSession, block.session.map(scrub));
    let effect = effect(opcode);
    effect.classify(&mut e);
    outcome(&mut e, response, ctx);
    users(&mut e, &block, &effect, ctx);
    keys(&mut e, &block, ctx);

    e.int(Column::EventSequence, sequence);
    e.int(Column::KeytrailHsmRebootCounter, reboot_counter);
    // Frozen with `keytrail/uid/1`: both numbers in decimal.
    e.identity.key = vec![reboot_counter.to_string().into(), sequence.to_string().into()];
    e.text(Column::EventId, format!("{reboot_counter:#x}/{sequence:#x}"));
    place(&mut e, origin);
    Ok(e)
}

/// What the container says of the HSM. The numbers are one HSM's, so records are judged for conflicts
/// only where it is known; it is no part of the uid (ARCHITECTURE rule 4).
fn place<'a>(e: &mut AuditEvent<'a>, origin: &'a Origin<'_>) {
    let Some(cluster) = origin.log_group.strip_prefix(LOG_GROUP).filter(|id| is_id(id)) else { return };
    e.text(Column::KeytrailKeyStore, cluster);
    e.text(Column::CloudAccountId, &*origin.account);
    if let Some(hsm) = hsm_of(origin) {
        e.text(Column::KeytrailHsmId, hsm);
        e.text(Column::KeytrailScope, hsm);
    }
}

/// The HSM whose log a stream holds. Another stream of the group is named for the cluster: it holds none.
pub(crate) fn hsm_of<'a>(origin: &'a Origin<'_>) -> Option<&'a str> {
    let of_cluster = origin.log_group.strip_prefix(LOG_GROUP).is_some_and(is_id);
    (of_cluster && origin.log_stream.starts_with("hsm-") && is_id(&origin.log_stream))
        .then_some(&*origin.log_stream)
}

/// Reboot counter and sequence number of a block, whatever else is wrong with it.
pub(crate) fn numbers(record: &str) -> Option<(i64, i64)> {
    let block = Block::read(record).ok()?;
    let reboots = number("Reboot counter", block.reboot_counter).ok()?;
    Some((reboots, number("Sequence No", block.sequence).ok()?))
}

/// What [`place`] was given for a row.
pub(crate) fn origin(columns: &[u8]) -> Origin<'_> {
    let column = |column| text(columns, column).unwrap_or_default();
    let cluster = column(Column::KeytrailKeyStore);
    Origin {
        account: column(Column::CloudAccountId).into(),
        log_group: if cluster.is_empty() { "".into() } else { format!("{LOG_GROUP}{cluster}").into() },
        log_stream: column(Column::KeytrailHsmId).into(),
        envelope: "".into(),
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `Time: 12/19/17 21:01:17.140812, usecs:1513717277140812`, in UTC: microseconds since 1970 where they
/// are there, else the date.
fn time(value: &str) -> Option<Timestamp> {
    let (date, micros) = value.split_once(',').unwrap_or((value, ""));
    let micros = micros.trim_ascii().strip_prefix("usecs:").and_then(|m| m.trim_ascii().parse().ok());
    if let Some(micros) = micros.filter(|m| (0..=LAST_MICROS).contains(m)) {
        return Some(Timestamp(micros));
    }
    let (month, rest) = date.split_once('/')?;
    let (day, rest) = rest.split_once('/')?;
    let (year, time) = rest.split_once(' ')?;
    Timestamp::parse(&format!("20{year}-{month}-{day}T{time}Z"))
}

fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, Rejection> {
    let value = value.filter(|v| !v.is_empty());
    value.ok_or_else(|| Rejection::new(Reject::FieldMissing, format!("`{name}` is missing")))
}

fn number(name: &str, value: Option<&str>) -> Result<i64, Rejection> {
    let digits = required(name, value)?.strip_prefix("0x");
    let number = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    number.and_then(|d| i64::from_str_radix(d, 16).ok()).ok_or_else(|| {
        Rejection::new(
            Reject::FieldType,
            format!("expected a hexadecimal number up to `{:#x}` in `{name}`", i64::MAX),
        )
    })
}

/// `CN_LOGIN` of `CN_LOGIN (0xd)`.
fn symbol(value: &str) -> &str {
    value.split('(').next().unwrap_or(value).trim_ascii()
}

/// `0:HSM Return: SUCCESS`, else the code of an error and its text.
fn outcome<'a>(e: &mut AuditEvent<'a>, response: &'a str, ctx: &Context<'a>) {
    let (code, message) = response.split_once(':').unwrap_or((response, ""));
    let (code, message) = (code.trim_ascii(), message.trim_ascii());
    let is_code = !code.is_empty() && code.bytes().all(|b| b.is_ascii_digit());
    let (code, message) = if is_code { (code, message) } else { ("", response) };
    if code == "0" {
        e.text(Column::EventOutcome, "success");
        return;
    }
    e.text(Column::EventOutcome, "failure");
    e.text(Column::ErrorCode, code);
    e.text(Column::ErrorMessage, ctx.masker.scrub(message));
}

/// Who logged in or out, else the user that was acted on.
fn users<'a>(e: &mut AuditEvent<'a>, block: &Block<'a>, effect: &Effect, ctx: &Context<'a>) {
    let name: Option<Cow<'a, str>> = block.user_name.map(|n| ctx.masker.scrub(n));
    if let Some(name) = &name {
        e.add(Column::RelatedUser, name.clone());
    }
    if effect.is_of_user() {
        e.maybe(Column::UserTargetName, name);
    } else {
        e.maybe(Column::UserName, name);
        e.maybe(Column::KeytrailActorType, block.user_type.map(|t| ctx.masker.scrub(symbol(t))));
    }
}

/// Handles of the keys; 0 stands for none.
fn keys<'a>(e: &mut AuditEvent<'a>, block: &Block<'a>, ctx: &Context<'a>) {
    let handles = [block.secret_key, block.public_key].into_iter().flatten();
    let handles: Vec<_> =
        handles.filter(|h| !h.is_empty() && *h != "0").map(|h| ctx.masker.scrub(h)).collect();
    e.maybe(Column::KeytrailKeyId, handles.first().cloned());
    for handle in handles {
        e.add(Column::KeytrailResourceIds, handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let expected = Timestamp::parse("2017-12-19T21:01:17.140812Z");
        assert_eq!(time("12/19/17 21:01:17.140812, usecs:1513717277140812"), expected);
        assert_eq!(time("12/19/17 21:01:17.140812"), expected);
        assert_eq!(time("12/19/17 21:01:17.140812, usecs:x"), expected);
        assert_eq!(time("12/19/17 21:01:17.140812, usecs:-9223372036854775808"), expected);
        for text in ["", "now", "13/45/17 21:01:17", "12/19", "usecs:1", "12/19/2017 21:01:17"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_hexadecimal() {
        assert_eq!(number("n", Some("0xe8")).unwrap(), 232);
        for text in ["e8", "0x", "0x+1", "0x-1", "0x8000000000000000", "0xg"] {
            assert_eq!(number("n", Some(text)).unwrap_err().code, Reject::FieldType, "{text}");
        }
        assert_eq!(number("n", None).unwrap_err().reason, "`n` is missing");
    }
}
