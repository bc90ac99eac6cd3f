//! What an operation means: its action class, and what it does where it has none.
//!
//! Source: the tables of operation names of "Azure Key Vault logging", and the operations that "Managed
//! HSM logging" lists. A name that the table does not have yet is `administer` when it changes something,
//! else `access`.

use keytrail_model::ActionClass::{self, *};

/// The class of an operation; `None` for sign-ins and for notices that are no operations.
pub(super) fn class(name: &str) -> Option<ActionClass> {
    if name == "Authentication" || name.ends_with("EventGridNotification") {
        return None;
    }
    Some(match name {
        "KeyCreate" | "SecretSet" | "CertificateCreate" | "CertificateEnroll" => Create,
        "KeyImport"
        | "KeyRestore"
        | "SecretRestore"
        | "CertificateImport"
        | "CertificatePendingMerge"
        | "CertificateRestore"
        | "SecurityDomainUpload"
        | "SecurityDomainRestore" => Import,
        "KeyRotate" | "KeyRotateIfDue" | "CertificateRenew" => Rotate,
        "KeySign" => Sign,
        "KeyVerify" => Verify,
        "KeyWrap" => Wrap,
        "KeyUnwrap" => Unwrap,
        "KeyEncrypt" => Encrypt,
        "KeyDecrypt" => Decrypt,
        // A backup holds the material; a release hands it to an enclave.
        "KeyBackup"
        | "KeyRelease"
        | "SecretGet"
        | "SecretBackup"
        | "CertificateBackup"
        | "SecurityDomainDownload" => Export,
        // What is deleted can be recovered until it is purged.
        "KeyDelete" | "SecretDelete" | "CertificateDelete" | "VaultDelete" => ScheduleDeletion,
        "KeyRecover" | "SecretRecover" | "CertificateRecover" | "VaultRecover" => CancelDeletion,
        "KeyPurge" | "SecretPurge" | "CertificatePurge" | "VaultPurge" => Destroy,
        _ if name.starts_with("Role") && !reads(name) => PolicyChange,
        _ if name.starts_with("Backup") && !reads(name) => Export,
        _ if name.starts_with("Restore") && !reads(name) => Import,
        _ if reads(name) => Access,
        _ => Administer,
    })
}

/// Whether an operation reads: `SecretGet`, `KeyListVersions`, `CertificateIssuersList`.
pub(super) fn reads(name: &str) -> bool {
    ["Get", "List"].iter().any(|verb| {
        name.match_indices(verb).any(|(at, _)| {
            // A whole word of the name: `Target` is none.
            name[at + verb.len()..].chars().next().is_none_or(char::is_uppercase)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletion_is_reversible_until_the_purge() {
        assert_eq!(class("KeyDelete"), Some(ScheduleDeletion));
        assert_eq!(class("KeyRecover"), Some(CancelDeletion));
        assert_eq!(class("KeyPurge"), Some(Destroy));
    }

    #[test]
    fn values_leave_by_reads_of_secrets_alone() {
        assert_eq!(class("SecretGet"), Some(Export));
        for name in ["KeyGet", "CertificateGet", "SecretList", "SecretGetDeleted", "CertificateIssuersList"] {
            assert_eq!(class(name), Some(Access), "{name}");
        }
        assert_eq!(class("Authentication"), None);
        assert_eq!(class("KeyNearExpiryEventGridNotification"), None);
        assert_eq!(class("VaultPatch"), Some(Administer));
        assert_eq!(class("RoleAssignmentCreate"), Some(PolicyChange));
        assert_eq!(class("RoleAssignmentsList"), Some(Access));
        assert!(!reads("KeyTargetUpdate") && !reads("Budgetary"));
    }
}
