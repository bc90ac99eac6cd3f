//! What an API call means: its action class of key management, and the ECS category and type of calls
//! that have none.
//!
//! Sources: the API references of AWS KMS, Secrets Manager, CloudHSM v2, AWS Private CA and CloudTrail,
//! and the service events that their guides list. A call of theirs that the table does not have yet is
//! `administer` when it changes something, else `access`.

use keytrail_model::ActionClass::{self, *};

/// Services whose calls have a meaning for keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Service {
    Kms,
    SecretsManager,
    CloudHsm,
    PrivateCa,
    CloudTrail,
    Iam,
    SignIn,
    Sts,
    Other,
}

impl Service {
    /// The service of an `eventSource`.
    pub fn of(source: &str) -> Self {
        match source.strip_suffix(".amazonaws.com").unwrap_or(source) {
            "kms" => Self::Kms,
            "secretsmanager" => Self::SecretsManager,
            "cloudhsm" | "cloudhsmv2" => Self::CloudHsm,
            "acm-pca" => Self::PrivateCa,
            "cloudtrail" => Self::CloudTrail,
            "iam" => Self::Iam,
            "signin" => Self::SignIn,
            "sts" => Self::Sts,
            _ => Self::Other,
        }
    }

    /// Whether its calls act on keys or secrets.
    pub fn holds_keys(self) -> bool {
        matches!(self, Self::Kms | Self::SecretsManager | Self::CloudHsm | Self::PrivateCa)
    }
}

/// The class of a call; `None` outside key management and audit control.
pub(super) fn class(service: Service, action: &str, read_only: bool) -> Option<ActionClass> {
    let known = match service {
        Service::Kms => kms(action),
        Service::SecretsManager => secrets_manager(action),
        Service::CloudHsm => cloud_hsm(action),
        Service::PrivateCa => private_ca(action),
        Service::CloudTrail => return (!read_only).then_some(AuditControl),
        _ => return None,
    };
    Some(known.unwrap_or(if read_only { Access } else { Administer }))
}

fn kms(action: &str) -> Option<ActionClass> {
    Some(match action {
        "CancelKeyDeletion" => CancelDeletion,
        "ConnectCustomKeyStore"
        | "CreateCustomKeyStore"
        | "DeleteCustomKeyStore"
        | "DisconnectCustomKeyStore"
        | "UpdateCustomKeyStore"
        | "DisableKeyRotation"
        | "EnableKeyRotation"
        | "SynchronizeMultiRegionKey"
        | "TagResource"
        | "UntagResource"
        | "UpdateKeyDescription"
        | "UpdatePrimaryRegion" => Administer,
        "CreateAlias" | "DeleteAlias" | "UpdateAlias" => AliasChange,
        "CreateGrant" | "RetireGrant" | "RevokeGrant" => Grant,
        "CreateKey" | "ReplicateKey" => Create,
        "Decrypt" | "ReEncrypt" => Decrypt,
        "DeleteImportedKeyMaterial" | "DeleteExpiredKeyMaterial" | "DeleteKey" => Destroy,
        "DeriveSharedSecret" => Derive,
        "DisableKey" => Disable,
        "EnableKey" => Enable,
        "Encrypt" => Encrypt,
        "GenerateDataKey"
        | "GenerateDataKeyPair"
        | "GenerateDataKeyPairWithoutPlaintext"
        | "GenerateDataKeyWithoutPlaintext" => GenerateDataKey,
        "GenerateMac" => Mac,
        "ImportKeyMaterial" => Import,
        "PutKeyPolicy" => PolicyChange,
        "RotateKey" | "RotateKeyOnDemand" => Rotate,
        "ScheduleKeyDeletion" => ScheduleDeletion,
        "Sign" => Sign,
        "Verify" | "VerifyMac" => Verify,
        // A public key is no secret, and GenerateRandom makes no key.
        "DescribeCustomKeyStores"
        | "DescribeKey"
        | "GenerateRandom"
        | "GetKeyPolicy"
        | "GetKeyRotationStatus"
        | "GetParametersForImport"
        | "GetPublicKey"
        | "ListAliases"
        | "ListGrants"
        | "ListKeyPolicies"
        | "ListKeyRotations"
        | "ListKeys"
        | "ListResourceTags"
        | "ListRetirableGrants" => Access,
        _ => return None,
    })
}

fn secrets_manager(action: &str) -> Option<ActionClass> {
    Some(match action {
        "BatchGetSecretValue" | "GetSecretValue" => Export,
        "CreateSecret" => Create,
        "PutSecretValue"
        | "RotateSecret"
        | "UpdateSecretVersionStage"
        | "RotationStarted"
        | "RotationSucceeded"
        | "RotationFailed"
        | "RotationAbandoned"
        | "TestRotationStarted"
        | "TestRotationSucceeded"
        | "TestRotationFailed" => Rotate,
        "DeleteSecret" => ScheduleDeletion,
        "RestoreSecret" | "CancelSecretVersionDelete" => CancelDeletion,
        "StartSecretVersionDelete" => ScheduleDeletion,
        "EndSecretVersionDelete" | "SecretVersionDeletion" => Destroy,
        "PutResourcePolicy" | "DeleteResourcePolicy" => PolicyChange,
        "ReplicateSecretToRegions" => Create,
        "CancelRotateSecret"
        | "RemoveRegionsFromReplication"
        | "StopReplicationToReplica"
        | "TagResource"
        | "UntagResource"
        | "UpdateSecret" => Administer,
        "DescribeSecret"
        | "GetRandomPassword"
        | "GetResourcePolicy"
        | "ListSecretVersionIds"
        | "ListSecrets"
        | "ValidateResourcePolicy" => Access,
        _ => return None,
    })
}

fn cloud_hsm(action: &str) -> Option<ActionClass> {
    Some(match action {
        "PutResourcePolicy" | "DeleteResourcePolicy" => PolicyChange,
        "DescribeBackups" | "DescribeClusters" | "GetResourcePolicy" | "ListTags" => Access,
        "CopyBackupToRegion"
        | "CreateCluster"
        | "CreateHsm"
        | "DeleteBackup"
        | "DeleteCluster"
        | "DeleteHsm"
        | "InitializeCluster"
        | "ModifyBackupAttributes"
        | "ModifyCluster"
        | "RestoreBackup"
        | "TagResource"
        | "UntagResource" => Administer,
        _ => return None,
    })
}

fn private_ca(action: &str) -> Option<ActionClass> {
    Some(match action {
        "CreateCertificateAuthority" => Create,
        "DeleteCertificateAuthority" => ScheduleDeletion,
        "RestoreCertificateAuthority" => CancelDeletion,
        "IssueCertificate" => Sign,
        "CreatePermission" | "DeletePermission" => Grant,
        "PutPolicy" | "DeletePolicy" => PolicyChange,
        "ImportCertificateAuthorityCertificate"
        | "RevokeCertificate"
        | "TagCertificateAuthority"
        | "UntagCertificateAuthority"
        | "UpdateCertificateAuthority" => Administer,
        "CreateCertificateAuthorityAuditReport"
        | "DescribeCertificateAuthority"
        | "DescribeCertificateAuthorityAuditReport"
        | "GetCertificate"
        | "GetCertificateAuthorityCertificate"
        | "GetCertificateAuthorityCsr"
        | "GetPolicy"
        | "ListCertificateAuthorities"
        | "ListPermissions"
        | "ListTags" => Access,
        _ => return None,
    })
}

/// What a call does to its object, by the verb that its name starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Read,
    Create,
    Delete,
    Change,
}

impl Verb {
    /// The verb of a call. `read_only` is the producer's own word, which versions before 1.05 lack.
    pub fn of(action: &str, read_only: Option<bool>) -> Self {
        const READ: [&str; 14] = [
            "Get", "List", "Describe", "Head", "Lookup", "Search", "BatchGet", "Query", "Scan", "View",
            "Check", "Validate", "Detect", "Preview",
        ];
        const CREATE: [&str; 7] = ["Create", "Run", "Allocate", "Register", "Import", "Copy", "Replicate"];
        const DELETE: [&str; 8] =
            ["Delete", "Terminate", "Deregister", "Release", "Remove", "Purge", "Revoke", "Retire"];
        let starts = |verbs: &[&str]| verbs.iter().any(|v| action.starts_with(v));
        match read_only {
            Some(true) => Self::Read,
            None if starts(&READ) => Self::Read,
            _ if starts(&CREATE) => Self::Create,
            _ if starts(&DELETE) => Self::Delete,
            _ => Self::Change,
        }
    }

    /// The ECS `event.type`.
    pub fn ecs_type(self) -> &'static str {
        match self {
            Self::Read => "access",
            Self::Create => "creation",
            Self::Delete => "deletion",
            Self::Change => "change",
        }
    }
}

/// `event.category` and `event.type` of a call that has no class. Empty entries are none.
pub(super) fn categorize(
    service: Service,
    action: &str,
    verb: Verb,
) -> ([&'static str; 2], [&'static str; 2]) {
    match service {
        Service::SignIn => match action {
            "ConsoleLogin" | "UserAuthentication" | "SwitchRole" | "RenewRole" => {
                (["authentication", ""], ["start", ""])
            }
            "ExitRole" | "Logout" => (["authentication", ""], ["end", ""]),
            _ => (["authentication", ""], ["info", ""]),
        },
        Service::Sts
            if action.starts_with("AssumeRo")
                || matches!(action, "GetFederationToken" | "GetSessionToken") =>
        {
            (["authentication", ""], ["start", ""])
        }
        Service::Iam => {
            let users = ["User", "LoginProfile", "AccessKey", "MFADevice"];
            let about = match action {
                _ if action.contains("Group") => "group",
                _ if users.iter().any(|name| action.contains(name)) => "user",
                _ => "",
            };
            (["api", "iam"], [verb.ecs_type(), about])
        }
        _ if verb == Verb::Read => (["api", ""], ["access", ""]),
        _ => (["api", "configuration"], [verb.ecs_type(), ""]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_table_lacks_is_judged_by_what_it_changes() {
        assert_eq!(class(Service::Kms, "UpdateEverything", false), Some(Administer));
        assert_eq!(class(Service::Kms, "GetEverything", true), Some(Access));
        assert_eq!(class(Service::CloudTrail, "StopLogging", false), Some(AuditControl));
        assert_eq!(class(Service::CloudTrail, "LookupEvents", true), None);
        assert_eq!(class(Service::Other, "RunInstances", false), None);
    }

    #[test]
    fn verbs_of_old_records_come_from_the_name() {
        assert_eq!(Verb::of("DescribeInstances", None), Verb::Read);
        assert_eq!(Verb::of("CreateVolume", None), Verb::Create);
        assert_eq!(Verb::of("GetSecretValue", Some(false)), Verb::Change);
        assert_eq!(Verb::of("StopLogging", None), Verb::Change);
    }
}
