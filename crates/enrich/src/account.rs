//! Cloud accounts: what they are called, which environment they are, who owns them.

use crate::fields::Fields;
use crate::validity::Validity;

/// A row of the table of accounts.
#[derive(Clone, PartialEq, Debug)]
pub struct Account {
    /// AWS account, Google Cloud project or organization, Azure subscription, in lower case.
    pub id: Box<str>,
    /// Its name.
    pub name: Option<Box<str>>,
    /// Its environment.
    pub tier: Option<Box<str>>,
    /// Who answers for it.
    pub owner: Option<Box<str>>,
    /// When the row holds.
    pub validity: Validity,
}

impl Account {
    pub(crate) fn read(fields: &mut Fields<'_>, default: Validity) -> Option<Self> {
        let id = fields.text("id").map(str::to_ascii_lowercase);
        if id.is_none() {
            fields.problem("id", "missing, expected an account, project or subscription");
        }
        let account = Self {
            name: fields.owned("name"),
            tier: fields.owned("tier"),
            owner: fields.owned("owner"),
            validity: fields.validity(default),
            id: id?.into(),
        };
        Some(account)
    }
}
