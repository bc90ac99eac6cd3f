//! What a call did with which key: KMS keys, secrets of Secrets Manager, HSMs of CloudHSM, authorities
//! of AWS Private CA.
//!
//! The four services write their facts into sub-trees of their own (`requestParameters`,
//! `responseElements`, `additionalEventData`, `serviceEventDetails`). One set of names covers them; a
//! name with a value of another type than expected says nothing, and is no reason to refuse an event.

use std::borrow::Cow;

use keytrail_model::{ActionClass, AuditEvent, Column, Rejection};

use super::actions::Service;
use super::identity::behind;
use super::record::{Open, Record, open};
use crate::Masker;
use crate::reader::fields;
use crate::value::{slice, text, texts};

fields! {
    /// The names that the services use in their sub-trees. Each stays raw until it is asked for.
    struct Facts<'a> {
        // Which key.
        #[serde(borrow)]
        key_id: Open<'a> = "keyId",
        target_key_id: Open<'a> = "targetKeyId",
        source_key_id: Open<'a> = "sourceKeyId",
        destination_key_id: Open<'a> = "destinationKeyId",
        alias_name: Open<'a> = "aliasName",
        arn: Open<'a> = "arn",
        a_rn: Open<'a> = "aRN",
        name: Open<'a> = "name",
        secret_id: Open<'a> = "secretId",
        secret_id_list: Open<'a> = "secretIdList",
        version_id: Open<'a> = "versionId",
        certificate_authority_arn: Open<'a> = "certificateAuthorityArn",
        key_material_id: Open<'a> = "keyMaterialId",
        current_key_material_id: Open<'a> = "currentKeyMaterialId",
        source_key_material_id: Open<'a> = "sourceKeyMaterialId",
        // What kind of key.
        encryption_algorithm: Open<'a> = "encryptionAlgorithm",
        source_encryption_algorithm: Open<'a> = "sourceEncryptionAlgorithm",
        signing_algorithm: Open<'a> = "signingAlgorithm",
        mac_algorithm: Open<'a> = "macAlgorithm",
        key_agreement_algorithm: Open<'a> = "keyAgreementAlgorithm",
        wrapping_algorithm: Open<'a> = "wrappingAlgorithm",
        key_spec: Open<'a> = "keySpec",
        key_pair_spec: Open<'a> = "keyPairSpec",
        customer_master_key_spec: Open<'a> = "customerMasterKeySpec",
        key_algorithm: Open<'a> = "keyAlgorithm",
        key_usage: Open<'a> = "keyUsage",
        origin: Open<'a> = "origin",
        key_origin: Open<'a> = "keyOrigin",
        key_state: Open<'a> = "keyState",
        status: Open<'a> = "status",
        custom_key_store_id: Open<'a> = "customKeyStoreId",
        cluster_id: Open<'a> = "clusterId",
        hsm_id: Open<'a> = "hsmId",
        backup_id: Open<'a> = "backupId",
        // How it was used.
        encryption_context: Open<'a> = "encryptionContext",
        source_encryption_context: Open<'a> = "sourceEncryptionContext",
        grant_id: Open<'a> = "grantId",
        operations: Open<'a> = "operations",
        actions: Open<'a> = "actions",
        grantee_principal: Open<'a> = "granteePrincipal",
        principal: Open<'a> = "principal",
        force_delete_without_recovery: Open<'a> = "forceDeleteWithoutRecovery",
        // Objects that hold the same names again.
        key_metadata: Open<'a> = "keyMetadata",
        replica_key_metadata: Open<'a> = "replicaKeyMetadata",
        hsm: Open<'a> = "hsm",
        cluster: Open<'a> = "cluster",
        certificate_authority_configuration: Open<'a> = "certificateAuthorityConfiguration",
    }
}

/// The four sub-trees of a record.
#[derive(Default)]
struct Told<'a> {
    request: Facts<'a>,
    response: Facts<'a>,
    extra: Facts<'a>,
    service: Facts<'a>,
    /// What the response says of the key that it made or described.
    made: Facts<'a>,
}

impl<'a> Told<'a> {
    /// Reads them into a default, in place: they are large.
    fn read(&mut self, record: &Record<'a>) -> Result<(), Rejection> {
        open("requestParameters", record.request_parameters, &mut self.request)?;
        open("responseElements", record.response_elements, &mut self.response)?;
        open("additionalEventData", record.additional_event_data, &mut self.extra)?;
        open("serviceEventDetails", record.service_event_details, &mut self.service)?;
        let made = [
            ("responseElements.keyMetadata", self.response.key_metadata),
            ("responseElements.replicaKeyMetadata", self.response.replica_key_metadata),
            ("responseElements.hsm", self.response.hsm),
            ("responseElements.cluster", self.response.cluster),
            (
                "requestParameters.certificateAuthorityConfiguration",
                self.request.certificate_authority_configuration,
            ),
        ];
        let (name, made) = made.into_iter().find(|(_, raw)| raw.is_some()).unwrap_or_default();
        open(name, made, &mut self.made)
    }

    /// The first text under any of these names: what came about before what was asked for.
    fn first(&self, names: impl Fn(&Facts<'a>) -> Open<'a>) -> Option<Cow<'a, str>> {
        [&self.made, &self.response, &self.service, &self.request, &self.extra]
            .into_iter()
            .find_map(|facts| text(names(facts)))
    }
}

/// Fills the key's columns. Gives the class with what only the sub-trees tell.
pub(super) fn fill<'a>(
    event: &mut AuditEvent<'a>,
    record: &Record<'a>,
    service: Service,
    class: Option<ActionClass>,
    masker: &Masker,
) -> Result<Option<ActionClass>, Rejection> {
    let mut told = Told::default();
    told.read(record)?;
    match service {
        Service::Kms => kms(event, record, &told, class, masker),
        Service::SecretsManager => secrets_manager(event, record, &told, masker),
        Service::PrivateCa => private_ca(event, record, &told, masker),
        _ => {}
    }
    shared(event, &told, masker);
    Ok(refine(service, class, &told))
}

/// The class where a parameter decides it.
fn refine(service: Service, class: Option<ActionClass>, told: &Told<'_>) -> Option<ActionClass> {
    match (service, class) {
        (Service::SecretsManager, Some(ActionClass::ScheduleDeletion))
            if told.request.force_delete_without_recovery.is_some_and(|v| v.get() == "true") =>
        {
            Some(ActionClass::Destroy)
        }
        (Service::PrivateCa, Some(ActionClass::Administer)) => match text(told.request.status).as_deref() {
            Some("DISABLED") => Some(ActionClass::Disable),
            Some("ACTIVE") => Some(ActionClass::Enable),
            _ => class,
        },
        _ => class,
    }
}

fn kms<'a>(
    event: &mut AuditEvent<'a>,
    record: &Record<'a>,
    told: &Told<'a>,
    class: Option<ActionClass>,
    masker: &Masker,
) {
    let request = &told.request;
    let keys = || resource_arns(record).filter(|arn| behind(arn, ":key/").is_some_and(|id| !id.is_empty()));
    let target = text(request.destination_key_id);
    let given = [request.source_key_id, request.target_key_id, request.key_id].into_iter().find_map(text);

    // The record lists both keys of a re-encryption; the destination is the one that was asked for.
    let target_arn = target.as_ref().and_then(|t| keys().find(|k| names_key(k, t)).or_else(|| keys().nth(1)));
    let own_arn = given
        .as_ref()
        .and_then(|g| keys().find(|k| names_key(k, g)))
        .or_else(|| keys().find(|k| Some(k) != target_arn.as_ref()))
        .or_else(|| keys().next());
    let arn = own_arn.or_else(|| {
        let said = told.first(|f| f.arn).or_else(|| told.first(|f| f.key_id)).or_else(|| given.clone());
        said.filter(|said| bare_key(said).is_some())
    });
    let id = arn.as_ref().and_then(bare_key).or_else(|| {
        let said = told.first(|f| f.key_id).or(given.clone());
        said.filter(|id| !id.starts_with("alias/") && !id.starts_with("arn:"))
    });
    set(event, Column::KeytrailKeyArn, arn, masker);
    set(event, Column::KeytrailKeyId, id, masker);
    if class == Some(ActionClass::Decrypt) || target.is_some() {
        let target_id = target_arn.as_ref().and_then(bare_key).or(target);
        set(event, Column::KeytrailKeyTargetId, target_id, masker);
    }

    let alias = text(request.alias_name)
        .or_else(|| given.filter(|g| g.starts_with("alias/") || behind(g, ":alias/").is_some()))
        .or_else(|| resource_arns(record).find(|arn| behind(arn, ":alias/").is_some()));
    let alias = alias.and_then(|alias| match alias.find(":alias/") {
        Some(at) => slice(&alias, |a| a.get(at + 1..)),
        None => Some(alias),
    });
    set(event, Column::KeytrailKeyAlias, alias, masker);
    event.maybe(Column::KeytrailKeyStore, scrub(told.first(|f| f.custom_key_store_id), masker));
    let version = told.first(|f| f.current_key_material_id);
    let version = version.or_else(|| told.first(|f| f.source_key_material_id));
    set(event, Column::KeytrailKeyVersion, version.or_else(|| told.first(|f| f.key_material_id)), masker);
    let origin = told.first(|f| f.origin).or_else(|| told.first(|f| f.key_origin));
    set(event, Column::KeytrailKeyOrigin, origin, masker);
    let state = told.first(|f| f.key_state).or_else(|| {
        // These calls answer nothing; their success is the state that the KMS guide gives for them.
        let done = event.get_text(Column::EventOutcome) == Some("success");
        match &*record.event_name {
            "EnableKey" if done => Some("Enabled".into()),
            "DisableKey" | "CancelKeyDeletion" if done => Some("Disabled".into()),
            _ => None,
        }
    });
    set(event, Column::KeytrailKeyState, state, masker);
}

/// A secret stands where other services have a key: its ARN, `name-XXXXXX` as id, its name as alias.
fn secrets_manager<'a>(event: &mut AuditEvent<'a>, record: &Record<'a>, told: &Told<'a>, masker: &Masker) {
    let said = [told.response.arn, told.response.a_rn, told.request.secret_id, told.service.secret_id];
    let mut said = said.into_iter().filter_map(text);
    let arn = said
        .find(|s| behind(s, ":secret:").is_some())
        .or_else(|| resource_arns(record).find(|r| behind(r, ":secret:").is_some()));
    let id = arn.as_ref().and_then(|arn| slice(arn, |arn| behind(arn, ":secret:")));
    let named = text(told.request.secret_id).filter(|s| behind(s, ":secret:").is_none());
    let alias = text(told.response.name).or_else(|| text(told.request.name)).or(named).or_else(|| {
        // Secrets Manager adds a dash and six characters to the name.
        slice(id.as_ref()?, |id| {
            let (name, suffix) = id.rsplit_once('-')?;
            (suffix.len() == 6).then_some(name)
        })
    });
    set(event, Column::KeytrailKeyArn, arn, masker);
    set(event, Column::KeytrailKeyId, id.or_else(|| alias.clone()), masker);
    set(event, Column::KeytrailKeyAlias, alias, masker);
    let version = text(told.response.version_id).or_else(|| text(told.request.version_id));
    set(event, Column::KeytrailKeyVersion, version, masker);
    if let Some(list) = told.request.secret_id_list {
        let ids = texts(list.get());
        event.int(Column::KeytrailBatchCount, ids.len() as i64);
        for id in ids {
            event.add(Column::KeytrailResourceIds, masker.scrub(id));
        }
    }
}

/// An authority stands for its key pair.
fn private_ca<'a>(event: &mut AuditEvent<'a>, record: &Record<'a>, told: &Told<'a>, masker: &Masker) {
    let arn = told
        .first(|f| f.certificate_authority_arn)
        .or_else(|| resource_arns(record).find(|arn| behind(arn, ":certificate-authority/").is_some()));
    let id = arn
        .as_ref()
        .and_then(|arn| slice(arn, |arn| behind(arn, "certificate-authority/")?.split('/').next()));
    set(event, Column::KeytrailKeyArn, arn, masker);
    set(event, Column::KeytrailKeyId, id, masker);
    set(event, Column::KeytrailKeyState, text(told.request.status), masker);
    // Permissions of an authority name a service and its actions.
    set(event, Column::KeytrailGrantPrincipal, text(told.request.principal), masker);
    for action in told.request.actions.map(|a| texts(a.get())).unwrap_or_default() {
        event.add(Column::KeytrailGrantOperations, masker.scrub(action));
    }
}

/// What means the same in all services.
fn shared<'a>(event: &mut AuditEvent<'a>, told: &Told<'a>, masker: &Masker) {
    let algorithm = [
        told.request.encryption_algorithm,
        told.request.source_encryption_algorithm,
        told.request.signing_algorithm,
        told.request.mac_algorithm,
        told.request.key_agreement_algorithm,
        told.request.wrapping_algorithm,
        told.request.key_spec,
        told.request.key_pair_spec,
        told.request.customer_master_key_spec,
    ]
    .into_iter()
    .find_map(text);
    let spec = || told.first(|f| f.key_algorithm).or_else(|| told.first(|f| f.key_spec));
    let algorithm = algorithm.or_else(spec).or_else(|| told.first(|f| f.customer_master_key_spec));
    set(event, Column::KeytrailKeyAlgorithm, algorithm, masker);
    set(event, Column::KeytrailKeyUsage, told.first(|f| f.key_usage), masker);
    set(event, Column::KeytrailGrantId, told.first(|f| f.grant_id), masker);
    if let Some(principal) = text(told.request.grantee_principal) {
        set(event, Column::KeytrailGrantPrincipal, Some(principal), masker);
    }
    for operation in told.request.operations.map(|o| texts(o.get())).unwrap_or_default() {
        event.add(Column::KeytrailGrantOperations, masker.scrub(operation));
    }
    let hsm = told.first(|f| f.hsm_id);
    let cluster = told.first(|f| f.cluster_id);
    for id in [&cluster, &hsm, &told.first(|f| f.backup_id)].into_iter().flatten() {
        event.add(Column::KeytrailResourceIds, masker.scrub(id.clone()));
    }
    set(event, Column::KeytrailHsmId, hsm.or(cluster), masker);
    let context = told.request.encryption_context.or(told.request.source_encryption_context);
    if let Some(context) = context {
        event.text(Column::KeytrailEncryptionContext, masker.scrub(compact(context.get())));
    }
}

fn set<'a>(event: &mut AuditEvent<'a>, column: Column, value: Option<Cow<'a, str>>, masker: &Masker) {
    event.maybe(column, scrub(value, masker));
}

fn scrub<'a>(value: Option<Cow<'a, str>>, masker: &Masker) -> Option<Cow<'a, str>> {
    value.map(|v| masker.scrub(v))
}

fn resource_arns<'r, 'a>(record: &'r Record<'a>) -> impl Iterator<Item = Cow<'a, str>> + use<'r, 'a> {
    record.resources.iter().flatten().filter_map(|r| r.0.as_ref()?.arn.get())
}

/// The id in a key's ARN, of any partition.
fn bare_key<'a>(arn: &Cow<'a, str>) -> Option<Cow<'a, str>> {
    slice(arn, |arn| behind(arn, ":key/"))
}

/// Whether an ARN is that of a key given by id or ARN.
fn names_key(arn: &str, given: &str) -> bool {
    arn == given || behind(arn, ":key/").is_some_and(|id| id == given)
}

/// JSON without whitespace between its values.
fn compact(json: &str) -> Cow<'_, str> {
    // No byte of most texts needs a look for its own sake.
    if !json.bytes().fold(false, |found, b| found | matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
        return Cow::Borrowed(json);
    }
    let mut out = String::new();
    let (mut inside, mut escaped, mut kept) = (false, false, 0);
    for (i, b) in json.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b' ' | b'\t' | b'\n' | b'\r' if !inside => {
                out.push_str(&json[kept..i]);
                kept = i + 1;
            }
            _ => {}
        }
    }
    if kept == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[kept..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitespace_goes_outside_strings_only() {
        assert_eq!(compact("{ \"a b\" : \"c \\\" d\",\n \"e\":1 }"), "{\"a b\":\"c \\\" d\",\"e\":1}");
        assert!(matches!(compact("{\"a b\":1}"), Cow::Borrowed(_)));
    }

    #[test]
    fn ids_of_keys() {
        let id = |arn: &'static str| bare_key(&Cow::Borrowed(arn)).map(Cow::into_owned);
        assert_eq!(id("arn:aws-cn:kms:cn-north-1:1:key/mrk-12").as_deref(), Some("mrk-12"));
        assert_eq!(id("arn:aws:kms:eu-west-1:1:alias/key/x"), None);
        assert_eq!(id("arn: aws: kms: : 1: key/12"), None);
    }
}
