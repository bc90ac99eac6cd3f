//! What a request means: its action class, and what it does where it has none.
//!
//! Sources: the API reference of Kubernetes (Secret, TokenRequest, CertificateSigningRequest, the kinds of
//! RBAC) and "Authorization" of its documentation for verbs. GKE's entries in Cloud Audit Logs name the
//! same resources and verbs, and are classed by the same table.

use keytrail_model::ActionClass::{self, *};

use crate::category::Effect;

/// API group of roles and bindings.
pub(crate) const RBAC: &str = "rbac.authorization.k8s.io";

/// Whether a verb reads. A `get` of a connection (`pods/exec`) does not.
pub(crate) fn reads(verb: &str, subresource: &str) -> bool {
    matches!(verb, "get" | "list" | "watch" | "head" | "options") && !connects(subresource)
}

/// Subresources that open a connection into a workload.
fn connects(subresource: &str) -> bool {
    matches!(subresource, "exec" | "attach" | "portforward" | "proxy")
}

/// What a request without a class does.
pub(crate) fn effect(verb: &str, subresource: &str) -> Effect {
    match verb {
        _ if connects(subresource) => Effect::Read,
        "create" | "post" => Effect::Create,
        "update" | "patch" | "put" => Effect::Change,
        "delete" | "deletecollection" => Effect::Delete,
        _ => Effect::Read,
    }
}

/// The class of a request; `None` outside of secrets, credentials, certificates and permissions.
pub(crate) fn class(group: &str, resource: &str, subresource: &str, verb: &str) -> Option<ActionClass> {
    let reads = reads(verb, subresource);
    let or_access = |class| if reads { Access } else { class };
    Some(match (group, resource) {
        ("", "secrets") => match verb {
            // A list or watch answers with the values, too.
            "get" | "list" | "watch" => Export,
            "create" => Create,
            "update" | "patch" => Rotate,
            "delete" | "deletecollection" => Destroy,
            _ => return None,
        },
        ("", "serviceaccounts") if subresource == "token" => or_access(Grant),
        ("", "serviceaccounts") => or_access(PolicyChange),
        ("certificates.k8s.io", "certificatesigningrequests") => match subresource {
            "approval" => or_access(Grant),
            // The signer writes the certificate into the status.
            "status" => or_access(Sign),
            _ => or_access(Administer),
        },
        (RBAC, "roles" | "clusterroles") => or_access(PolicyChange),
        (RBAC, "rolebindings" | "clusterrolebindings") => or_access(Grant),
        // Reviews: questions that are asked by writes.
        ("authentication.k8s.io" | "authorization.k8s.io", _) => Access,
        ("auditregistration.k8s.io", "auditsinks") => or_access(AuditControl),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_by_reads_and_lists() {
        for verb in ["get", "list", "watch"] {
            assert_eq!(class("", "secrets", "", verb), Some(Export), "{verb}");
        }
        assert_eq!(class("", "secrets", "", "deletecollection"), Some(Destroy));
        // A kind of the same name in another group is another thing.
        assert_eq!(class("example.com", "secrets", "", "get"), None);
    }

    #[test]
    fn permissions_are_told_from_questions() {
        assert_eq!(class(RBAC, "clusterrolebindings", "", "create"), Some(Grant));
        assert_eq!(class(RBAC, "roles", "", "list"), Some(Access));
        assert_eq!(
            class("certificates.k8s.io", "certificatesigningrequests", "approval", "update"),
            Some(Grant)
        );
        assert_eq!(class("", "serviceaccounts", "token", "create"), Some(Grant));
        assert_eq!(class("authorization.k8s.io", "subjectaccessreviews", "", "create"), Some(Access));
        assert_eq!(class("", "pods", "exec", "create"), None);
        assert_eq!(effect("get", "exec"), Effect::Read);
        assert!(!reads("get", "exec"));
    }
}
