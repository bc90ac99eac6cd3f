//! What a request acted on: the object, and what of it matters to keys and permissions.
//!
//! What it is: names out of `objectRef`, and out of the objects of request and answer where the audit
//! level has them. What it is not: it reads no value of a Secret and no token. A name with a value of
//! another type than expected says nothing; it is no reason to refuse an event.

use std::borrow::Cow;

use keytrail_model::{ActionClass, AuditEvent, Column, Rejection};

use super::actions::RBAC;
use super::record::{ObjectRef, Record};
use crate::Masker;
use crate::lists::add_all;
use crate::reader::fields;
use crate::value::{Open, items, opened, text};

fields! {
    /// An object of the API.
    struct Object<'a> {
        #[serde(borrow)]
        metadata: Open<'a> = "metadata",
        spec: Open<'a> = "spec",
        status: Open<'a> = "status",
        role_ref: Open<'a> = "roleRef",
        subjects: Open<'a> = "subjects",
    }
}

fields! {
    /// Names at any place of an object.
    struct Names<'a> {
        #[serde(borrow)]
        kind: Open<'a> = "kind",
        name: Open<'a> = "name",
        namespace: Open<'a> = "namespace",
        signer_name: Open<'a> = "signerName",
        username: Open<'a> = "username",
        conditions: Open<'a> = "conditions",
        condition: Open<'a> = "type",
    }
}

/// Fills resource, key and grant columns.
pub(super) fn fill<'a>(
    e: &mut AuditEvent<'a>,
    record: &Record<'a>,
    target: &ObjectRef<'a>,
    class: Option<ActionClass>,
    masker: &Masker,
) -> Result<(), Rejection> {
    if target.resource.is_empty() {
        // A path that is no resource (`/healthz`), without its query, in which clients put anything.
        let path = record.request_uri.split(['?', '#']).next().unwrap_or_default().to_owned();
        if !path.is_empty() {
            e.add(Column::KeytrailResourceIds, masker.scrub(path));
        }
        return Ok(());
    }
    // What came about before what was asked for: a patch is part of an object.
    let answer: Object<'a> = opened("responseObject", record.response_object)?;
    let request: Object<'a> = opened("requestObject", record.request_object)?;
    // The name of a new object may stand in the object alone.
    let name = match target.name.get() {
        None if &*record.verb == "create" && target.subresource.is_empty() => {
            let (of_answer, of_request) = (
                names("responseObject.metadata", answer.metadata)?,
                names("requestObject.metadata", request.metadata)?,
            );
            text(of_answer.name).or_else(|| text(of_request.name))
        }
        name => name,
    };
    let name = name.map(|n| masker.scrub(n));
    let namespace = target.namespace.get().map(|n| masker.scrub(n));
    let kind = match &*target.subresource {
        "" => masker.scrub(target.resource.0.clone()),
        sub => masker.scrub(format!("{}/{sub}", target.resource.0)),
    };
    e.text(Column::OrchestratorResourceType, kind);
    e.maybe(Column::OrchestratorNamespace, namespace.clone());
    e.maybe(Column::OrchestratorResourceName, name.clone());
    let id = id(&target.api_group, namespace.as_deref(), &target.resource, name.as_deref());
    e.add(Column::KeytrailResourceIds, masker.scrub(id));

    match (&*target.api_group, &*target.resource, class) {
        ("", "secrets", _) => {
            e.maybe(Column::KeytrailKeyId, name);
            e.maybe(Column::KeytrailKeyStore, namespace);
        }
        ("", "serviceaccounts", Some(ActionClass::Grant)) => {
            let account =
                account(namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
            e.add(Column::RelatedUser, account.clone());
            e.text(Column::UserTargetName, account.clone());
            e.text(Column::KeytrailGrantPrincipal, account);
        }
        ("certificates.k8s.io", "certificatesigningrequests", _) => {
            let (object, at) =
                if answer.spec.is_some() { (&answer, "responseObject") } else { (&request, "requestObject") };
            signing(e, object, at, name, class, masker)?;
        }
        (RBAC, "rolebindings" | "clusterrolebindings", _) => {
            let (object, at) = if answer.role_ref.is_some() {
                (&answer, "responseObject")
            } else {
                (&request, "requestObject")
            };
            e.maybe(Column::KeytrailGrantId, name);
            binding(e, object, at, namespace.as_deref(), masker)?;
        }
        _ => {}
    }
    Ok(())
}

/// A certificate signing request stands for its key pair; the signer for the authority.
fn signing<'a>(
    e: &mut AuditEvent<'a>,
    object: &Object<'a>,
    at: &str,
    name: Option<Cow<'a, str>>,
    class: Option<ActionClass>,
    masker: &Masker,
) -> Result<(), Rejection> {
    let spec = names(&format!("{at}.spec"), object.spec)?;
    let status = names(&format!("{at}.status"), object.status)?;
    let mut state = None;
    for condition in items(status.conditions) {
        state = text(names(&format!("{at}.status.conditions"), condition)?.condition).or(state);
    }
    let scrubbed = |t: Option<Cow<'a, str>>| t.map(|t| masker.scrub(t));
    e.maybe(Column::KeytrailKeyId, name.clone());
    e.maybe(Column::KeytrailKeyStore, scrubbed(text(spec.signer_name)));
    e.maybe(Column::KeytrailKeyState, scrubbed(state));
    if class == Some(ActionClass::Grant) {
        e.maybe(Column::KeytrailGrantId, name);
        if let Some(who) = scrubbed(text(spec.username)) {
            e.add(Column::RelatedUser, who.clone());
            e.text(Column::UserTargetName, who.clone());
            e.text(Column::KeytrailGrantPrincipal, who);
        }
    }
    Ok(())
}

/// Whom a binding binds, and to which role.
fn binding<'a>(
    e: &mut AuditEvent<'a>,
    object: &Object<'a>,
    at: &str,
    namespace: Option<&str>,
    masker: &Masker,
) -> Result<(), Rejection> {
    let role = names(&format!("{at}.roleRef"), object.role_ref)?;
    if let Some(name) = text(role.name) {
        let id = match text(role.kind).as_deref() {
            Some("Role") => id(RBAC, namespace, "roles", Some(&name)),
            _ => id(RBAC, None, "clusterroles", Some(&name)),
        };
        e.add(Column::KeytrailResourceIds, masker.scrub(id));
    }
    let (mut principals, mut users) = (Vec::new(), Vec::new());
    for subject in items(object.subjects) {
        let subject = names(&format!("{at}.subjects"), subject)?;
        let Some(name) = text(subject.name) else { continue };
        let kind = text(subject.kind);
        let who = match kind.as_deref() {
            Some("ServiceAccount") => masker
                .scrub(account(text(subject.namespace).as_deref().or(namespace).unwrap_or_default(), &name)),
            _ => masker.scrub(name),
        };
        if kind.as_deref() != Some("Group") {
            users.push(who.clone());
        }
        principals.push(who);
    }
    // One column, one principal: of several, all are in `related.user` or in the original.
    if let [one] = principals.as_slice() {
        e.text(Column::KeytrailGrantPrincipal, one.clone());
    }
    if let [one] = users.as_slice() {
        e.text(Column::UserTargetName, one.clone());
    }
    add_all(e, Column::RelatedUser, users);
    Ok(())
}

fn names<'a>(field: &str, raw: Open<'a>) -> Result<Names<'a>, Rejection> {
    opened(field, raw)
}

/// The user name of a service account.
fn account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The path of an object below `/api/v1` or `/apis`, without the API's version.
fn id(group: &str, namespace: Option<&str>, resource: &str, name: Option<&str>) -> String {
    let parts = [Some(group), namespace.map(|_| "namespaces"), namespace, Some(resource), name];
    parts.into_iter().flatten().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_paths_of_the_api() {
        assert_eq!(id("", Some("default"), "secrets", Some("db")), "namespaces/default/secrets/db");
        assert_eq!(
            id(RBAC, None, "clusterroles", Some("admin")),
            "rbac.authorization.k8s.io/clusterroles/admin"
        );
        assert_eq!(id("", None, "secrets", None), "secrets");
    }
}
