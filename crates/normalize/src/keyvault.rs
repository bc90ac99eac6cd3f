//! Audit records of Azure Key Vault and Managed HSM.
//!
//! What it is: one resource log record of category `AuditEvent` to one event. What it is not: it reads no
//! activity log and no other resource log of Azure. In: a JSON object as diagnostic settings write it, on
//! a line or in `{"records":[...]}`. Out: [`AuditEvent`]s of `azure.keyvault`.
//! `schemas/mappings/keyvault.md` is the mapping in words.
//!
//! Source: "Azure Key Vault logging" and "Managed HSM logging" of the Azure documentation. A record has no
//! id of its own: `correlationId` is chosen by clients.

mod actions;
mod record;

use std::borrow::Cow;

use keytrail_model::{ActionClass, AuditEvent, Column, Reject, Rejection, Timestamp, Value};

use crate::category::classify;
use crate::lists::add_all;
use crate::value::{Open, flag, number, opened, slice, text, texts};
use crate::{Context, Masker, address, walk};
pub(crate) use record::Record;
use record::{Claims, Facts, Identity, Properties};

/// `event.dataset` of these events.
pub const DATASET: &str = "azure.keyvault";

/// `keytrail.normalizer`: raised with every change of what a record becomes.
pub const NORMALIZER: &str = "keyvault/1";

/// The part of a resource's id by which its vault or HSM is known, in any case.
const PROVIDER: &str = "/providers/microsoft.keyvault/";

/// The one category of audit records.
const CATEGORY: &str = "AuditEvent";

/// Whether a record's content looks like one of this source: category `AuditEvent` beside the id of a
/// resource of Key Vault. Activity logs and the logs of other resources are not claimed.
pub fn recognises(record: &str) -> bool {
    let (mut category, mut resource) = (false, false);
    walk::top_keys(record, |key, value| {
        match key {
            "category" => category = value.trim_ascii_start().starts_with("\"AuditEvent\""),
            "resourceId" => resource = walk::holds(value, PROVIDER),
            _ => {}
        }
        !(category && resource)
    });
    category && resource
}

/// The event of one record, which is without a producer's key.
///
/// Refused are a record of another category or resource and one without any of the two or `operationName`. A time that is
/// missing or unreadable leaves the event undated.
pub(crate) fn normalize<'a>(record: &Record<'a>, ctx: &Context<'a>) -> Result<AuditEvent<'a>, Rejection> {
    match (record.category, text(record.category).as_deref()) {
        (_, Some(CATEGORY)) => {}
        (None, _) => return Err(Rejection::new(Reject::FieldMissing, "`category` is missing")),
        // An activity log has an object there.
        _ => return Err(Rejection::new(Reject::FormatUnknown, "expected `AuditEvent` in `category`")),
    }
    if record.resource_id.is_empty() {
        return Err(Rejection::new(Reject::FieldMissing, "`resourceId` is missing"));
    }
    let Some(resource) = Resource::of(&record.resource_id) else {
        return Err(Rejection::new(
            Reject::FormatUnknown,
            "expected a vault or managed HSM of `Microsoft.KeyVault` in `resourceId`",
        ));
    };
    let Some(operation) = record.operation_name.get() else {
        return Err(Rejection::new(Reject::FieldMissing, "`operationName` is missing"));
    };
    let masker = ctx.masker;
    let properties: Properties<'a> = opened("properties", record.properties)?;
    let mut e = AuditEvent::new(DATASET, "azure");
    e.text(Column::KeytrailNormalizer, NORMALIZER);
    e.at(Timestamp::parse(&record.time));
    e.text(Column::EventKind, "event");
    e.text(Column::EventCode, CATEGORY);
    e.text(Column::EventProvider, "Microsoft.KeyVault");
    e.maybe(Column::KeytrailOperationId, record.correlation_id.get().map(|id| masker.scrub(id)));
    if let Some(ms) = number(record.duration_ms).filter(|ms| *ms >= 0) {
        e.int(Column::EventDuration, ms.saturating_mul(1_000_000));
    }
    e.text(Column::CloudProvider, "azure");
    e.maybe(Column::CloudAccountId, resource.subscription.map(|s| masker.scrub(s).into_owned()));
    e.maybe(Column::CloudRegion, record.location.get().map(|l| masker.scrub(l)));
    e.text(Column::CloudServiceName, resource.service);
    who(&mut e, record.identity, masker)?;
    if let Some(ip) = record.caller_ip_address.get() {
        address::source(&mut e, ip, masker);
    }
    let agent = text(properties.client_info).or_else(|| record.client_info.get());
    e.maybe(Column::UserAgentOriginal, agent.map(|a| masker.scrub(a)));
    let tls = text(properties.tls_version).filter(|t| t.starts_with("TLS")).map(|t| t[3..].replace('_', "."));
    e.maybe(Column::TlsVersion, tls.map(|t| masker.scrub(t)));

    e.add(Column::KeytrailResourceIds, masker.scrub(record.resource_id.0.clone()));
    key(&mut e, record, &properties, resource.name, masker);
    let class = refine(&mut e, &properties, actions::class(&operation), &operation, masker)?;
    if &*operation == "Authentication" {
        e.add(Column::EventCategory, "authentication");
        e.add(Column::EventType, "start");
    } else {
        classify(&mut e, class);
        e.flag(Column::KeytrailReadOnly, class == Some(ActionClass::Access) || actions::reads(&operation));
    }
    outcome(&mut e, record, &properties, &operation, masker);
    e.text(Column::EventAction, masker.scrub(operation));
    Ok(e)
}

/// The vault or HSM of a record.
struct Resource {
    /// Id of the subscription, in lower case.
    subscription: Option<String>,
    service: &'static str,
    /// Name of the vault or HSM, in lower case: names are not told apart by it.
    name: String,
}

impl Resource {
    /// From `/SUBSCRIPTIONS/<id>/.../PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/<name>`, in any case.
    fn of(id: &str) -> Option<Self> {
        let id = id.to_ascii_lowercase();
        let (before, behind) = id.split_once(PROVIDER)?;
        let mut parts = behind.split('/');
        let service = match parts.next()? {
            "vaults" => "keyvault",
            "managedhsms" => "managedhsm",
            _ => return None,
        };
        let subscription = before.strip_prefix("/subscriptions/").and_then(|rest| rest.split('/').next());
        let name = parts.next().unwrap_or_default().to_owned();
        Some(Self { subscription: subscription.map(str::to_owned), service, name })
    }
}

/// The caller, as the token's claims have it.
fn who<'a>(e: &mut AuditEvent<'a>, identity: Open<'a>, masker: &Masker) -> Result<(), Rejection> {
    // Managed HSM writes the object as a string.
    let written = identity.and_then(|i| serde_json::from_str::<String>(i.get()).ok());
    let mut found = match &written {
        None => claims(opened::<Identity<'_>>("identity", identity)?.claim)?,
        // An object alone: an array would be read as the fields in their order. Broken, it says nothing.
        Some(json) if json.trim_ascii_start().starts_with('{') => {
            match serde_json::from_str::<Identity<'_>>(json) {
                Ok(identity) => claims(identity.claim)?,
                Err(_) => Caller::default(),
            }
        }
        Some(_) => Caller::default(),
    };
    found.kind = found.kind.or_else(|| match (&found.person, &found.app) {
        (Some(_), _) => Some("user".to_owned()),
        (None, Some(_)) => Some("app".to_owned()),
        (None, None) => None,
    });
    let scrub = |t: String| masker.scrub(t).into_owned();
    e.maybe(Column::UserId, found.id.map(scrub));
    e.maybe(Column::UserName, found.person.or(found.identity).or_else(|| found.app.clone()).map(scrub));
    e.maybe(Column::ServiceName, found.app.map(scrub));
    e.maybe(Column::KeytrailActorType, found.kind.map(scrub));
    if let Some(mfa) = found.mfa {
        e.flag(Column::KeytrailActorMfa, mfa);
    }
    for column in [Column::UserId, Column::UserName] {
        if let Some(user) = e.get_text(column).map(str::to_owned) {
            e.add(Column::RelatedUser, user);
        }
    }
    Ok(())
}

/// What claims say of a caller.
#[derive(Default)]
struct Caller {
    /// Name of a person.
    person: Option<String>,
    /// Name of a managed identity.
    identity: Option<String>,
    /// Id of the application.
    app: Option<String>,
    /// Id in the directory.
    id: Option<String>,
    kind: Option<String>,
    mfa: Option<bool>,
}

fn claims(claim: Open<'_>) -> Result<Caller, Rejection> {
    let all = |raw| opened::<Claims<'_>>("identity.claim", raw);
    let claims = all(claim)?;
    let (microsoft, xmlsoap) = (all(all(claims.microsoft)?.claims)?, all(all(claims.xmlsoap)?.claims)?);
    let first = |these: &[Open<'_>]| these.iter().copied().find_map(text).map(Cow::into_owned);
    let methods = claims.amr.or(claims.long_amr).map(|m| texts_of(m.get()));
    Ok(Caller {
        person: first(&[
            claims.upn,
            claims.long_upn,
            xmlsoap.upn,
            claims.long_name,
            xmlsoap.name,
            claims.unique_name,
        ]),
        identity: text(claims.managed_identity).and_then(|id| Some(id.rsplit('/').next()?.to_owned())),
        app: first(&[claims.appid]),
        id: first(&[claims.oid, claims.long_oid, microsoft.objectidentifier]),
        kind: first(&[claims.idtyp]),
        mfa: methods.map(|m| m.iter().any(|m| m == "mfa")),
    })
}

/// Strings of a list, of one text, or of one text that is a list of words.
fn texts_of(json: &str) -> Vec<String> {
    match serde_json::from_str::<String>(json) {
        Ok(one) => one.split([',', ' ']).map(str::to_owned).collect(),
        Err(_) => texts(json).into_iter().map(Cow::into_owned).collect(),
    }
}

/// The key, secret or certificate: of the answer's id, else of the request.
fn key<'a>(
    e: &mut AuditEvent<'a>,
    record: &Record<'a>,
    properties: &Properties<'a>,
    vault: String,
    masker: &Masker,
) {
    let answered = text(properties.id);
    let asked = text(properties.request_uri).or_else(|| record.request_uri.get());
    let parts = [&answered, &asked].map(|uri| uri.as_ref().and_then(Object::of));
    let name = parts.iter().flatten().map(|o| o.name.clone()).next();
    let version = parts.iter().flatten().find_map(|o| o.version.clone());
    if let Some(id) = answered.and_then(|id| slice(&id, |id| id.split(['?', '#']).next())) {
        e.add(Column::KeytrailResourceIds, masker.scrub(id));
    }
    if let Some(name) = name {
        e.text(Column::KeytrailKeyId, masker.scrub(name));
        e.text(Column::KeytrailKeyStore, masker.scrub(vault));
        e.maybe(Column::KeytrailKeyVersion, version.map(|v| masker.scrub(v)));
    }
}

/// What a URI of a vault names: `https://<vault>/<collection>/<name>[/<version>][/<operation>]`.
struct Object<'a> {
    name: Cow<'a, str>,
    version: Option<Cow<'a, str>>,
}

impl<'a> Object<'a> {
    fn of(uri: &Cow<'a, str>) -> Option<Self> {
        let part = |number: usize| {
            slice(uri, |uri| {
                let path = uri.split(['?', '#']).next()?.split_once("://")?.1.split_once('/')?.1;
                path.split('/').nth(number)
            })
        };
        let collection = part(0)?;
        let known =
            ["keys", "secrets", "certificates", "deletedkeys", "deletedsecrets", "deletedcertificates"];
        if !known.contains(&&*collection) {
            return None;
        }
        // Names of the vault's own, under which there is no object; roles over all keys are one of them.
        let name = part(1).filter(|name| !matches!(&**name, "restore" | "contacts" | "issuers"))?;
        if &*name == "providers" && part(2).as_deref() == Some("Microsoft.Authorization") {
            return None;
        }
        let version = part(2).filter(|v| v.len() == 32 && v.bytes().all(|b| b.is_ascii_hexdigit()));
        Some(Self { name, version })
    }
}

/// The class where properties decide it, and what they say of key and access policy.
fn refine<'a>(
    e: &mut AuditEvent<'a>,
    properties: &Properties<'a>,
    class: Option<ActionClass>,
    operation: &str,
    masker: &Masker,
) -> Result<Option<ActionClass>, Rejection> {
    let facts = |field: &str, raw| opened::<Facts<'a>>(field, raw);
    let key = facts("properties.keyProperties", properties.key_properties)?;
    let secret = facts("properties.secretProperties", properties.secret_properties)?;
    let algorithm = text(properties.algorithm).or_else(|| text(key.kind));
    e.maybe(Column::KeytrailKeyAlgorithm, algorithm.map(|a| masker.scrub(a)));
    let attributes = facts("properties.attributes", key.attributes.or(secret.attributes))?;
    let enabled = flag(attributes.enabled);
    if enabled == Some(false) {
        e.text(Column::KeytrailKeyState, "disabled");
    }
    let policy = properties.added_access_policy.or(properties.removed_access_policy);
    if policy.is_some() {
        let policy = facts("properties.accessPolicy", policy)?;
        let allowed = facts("properties.accessPolicy.Permissions", policy.permissions)?;
        e.maybe(Column::KeytrailGrantPrincipal, text(policy.object_id).map(|id| masker.scrub(id)));
        let mut operations = Vec::new();
        for (of, list) in
            [("keys", allowed.keys), ("secrets", allowed.secrets), ("certificates", allowed.certificates)]
        {
            operations.extend(
                list.iter().flat_map(|l| texts(l.get())).map(|name| masker.scrub(format!("{of}/{name}"))),
            );
        }
        add_all(e, Column::KeytrailGrantOperations, operations);
    }
    Ok(match (class, operation) {
        (Some(ActionClass::Administer), "KeyUpdate" | "SecretUpdate" | "CertificateUpdate")
            if enabled == Some(false) =>
        {
            Some(ActionClass::Disable)
        }
        (Some(ActionClass::Administer), "VaultPatch" | "VaultPut") if policy.is_some() => {
            Some(ActionClass::PolicyChange)
        }
        _ => class,
    })
}

/// What came of the operation. `resultType` is `Success` for requests that were refused, too: the status
/// code decides where there is one.
fn outcome<'a>(
    e: &mut AuditEvent<'a>,
    record: &Record<'a>,
    properties: &Properties<'a>,
    operation: &str,
    masker: &Masker,
) {
    let code = number(properties.http_status_code).or_else(|| number(record.http_status_code));
    let failed = match code {
        Some(code) => code >= 400,
        None => !record.result_type.is_empty() && &*record.result_type != "Success",
    };
    // Clients ask without a token first, to be told where to get one.
    let challenge = operation == "Authentication" && code == Some(401);
    let outcome = match (challenge, failed) {
        (true, _) => "unknown",
        (_, true) => "failure",
        _ if code.is_none() && record.result_type.is_empty() => "unknown",
        _ => "success",
    };
    e.text(Column::EventOutcome, outcome);
    if outcome == "failure" {
        let signature = record.result_signature.get().map(|s| masker.scrub(s));
        e.maybe(Column::ErrorCode, signature.or_else(|| code.map(|c| c.to_string().into())));
        e.maybe(Column::ErrorMessage, record.result_description.get().map(|d| masker.scrub(d)));
    }
    let denied = matches!(code, Some(401 | 403)) && !challenge;
    let api = matches!(e.get(Column::EventCategory), Value::List(c) if c.iter().any(|c| c == "api"));
    if denied && api {
        e.add(Column::EventType, "denied");
    }
    let let_in = [properties.is_rbac_authorized, properties.is_access_policy_match].map(flag);
    let decision = match (let_in.contains(&Some(true)), code) {
        (_, Some(403)) => Some("deny"),
        (true, _) => Some("allow"),
        _ => None,
    };
    e.maybe(Column::KeytrailPolicyDecision, decision);
    if let Some(assignment) = text(properties.applied_assignment_id) {
        e.add(Column::KeytrailPolicyIds, masker.scrub(assignment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_objects() {
        let of = |uri: &'static str| {
            Object::of(&Cow::Borrowed(uri)).map(|o| (o.name.into_owned(), o.version.map(Cow::into_owned)))
        };
        let version = "78deebed173b48e48f55abf87ed4cf71";
        assert_eq!(
            of("https://v.vault.azure.net/keys/k/78deebed173b48e48f55abf87ed4cf71/sign?api-version=7.4"),
            Some(("k".into(), Some(version.into())))
        );
        assert_eq!(of("https://v.vault.azure.net/secrets/db?api-version=7.4"), Some(("db".into(), None)));
        assert_eq!(of("https://v.vault.azure.net/keys/k/create"), Some(("k".into(), None)));
        for other in [
            "https://v.vault.azure.net/",
            "https://v.vault.azure.net/keys?api-version=7.4",
            "https://v.vault.azure.net/keys/restore",
            "https://h.managedhsm.azure.net/keys/providers/Microsoft.Authorization/roleAssignments/1",
            "https://control.vaultcore.azure.net/subscriptions/1/resourcegroups/g",
            "keys/k",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn resources_are_read_in_any_case() {
        let of = |id| Resource::of(id).map(|r| (r.subscription, r.service, r.name));
        assert_eq!(
            of("/SUBSCRIPTIONS/AB12/RESOURCEGROUPS/G/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/MyVault"),
            Some((Some("ab12".into()), "keyvault", "myvault".into()))
        );
        assert_eq!(
            of("/subscriptions/a/providers/Microsoft.KeyVault/managedHSMs/h"),
            Some((Some("a".into()), "managedhsm", "h".into()))
        );
        assert_eq!(of("/subscriptions/a/providers/Microsoft.Compute/disks/d"), None);
    }
}
