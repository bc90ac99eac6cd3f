//! Principals: who is behind an ARN, a user name, an e-mail, an entity of Vault.

use crate::fields::Fields;
use crate::validity::Validity;

/// A row of the table of principals.
#[derive(Clone, PartialEq, Debug)]
pub struct Principal {
    /// What sources call it, each as `folded` has it.
    pub names: Vec<Box<str>>,
    /// Account in which it is known by them.
    pub account: Option<Box<str>>,
    /// Dataset in which it is known by them.
    pub dataset: Option<Box<str>>,
    /// Person or workload behind it.
    pub person: Option<Box<str>>,
    /// Team.
    pub team: Option<Box<str>>,
    /// Role in the organization.
    pub role: Option<Box<str>>,
    /// It may do what others may not.
    pub privileged: Option<bool>,
    /// It is a service, no person.
    pub service: Option<bool>,
    /// When the row holds.
    pub validity: Validity,
}

impl Principal {
    pub(crate) fn read(fields: &mut Fields<'_>, default: Validity) -> Option<Self> {
        let mut names: Vec<Box<str>> =
            fields.texts("principal").into_iter().map(|n| folded(n).into_owned().into()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            fields.problem("principal", "missing, expected an ARN, a user name, an e-mail or another id");
        }
        let principal = Self {
            account: fields.owned("account"),
            dataset: fields.owned("dataset"),
            person: fields.owned("person"),
            team: fields.owned("team"),
            role: fields.owned("role"),
            privileged: fields.flag("privileged"),
            service: fields.flag("service"),
            validity: fields.validity(default),
            names,
        };
        (!principal.names.is_empty()).then_some(principal)
    }
}

/// A name as it is compared: e-mail addresses and UUIDs in lower case, for nobody tells them apart by it;
/// everything else (IAM, Vault, Kubernetes) as it stands.
pub(crate) fn folded(name: &str) -> std::borrow::Cow<'_, str> {
    if ignores_case(name) && name.bytes().any(|b| b.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}

/// Whether case says nothing in such a name.
pub(crate) fn ignores_case(name: &str) -> bool {
    let b = name.as_bytes();
    let is_uuid = b.len() == 36 && b[8] == b'-' && b[13] == b'-' && b[18] == b'-' && b[23] == b'-';
    is_uuid || (b.contains(&b'@') && !b.contains(&b'/') && !b.contains(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_counts_but_in_addresses_and_uuids() {
        assert_eq!(folded("Alice@Example.com"), "alice@example.com");
        assert_eq!(folded("D9DA5048-2737-4770-BD64-1234567890AB"), "d9da5048-2737-4770-bd64-1234567890ab");
        for same in ["Alice", "arn:aws:iam::111122223333:user/Alice", "arn:aws:sts::1:assumed-role/R/A@B.c"] {
            assert_eq!(folded(same), same);
        }
    }
}
