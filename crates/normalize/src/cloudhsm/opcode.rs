//! What the HSM's commands do, by the table of "AWS CloudHSM audit log reference".

use keytrail_model::{ActionClass, AuditEvent, Column};

use crate::category::classify;

/// What an opcode stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// A user logs in.
    Login,
    /// A user logs out.
    Logout,
    /// A connection or session ends without that.
    SessionEnd,
    /// Users of the HSM: with the `event.type` beside `user`.
    User(&'static str),
    /// A command on keys or on the HSM.
    Class(ActionClass),
    /// An opcode that the reference does not list.
    Unknown,
}

/// The effect of an opcode's name.
pub(super) fn effect(opcode: &str) -> Effect {
    use ActionClass as C;
    use Effect as E;
    match opcode {
        "CN_LOGIN" => E::Login,
        "CN_LOGOUT" => E::Logout,
        "CN_APP_FINALIZE" | "CN_CLOSE_SESSION" | "CN_CLOSE_PARTITION_SESSIONS" => E::SessionEnd,
        "CN_CREATE_USER" | "CN_CREATE_CO" | "CN_CREATE_APPLIANCE_USER" => E::User("creation"),
        "CN_DELETE_USER" => E::User("deletion"),
        "CN_CHANGE_PSWD" => E::User("change"),
        // How many must agree to a command, and their agreement.
        "CN_SET_M_VALUE" => E::Class(C::PolicyChange),
        "CN_APPROVE_TOKEN" | "CN_DELETE_TOKEN" | "CN_GET_TOKEN" => E::Class(C::Grant),
        "CN_GENERATE_KEY" | "CN_GENERATE_KEY_PAIR" | "CN_GEN_KEY_ENC_KEY" | "CN_GEN_PSWD_ENC_KEY" => {
            E::Class(C::Create)
        }
        // Keys come from another HSM of the cluster, and go to it, as masked objects.
        "CN_CREATE_OBJECT" | "CN_INSERT_MASKED_OBJECT_USER" => E::Class(C::Import),
        "CN_EXTRACT_MASKED_OBJECT_USER" => E::Class(C::Export),
        // Attributes say what a key may be used for.
        "CN_MODIFY_OBJECT" => E::Class(C::PolicyChange),
        "CN_DESTROY_OBJECT" | "CN_TOMBSTONE_OBJECT" | "CN_ZEROIZE" => E::Class(C::Destroy),
        "CN_SHARE_OBJECT" => E::Class(C::Grant),
        "CN_WRAP_KEY" | "CN_NIST_AES_WRAP" => E::Class(C::Wrap),
        "CN_UNWRAP_KEY" => E::Class(C::Unwrap),
        "CN_DERIVE_KEY" => E::Class(C::Derive),
        "CN_BACKUP_BEGIN"
        | "CN_BACKUP_END"
        | "CN_RESTORE_BEGIN"
        | "CN_RESTORE_END"
        | "CN_CLONE_SOURCE_INIT"
        | "CN_CLONE_SOURCE_STAGE1"
        | "CN_CLONE_TARGET_INIT"
        | "CN_CLONE_TARGET_STAGE1"
        | "CN_CERT_AUTH_STORE_CERT"
        | "CN_CERT_AUTH_VALIDATE_PEER_CERTS"
        | "CN_CERT_AUTH_SOURCE_KEY_EXCHANGE"
        | "CN_CERT_AUTH_TARGET_KEY_EXCHANGE"
        | "CN_INIT_TOKEN"
        | "CN_INIT_DONE"
        | "CN_STORE_KBK_SHARE"
        | "CN_SET_NODEID" => E::Class(C::Administer),
        _ => E::Unknown,
    }
}

impl Effect {
    /// Whether the record's user is the one that was acted on.
    pub fn is_of_user(self) -> bool {
        matches!(self, Self::User(_))
    }

    /// Sets `keytrail.action.class`, `event.category` and `event.type`.
    pub fn classify(self, e: &mut AuditEvent<'_>) {
        let (category, kinds): (_, &[_]) = match self {
            Self::Login => ("authentication", &["start"]),
            Self::Logout => ("authentication", &["end"]),
            Self::SessionEnd => ("session", &["end"]),
            Self::User(kind) => {
                e.text(Column::KeytrailActionClass, ActionClass::Administer.name());
                ("iam", &["user", kind])
            }
            Self::Class(class) => return classify(e, Some(class)),
            Self::Unknown => return classify(e, None),
        };
        e.add(Column::EventCategory, category);
        for kind in kinds {
            e.add(Column::EventType, *kind);
        }
    }
}
