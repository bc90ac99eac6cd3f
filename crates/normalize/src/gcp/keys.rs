//! Which key or secret a call acted on, and what the call says of it.
//!
//! What it is: names of resources taken apart, and single names out of `request` and `response`. What it
//! is not: it reads no plaintext, ciphertext or payload. A name with a value of another type than expected
//! says nothing; it is no reason to refuse an event.

use std::borrow::Cow;

use keytrail_model::{ActionClass, AuditEvent, Column, Rejection};

use super::actions::{Request, Service};
use super::record::AuditLog;
use crate::Masker;
use crate::lists::add_all;
use crate::reader::fields;
use crate::value::{Open, items, opened, slice, text};

fields! {
    /// The names that Cloud KMS, Secret Manager and IAM use in requests, answers and what is in them.
    struct Facts<'a> {
        #[serde(borrow)]
        name: Open<'a> = "name",
        algorithm: Open<'a> = "algorithm",
        purpose: Open<'a> = "purpose",
        state: Open<'a> = "state",
        crypto_key: Open<'a> = "cryptoKey",
        crypto_key_id: Open<'a> = "cryptoKeyId",
        crypto_key_version: Open<'a> = "cryptoKeyVersion",
        crypto_key_version_id: Open<'a> = "cryptoKeyVersionId",
        primary: Open<'a> = "primary",
        version_template: Open<'a> = "versionTemplate",
        secret_id: Open<'a> = "secretId",
        // `google.iam.v1.logging.AuditData`.
        policy_delta: Open<'a> = "policyDelta",
        binding_deltas: Open<'a> = "bindingDeltas",
        audit_config_deltas: Open<'a> = "auditConfigDeltas",
        member: Open<'a> = "member",
        role: Open<'a> = "role",
    }
}

/// Fills key columns. Gives the class with what only request and answer tell.
pub(super) fn fill<'a>(
    e: &mut AuditEvent<'a>,
    log: &AuditLog<'a>,
    service: Service,
    class: Option<ActionClass>,
    masker: &Masker,
) -> Result<Option<ActionClass>, Rejection> {
    let class = policy(e, log, class, masker)?;
    if !matches!(service, Service::Kms | Service::SecretManager | Service::PrivateCa) {
        return Ok(class);
    }
    let request = facts("protoPayload.request", log.request)?;
    let response = facts("protoPayload.response", log.response)?;
    let made = facts("protoPayload.request.cryptoKey", request.crypto_key)?;
    let template = facts("protoPayload.request.cryptoKey.versionTemplate", made.version_template)?;
    let changed = facts("protoPayload.request.cryptoKeyVersion", request.crypto_key_version)?;
    let primary = facts("protoPayload.response.primary", response.primary)?;
    let (collection, versions) = match service {
        Service::Kms => ("cryptoKeys", "cryptoKeyVersions"),
        Service::SecretManager => ("secrets", "versions"),
        _ => ("certificateAuthorities", ""),
    };
    // What came about says more than what was asked for, which may be a parent or `latest`.
    let named = [text(response.name), log.resource_name.get(), text(changed.name), text(request.name)];
    let part = |of: &str| named.iter().flatten().find_map(|name| member(name, of));
    let id = part(collection).or_else(|| text(request.crypto_key_id)).or_else(|| text(request.secret_id));
    let version = part(versions).or_else(|| text(request.crypto_key_version_id)).or_else(|| {
        text(primary.name)
            .and_then(|name| member(&name, versions))
            .filter(|_| class == Some(ActionClass::Create))
    });
    let store = match service {
        Service::Kms => part("keyRings"),
        Service::PrivateCa => part("caPools"),
        _ => None,
    };
    let set = |e: &mut AuditEvent<'a>, column, value: Option<Cow<'a, str>>| {
        e.maybe(column, value.map(|v| masker.scrub(v)));
    };
    set(e, Column::KeytrailKeyId, id);
    set(e, Column::KeytrailKeyStore, store);
    set(e, Column::KeytrailKeyVersion, version);
    let algorithm = [response.algorithm, primary.algorithm, template.algorithm].into_iter().find_map(text);
    set(e, Column::KeytrailKeyAlgorithm, algorithm);
    set(e, Column::KeytrailKeyUsage, text(response.purpose).or_else(|| text(made.purpose)));
    set(e, Column::KeytrailKeyState, text(response.state).or_else(|| text(changed.state)));
    Ok(match (class, text(changed.state).as_deref()) {
        (Some(ActionClass::Administer), Some("DISABLED")) => Some(ActionClass::Disable),
        (Some(ActionClass::Administer), Some("ENABLED")) => Some(ActionClass::Enable),
        _ => class,
    })
}

/// What a change of an IAM policy changed: whom it binds, and whether it is about audit logs themselves.
fn policy<'a>(
    e: &mut AuditEvent<'a>,
    log: &AuditLog<'a>,
    class: Option<ActionClass>,
    masker: &Masker,
) -> Result<Option<ActionClass>, Rejection> {
    let data = facts("protoPayload.serviceData", log.service_data)?;
    let delta = facts("protoPayload.serviceData.policyDelta", data.policy_delta)?;
    let (mut members, mut roles) = (Vec::new(), Vec::new());
    for binding in items(delta.binding_deltas) {
        let binding = facts("protoPayload.serviceData.policyDelta.bindingDeltas", binding)?;
        members.extend(text(binding.member).map(|m| masker.scrub(m)));
        roles.extend(text(binding.role).map(|r| masker.scrub(r)));
    }
    members.sort_unstable();
    members.dedup();
    // One column, one principal: of several, all are in `related.user`.
    if let [one] = members.as_slice() {
        e.text(Column::KeytrailGrantPrincipal, one.clone());
    }
    add_all(e, Column::RelatedUser, members);
    add_all(e, Column::KeytrailGrantOperations, roles);
    let audited = !items(delta.audit_config_deltas).is_empty();
    Ok(if audited { Some(ActionClass::AuditControl) } else { class })
}

/// What a request to a cluster of GKE acted on: `core/v1/namespaces/<namespace>/secrets/<name>`.
pub(super) fn object<'a>(e: &mut AuditEvent<'a>, log: &AuditLog<'a>, request: Request<'_>, masker: &Masker) {
    let kind = match request.subresource {
        "" => request.resource.to_owned(),
        sub => format!("{}/{sub}", request.resource),
    };
    e.text(Column::OrchestratorResourceType, masker.scrub(kind).into_owned());
    let Some(path) = log.resource_name.get() else { return };
    let namespace = member(&path, "namespaces").map(|n| masker.scrub(n));
    let name = member(&path, request.resource).map(|n| masker.scrub(n));
    e.maybe(Column::OrchestratorNamespace, namespace.clone());
    e.maybe(Column::OrchestratorResourceName, name.clone());
    if request.of_secret() {
        e.maybe(Column::KeytrailKeyId, name);
        e.maybe(Column::KeytrailKeyStore, namespace);
    }
}

/// The member of a collection in a resource's name: `<collection>/<member>`.
pub(super) fn member<'a>(name: &Cow<'a, str>, collection: &str) -> Option<Cow<'a, str>> {
    slice(name, |name| {
        let mut parts = name.split('/');
        parts.find(|part| *part == collection && !collection.is_empty())?;
        parts.next()
    })
}

fn facts<'a>(field: &str, raw: Open<'a>) -> Result<Facts<'a>, Rejection> {
    opened(field, raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_resources_are_taken_apart() {
        let name = Cow::Borrowed("projects/p/locations/eu/keyRings/r/cryptoKeys/k/cryptoKeyVersions/3");
        assert_eq!(member(&name, "cryptoKeys").as_deref(), Some("k"));
        assert_eq!(member(&name, "cryptoKeyVersions").as_deref(), Some("3"));
        assert_eq!(member(&name, "secrets"), None);
        assert_eq!(member(&name, ""), None);
        assert_eq!(member(&Cow::Borrowed("projects/p/secrets/"), "secrets"), None);
    }
}
