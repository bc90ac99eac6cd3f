//! Who called: the person or workload behind a call, the role acted as, and the session between them.
//!
//! Source: "CloudTrail userIdentity element". For a role session `user.name` is the person or workload
//! behind it and `user.effective.name` the role, as ECS means these fields.

use std::borrow::Cow;

use keytrail_model::{AuditEvent, Column};

use super::record::UserIdentity;
use crate::Masker;
use crate::value::slice;

/// What AWS writes in place of a user name that was wrong at sign-in: it may be a password.
const HIDDEN_NAME: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// Fills `user.*`, `keytrail.actor.*` and the caller's part of `related.*`.
pub(super) fn fill<'a>(event: &mut AuditEvent<'a>, user: &UserIdentity<'a>, masker: &Masker) {
    let empty = Default::default();
    let session = user.session_context.0.as_ref().unwrap_or(&empty);
    let no_issuer = Default::default();
    let issuer = session.session_issuer.0.as_ref().unwrap_or(&no_issuer);

    event.maybe(Column::KeytrailActorType, user.kind.get());
    event.maybe(Column::KeytrailActorAccountId, user.account_id.get());
    event.maybe(Column::KeytrailActorAccessKeyId, scrub(user.access_key_id.get(), masker));
    event.maybe(Column::KeytrailActorInvokedBy, scrub(user.invoked_by.get(), masker));
    event.maybe(Column::KeytrailActorArn, scrub(user.arn.get(), masker));
    event.maybe(Column::KeytrailActorIssuerArn, scrub(issuer.arn.get(), masker));
    if let Some(mfa) = session.attributes.0.as_ref().and_then(|a| a.mfa_authenticated.0) {
        event.flag(Column::KeytrailActorMfa, mfa);
    }

    let behalf = user.on_behalf_of.0.as_ref().and_then(|b| b.user_id.get());
    let id = scrub(behalf.clone().or_else(|| user.principal_id.get()), masker);
    if let Some(id) = id {
        event.add(Column::RelatedUser, id.clone());
        event.text(Column::UserId, id);
    }

    let session_name = session_name(user);
    let role = issuer.user_name.get().or_else(|| user.arn.get().and_then(|a| part(&a, "assumed-role/", 0)));
    let given = user.user_name.get().filter(|n| n != HIDDEN_NAME);
    let invoked_by = user.invoked_by.get();
    // A service-linked role is the service itself; its session names are numbers of the service's own.
    let service_linked = behind(&issuer.arn, ":role/aws-service-role/").is_some();
    let (name, effective) = match &*user.kind {
        "Root" => (Some(Cow::Borrowed("root")), None),
        "AssumedRole" | "FederatedUser" => {
            let behind = if service_linked { invoked_by } else { None };
            (session.source_identity.get().or(behind).or_else(|| session_name.clone()).or(given), role)
        }
        "Role" => {
            let role = given.or_else(|| user.arn.get().and_then(last_part)).or(role);
            (session.source_identity.get().or_else(|| session_name.clone()).or_else(|| role.clone()), role)
        }
        "AWSService" => (invoked_by.or(given), None),
        _ => (given.or_else(|| user.arn.get().and_then(last_part)).or(invoked_by), None),
    };
    let session_name = scrub(session_name, masker);
    if let Some(host) = session_name.as_ref().filter(|s| is_instance(s)) {
        event.add(Column::RelatedHosts, host.clone());
    }
    event.maybe(Column::KeytrailActorSession, session_name);
    for (column, value) in [(Column::UserName, name), (Column::UserEffectiveName, effective)] {
        if let Some(value) = scrub(value, masker) {
            event.add(Column::RelatedUser, value.clone());
            event.text(column, value);
        }
    }
}

fn scrub<'a>(text: Option<Cow<'a, str>>, masker: &Masker) -> Option<Cow<'a, str>> {
    text.map(|t| masker.scrub(t))
}

/// The name of a role's or federated user's session: of the ARN, else behind the principal's colon.
fn session_name<'a>(user: &UserIdentity<'a>) -> Option<Cow<'a, str>> {
    if !matches!(&*user.kind, "AssumedRole" | "FederatedUser" | "Role" | "") {
        return None;
    }
    let of_arn = user
        .arn
        .get()
        .and_then(|arn| part(&arn, "assumed-role/", 1).or_else(|| part(&arn, "federated-user/", 0)));
    of_arn.or_else(|| {
        let principal = user.principal_id.get()?;
        slice(&principal, |p| Some(p.split_once(':')?.1.trim()))
    })
}

/// The part with that number behind a marker in an ARN.
fn part<'a>(arn: &Cow<'a, str>, marker: &str, number: usize) -> Option<Cow<'a, str>> {
    slice(arn, |arn| behind(arn, marker)?.split('/').nth(number))
}

/// The last part of the path of `user/a/b/name` or `role/name`.
fn last_part(arn: Cow<'_, str>) -> Option<Cow<'_, str>> {
    slice(&arn, |arn| arn.rsplit_once('/').map(|(_, name)| name))
}

/// What stands behind the first `marker`. Found by its last byte, of which an ARN has few: this is
/// asked many times a record, and a general search costs more to set up than it saves.
pub(super) fn behind<'t>(text: &'t str, marker: &str) -> Option<&'t str> {
    let last = *marker.as_bytes().last()?;
    memchr::memchr_iter(last, text.as_bytes())
        .find(|at| text.as_bytes()[..=*at].ends_with(marker.as_bytes()))
        .and_then(|at| text.get(at + 1..))
}

/// `i-` and 8 or 17 hex digits: sessions of an instance's role are named by the instance.
fn is_instance(session: &str) -> bool {
    session
        .strip_prefix("i-")
        .is_some_and(|id| matches!(id.len(), 8 | 17) && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_where_they_stand_first() {
        for text in ["", "/", "a/", "a/b", "x:a/y:a/z", "aa/a/", ":a:a/\u{e9}", "\u{e9}a/", "role"] {
            for marker in ["a/", ":a/", "/", "a/y:a/"] {
                assert_eq!(behind(text, marker), text.split_once(marker).map(|(_, b)| b), "{text} {marker}");
            }
        }
    }
}
