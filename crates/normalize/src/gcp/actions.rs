//! What a method means: its action class, and what it does where it has none.
//!
//! Sources: "Audit logging" of Cloud KMS, Secret Manager, Certificate Authority Service, Cloud Logging and
//! GKE, which list their methods. A method of the first three that the table does not have yet is
//! `administer` when it changes something, else `access`.

use keytrail_model::ActionClass::{self, *};

use crate::category::Effect;
use crate::kubernetes::actions as kubernetes;

/// Services whose calls have a meaning for keys, secrets or the recording itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Service {
    Kms,
    SecretManager,
    PrivateCa,
    Logging,
    /// Projects, folders and organizations, whose policies hold for the keys in them.
    ResourceManager,
    Kubernetes,
    Other,
}

impl Service {
    /// The service of a `serviceName`.
    pub fn of(name: &str) -> Self {
        match name.strip_suffix(".googleapis.com").unwrap_or(name) {
            "cloudkms" => Self::Kms,
            "secretmanager" => Self::SecretManager,
            "privateca" => Self::PrivateCa,
            "logging" => Self::Logging,
            "cloudresourcemanager" => Self::ResourceManager,
            "k8s.io" => Self::Kubernetes,
            _ => Self::Other,
        }
    }
}

/// The name of a method without its package and service.
pub(super) fn short(method: &str) -> &str {
    method.rsplit_once('.').map_or(method, |(_, name)| name)
}

/// Whether a method reads, by its name.
pub(super) fn reads(name: &str) -> bool {
    let name = name.as_bytes();
    [&b"Get"[..], b"List", b"Search", b"Fetch", b"Lookup", b"Query", b"Show", b"Test", b"Verify", b"Watch"]
        .iter()
        .any(|verb| name.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb)))
}

/// What a method without a class does, by its name.
pub(super) fn effect(name: &str) -> Effect {
    let starts = |verbs: &[&str]| {
        verbs.iter().any(|verb| {
            name.as_bytes().get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb.as_bytes()))
        })
    };
    if reads(name) {
        Effect::Read
    } else if starts(&["Create", "Insert", "Add", "Upload", "Generate", "Import"]) {
        Effect::Create
    } else if starts(&["Delete", "Destroy", "Remove", "Purge"]) {
        Effect::Delete
    } else if starts(&[
        "Update", "Patch", "Set", "Disable", "Enable", "Undelete", "Move", "Modify", "Replace",
    ]) {
        Effect::Change
    } else {
        Effect::Read
    }
}

/// The class of a method; `None` outside of the services that hold keys or records.
pub(super) fn class(service: Service, name: &str) -> Option<ActionClass> {
    let known = match service {
        Service::Kms => kms(name),
        Service::SecretManager => secret_manager(name),
        Service::PrivateCa => private_ca(name),
        Service::Logging => {
            // Of log data there is more to read than to change; sinks, buckets and exclusions are the recording.
            return if reads(name) || matches!(name, "WriteLogEntries" | "TailLogEntries") {
                None
            } else {
                Some(AuditControl)
            };
        }
        Service::ResourceManager => return (name == "SetIamPolicy").then_some(PolicyChange),
        Service::Kubernetes | Service::Other => return None,
    };
    Some(known.unwrap_or(if reads(name) { Access } else { Administer }))
}

fn kms(name: &str) -> Option<ActionClass> {
    Some(match name {
        "AsymmetricDecrypt" | "Decrypt" | "RawDecrypt" => Decrypt,
        "AsymmetricSign" => Sign,
        "CreateCryptoKey" | "CreateCryptoKeyVersion" | "CreateKeyHandle" => Create,
        "Decapsulate" => Derive,
        "DeleteCryptoKey" | "DeleteCryptoKeyVersion" => Destroy,
        "DestroyCryptoKeyVersion" => ScheduleDeletion,
        "Encrypt" | "RawEncrypt" => Encrypt,
        "ImportCryptoKeyVersion" => Import,
        "MacSign" => Mac,
        "MacVerify" => Verify,
        "RestoreCryptoKeyVersion" => CancelDeletion,
        "SetIamPolicy" => PolicyChange,
        "UpdateCryptoKeyPrimaryVersion" => Rotate,
        // Random bytes are no key, and connectivity is no signature.
        "GenerateRandomBytes" | "VerifyConnectivity" => Access,
        _ => return None,
    })
}

fn secret_manager(name: &str) -> Option<ActionClass> {
    Some(match name {
        "AccessSecretVersion" => Export,
        "AddSecretVersion" => Rotate,
        "CreateSecret" => Create,
        "DeleteSecret" | "DestroySecretVersion" => Destroy,
        "DisableSecretVersion" => Disable,
        "EnableSecretVersion" => Enable,
        "SetIamPolicy" => PolicyChange,
        _ => return None,
    })
}

fn private_ca(name: &str) -> Option<ActionClass> {
    Some(match name {
        "CreateCertificate" => Sign,
        "CreateCertificateAuthority" => Create,
        "DeleteCertificateAuthority" => ScheduleDeletion,
        "DisableCertificateAuthority" => Disable,
        "EnableCertificateAuthority" => Enable,
        "UndeleteCertificateAuthority" => CancelDeletion,
        "SetIamPolicy" => PolicyChange,
        _ => return None,
    })
}

/// A request to a cluster of GKE, `io.k8s.<group>.<version>.<resource>[.<subresource>].<verb>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request<'m> {
    group: &'m str,
    pub resource: &'m str,
    pub subresource: &'m str,
    pub verb: &'m str,
}

impl<'m> Request<'m> {
    /// The request that a method name is.
    pub fn of(method: &'m str) -> Option<Self> {
        let rest = method.strip_prefix("io.k8s.")?;
        let is_version =
            |part: &str| part.strip_prefix('v').is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
        let version = rest.split('.').find(|part| is_version(part))?;
        let (group, behind) = rest.split_once(&format!(".{version}."))?;
        let mut parts = behind.split('.');
        let (resource, second, third) = (parts.next()?, parts.next()?, parts.next());
        let (subresource, verb) = third.map_or(("", second), |verb| (second, verb));
        // The names of groups are shortened.
        let group = match group {
            "core" => "",
            "authorization.rbac" => kubernetes::RBAC,
            "certificates" => "certificates.k8s.io",
            "authentication" => "authentication.k8s.io",
            "authorization" => "authorization.k8s.io",
            other => other,
        };
        parts.next().is_none().then_some(Self { group, resource, subresource, verb })
    }

    pub fn class(self) -> Option<ActionClass> {
        kubernetes::class(self.group, self.resource, self.subresource, self.verb)
    }

    pub fn effect(self) -> Effect {
        kubernetes::effect(self.verb, self.subresource)
    }

    /// Whether the object is a Secret.
    pub fn of_secret(self) -> bool {
        self.group.is_empty() && self.resource == "secrets"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_classes_by_their_short_names() {
        for (service, method, want) in [
            (Service::Kms, "Decrypt", Some(Decrypt)),
            (
                Service::Kms,
                "google.cloud.kms.v1.KeyManagementService.DestroyCryptoKeyVersion",
                Some(ScheduleDeletion),
            ),
            (Service::Kms, "GetCryptoKey", Some(Access)),
            (Service::Kms, "CreateKeyRing", Some(Administer)),
            (
                Service::SecretManager,
                "google.cloud.secrets.v1beta1.SecretManagerService.AccessSecretVersion",
                Some(Export),
            ),
            (Service::SecretManager, "google.cloud.location.Locations.ListLocations", Some(Access)),
            (Service::Logging, "google.logging.v2.ConfigServiceV2.DeleteSink", Some(AuditControl)),
            (Service::Logging, "google.logging.v2.ConfigServiceV2.ListSinks", None),
            (Service::Other, "beta.compute.networks.insert", None),
        ] {
            assert_eq!(class(service, short(method)), want, "{method}");
        }
        assert_eq!(effect("insert"), Effect::Create);
        assert_eq!(effect("SetIamPolicy"), Effect::Change);
        assert_eq!(effect("jobcompleted"), Effect::Read);
    }

    #[test]
    fn requests_to_clusters_are_told_from_their_method() {
        let request = Request::of("io.k8s.core.v1.secrets.get").unwrap();
        assert_eq!((request.class(), request.of_secret()), (Some(Export), true));
        let request = Request::of("io.k8s.authorization.rbac.v1.clusterrolebindings.create").unwrap();
        assert_eq!(request.class(), Some(Grant));
        let request =
            Request::of("io.k8s.certificates.v1.certificatesigningrequests.approval.update").unwrap();
        assert_eq!((request.subresource, request.class()), ("approval", Some(Grant)));
        for other in
            ["io.k8s.core.v1", "io.k8s.core.v1.a.b.c.d", "google.container.v1.ClusterManager.GetCluster", ""]
        {
            assert_eq!(Request::of(other), None, "{other}");
        }
    }
}
