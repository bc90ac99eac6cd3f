//! What was done with a key: one vocabulary over all sources.

/// Action class of key management (`keytrail.action.class`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ActionClass {
    /// A key, key pair or key version comes into being.
    Create,
    /// Key material made elsewhere comes in.
    Import,
    /// A new version replaces an old one.
    Rotate,
    /// A key becomes usable.
    Enable,
    /// A key stops being usable, reversibly.
    Disable,
    /// Destruction is planned.
    ScheduleDeletion,
    /// A planned destruction is called off.
    CancelDeletion,
    /// Key material is gone.
    Destroy,
    /// Data is encrypted.
    Encrypt,
    /// Data is decrypted; re-encryption is the source's decrypt and the target's encrypt in one.
    Decrypt,
    /// A signature is made.
    Sign,
    /// A signature or MAC is checked.
    Verify,
    /// A key is wrapped by another.
    Wrap,
    /// A wrapped key is opened.
    Unwrap,
    /// A key or secret is derived or agreed.
    Derive,
    /// A data key is made and returned.
    GenerateDataKey,
    /// A message authentication code is made.
    Mac,
    /// Key material or a secret's value leaves the boundary.
    Export,
    /// Who may do what with a key changes.
    PolicyChange,
    /// A grant or delegated permission is made, retired or revoked.
    Grant,
    /// A name starts, stops or changes pointing at a key.
    AliasChange,
    /// Metadata is read.
    Access,
    /// The key service itself is administered.
    Administer,
    /// Recording itself is started, stopped or changed.
    AuditControl,
}

impl ActionClass {
    /// All classes, in the order of the documentation.
    pub const ALL: [Self; 24] = [
        Self::Create,
        Self::Import,
        Self::Rotate,
        Self::Enable,
        Self::Disable,
        Self::ScheduleDeletion,
        Self::CancelDeletion,
        Self::Destroy,
        Self::Encrypt,
        Self::Decrypt,
        Self::Sign,
        Self::Verify,
        Self::Wrap,
        Self::Unwrap,
        Self::Derive,
        Self::GenerateDataKey,
        Self::Mac,
        Self::Export,
        Self::PolicyChange,
        Self::Grant,
        Self::AliasChange,
        Self::Access,
        Self::Administer,
        Self::AuditControl,
    ];

    /// The name as archived, e.g. `schedule-deletion`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Import => "import",
            Self::Rotate => "rotate",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::ScheduleDeletion => "schedule-deletion",
            Self::CancelDeletion => "cancel-deletion",
            Self::Destroy => "destroy",
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
            Self::Derive => "derive",
            Self::GenerateDataKey => "generate-data-key",
            Self::Mac => "mac",
            Self::Export => "export",
            Self::PolicyChange => "policy-change",
            Self::Grant => "grant",
            Self::AliasChange => "alias-change",
            Self::Access => "access",
            Self::Administer => "administer",
            Self::AuditControl => "audit-control",
        }
    }
}
