//! ECS categories and types of an action class, the same for every source whose records are calls.
//!
//! All of them are calls of an API, so `api` stands first; it also is the one category whose expected
//! types hold `allowed`, `denied` and `admin` (ECS 9.4, allowed values of `event.category`).

use keytrail_model::{ActionClass, AuditEvent, Column};

/// Sets `keytrail.action.class`, `event.category` and `event.type`. A call without a class is `api`
/// and `info`.
pub(crate) fn classify(event: &mut AuditEvent<'_>, class: Option<ActionClass>) {
    event.add(Column::EventCategory, "api");
    let Some(class) = class else {
        event.add(Column::EventType, "info");
        return;
    };
    event.text(Column::KeytrailActionClass, class.name());
    use ActionClass as C;
    let (category, kinds): (Option<&str>, &[&str]) = match class {
        C::Create | C::Import => (Some("configuration"), &["creation"]),
        C::Rotate
        | C::Enable
        | C::Disable
        | C::ScheduleDeletion
        | C::CancelDeletion
        | C::AliasChange
        | C::Administer
        | C::AuditControl => (Some("configuration"), &["change"]),
        C::Destroy => (Some("configuration"), &["deletion"]),
        C::PolicyChange | C::Grant => (Some("iam"), &["admin", "change"]),
        C::Encrypt
        | C::Decrypt
        | C::Sign
        | C::Verify
        | C::Wrap
        | C::Unwrap
        | C::Derive
        | C::GenerateDataKey
        | C::Mac
        | C::Export
        | C::Access => (None, &["access"]),
    };
    if let Some(category) = category {
        event.add(Column::EventCategory, category);
    }
    for kind in kinds {
        event.add(Column::EventType, *kind);
    }
}

/// What a call does that has no action class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    Read,
    Create,
    Change,
    Delete,
}

/// As [`classify`], where a call without a class says at least what it does.
pub(crate) fn classify_or(event: &mut AuditEvent<'_>, class: Option<ActionClass>, effect: Effect) {
    if class.is_some() {
        return classify(event, class);
    }
    event.add(Column::EventCategory, "api");
    let kind = match effect {
        Effect::Read => "access",
        Effect::Create => "creation",
        Effect::Change => "change",
        Effect::Delete => "deletion",
    };
    if effect != Effect::Read {
        event.add(Column::EventCategory, "configuration");
    }
    event.add(Column::EventType, kind);
}
