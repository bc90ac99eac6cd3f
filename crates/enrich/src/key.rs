//! The key inventory: who owns a key, what it is for, how long it may be used.

use keytrail_model::Timestamp;

use crate::Cryptoperiod;
use crate::fields::Fields;
use crate::principal::folded;
use crate::validity::Validity;

/// A row of the key inventory.
#[derive(Clone, PartialEq, Debug)]
pub struct Key {
    /// Id of the key, as the inventory has it.
    pub id: Option<Box<str>>,
    /// Its ARN.
    pub arn: Option<Box<str>>,
    /// Its aliases, as the inventory has them.
    pub aliases: Vec<Box<str>>,
    /// Account or project, as said or as the ARN or resource name says it.
    pub account: Option<Box<str>>,
    /// Region or location, likewise.
    pub region: Option<Box<str>>,
    /// Vault mount, key ring, key vault, HSM cluster, likewise.
    pub store: Option<Box<str>>,
    /// The row is about events of this dataset alone.
    pub dataset: Option<Box<str>>,
    /// Who answers for it.
    pub owner: Option<Box<str>>,
    /// Who runs it.
    pub team: Option<Box<str>>,
    /// What it protects.
    pub purpose: Option<Box<str>>,
    /// How much depends on it.
    pub tier: Option<Box<str>>,
    /// How long one version may be used.
    pub cryptoperiod: Option<Cryptoperiod>,
    /// Algorithm and size.
    pub algorithm: Option<Box<str>>,
    /// Where its material was made.
    pub origin: Option<Box<str>>,
    /// State by NIST SP 800-57.
    pub state: Option<Box<str>>,
    /// When it became active.
    pub activated: Option<Timestamp>,
    /// When its newest version was made.
    pub rotated: Option<Timestamp>,
    /// When the row holds.
    pub validity: Validity,
    /// What events call it.
    pub(crate) names: Vec<Name>,
}

/// What an event may call a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Name {
    /// A whole ARN: it needs no scope.
    Arn(Box<str>),
    /// An id within account, region and store.
    Id(Box<str>),
    /// An alias, without `alias/`, within account and region.
    Alias(Box<str>),
}

impl Key {
    /// What the inventory calls the key: its `id`, else its `arn`, else its first `alias`.
    pub fn name(&self) -> &str {
        let alias = || self.aliases.first().map(|a| &**a);
        self.id.as_deref().or(self.arn.as_deref()).or_else(alias).unwrap_or_default()
    }

    pub(crate) fn read(fields: &mut Fields<'_>, default: Validity) -> Option<Self> {
        let mut key = Self {
            id: fields.owned("id"),
            arn: fields.owned("arn"),
            aliases: fields.texts("alias").into_iter().map(Into::into).collect(),
            account: fields.owned("account"),
            region: fields.owned("region"),
            store: fields.owned("store"),
            dataset: fields.owned("dataset"),
            owner: fields.owned("owner"),
            team: fields.owned("team"),
            purpose: fields.owned("purpose"),
            tier: fields.owned("tier"),
            cryptoperiod: fields.cryptoperiod("cryptoperiod"),
            algorithm: fields.owned("algorithm"),
            origin: fields.owned("origin"),
            state: fields.owned("state"),
            activated: fields.time("activated"),
            rotated: fields.time("rotated"),
            validity: fields.validity(default),
            names: Vec::new(),
        };
        if key.name().is_empty() {
            fields.problem("id", "missing, expected an id, an `arn` or an `alias` of the key");
            return None;
        }
        if key.arn.as_deref().is_some_and(|arn| Arn::parse(arn).is_none()) {
            fields.problem(
                "arn",
                "expected an ARN as in `arn:aws:kms:eu-west-1:111122223333:key/1234abcd-...`",
            );
            return None;
        }
        key.name_it(fields);
        Some(key)
    }

    /// Takes names and scope from what the inventory says.
    fn name_it(&mut self, fields: &mut Fields<'_>) {
        let mut names = Vec::new();
        let mut of_arn: Option<(Box<str>, Box<str>)> = None;
        if let Some(arn) = self.id.as_deref().filter(|id| id.starts_with("arn:")).or(self.arn.as_deref())
            && let Some(parsed) = Arn::parse(arn)
        {
            of_arn = Some((parsed.account.into(), parsed.region.into()));
            match parsed.name.strip_prefix("alias/") {
                Some(alias) => names.push(Name::Alias(alias.into())),
                None => {
                    names.push(Name::Arn(arn.into()));
                    names.push(Name::Id(folded(parsed.name).into()));
                }
            }
        }
        if let Some((account, region)) = of_arn {
            for (column, said, arn) in
                [("account", &mut self.account, account), ("region", &mut self.region, region)]
            {
                if said.as_deref().is_some_and(|said| *said != *arn) {
                    fields.problem(column, format!("expected none, or `{arn}` as the ARN has it"));
                }
                *said = (!arn.is_empty()).then_some(arn);
            }
        }
        // Azure does not tell names apart by case.
        let azure = self.dataset.as_deref() == Some("azure.keyvault");
        if let Some(id) = self.id.as_deref().filter(|id| !id.starts_with("arn:")) {
            let (azure, lower) = (azure || id.starts_with("https://"), id.to_ascii_lowercase());
            let id = if azure { &*lower } else { id };
            if let Some(place) = Resource::parse(id) {
                let set = |said: &mut Option<Box<str>>, part: Option<&str>| {
                    if let Some(part) = part {
                        said.get_or_insert_with(|| part.into());
                    }
                };
                names.push(Name::Id(folded(place.name).into()));
                set(&mut self.account, place.account);
                set(&mut self.region, place.region);
                set(&mut self.store, place.store);
            } else {
                names.push(match id.strip_prefix("alias/") {
                    Some(alias) => Name::Alias(alias.into()),
                    None => Name::Id(folded(id).into()),
                });
            }
        }
        for alias in &self.aliases {
            let alias = Arn::parse(alias).map_or(&**alias, |arn| arn.name);
            names.push(Name::Alias(alias.strip_prefix("alias/").unwrap_or(alias).into()));
        }
        names.sort_unstable();
        names.dedup();
        self.names = names;
    }
}

/// The parts of an ARN that scope a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arn<'a> {
    pub region: &'a str,
    pub account: &'a str,
    /// What is behind `key/`, `secret:`, `certificate-authority/`; of an alias with its `alias/`.
    pub name: &'a str,
}

impl<'a> Arn<'a> {
    /// `arn:partition:service:region:account:resource`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, _partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        if arn != "arn" || service.is_empty() || resource.is_empty() {
            return None;
        }
        let name = if resource.starts_with("alias/") {
            resource
        } else {
            let behind = |of: &str| resource.strip_prefix(of).map(|n| n.split('/').next().unwrap_or(n));
            behind("key/")
                .or_else(|| resource.strip_prefix("secret:"))
                .or_else(|| behind("certificate-authority/"))
                .unwrap_or(resource)
        };
        Some(Self { region, account, name })
    }
}

/// A key by the path or URL of its cloud.
struct Resource<'a> {
    account: Option<&'a str>,
    region: Option<&'a str>,
    store: Option<&'a str>,
    name: &'a str,
}

impl<'a> Resource<'a> {
    /// `projects/P/locations/L/keyRings/R/cryptoKeys/K`, or `https://V.vault.azure.net/keys/K[/version]`.
    fn parse(id: &'a str) -> Option<Self> {
        let (mut account, mut region, mut store, mut name) = (None, None, None, None);
        if let Some(path) = id.strip_prefix("https://") {
            let mut parts = path.split('/');
            store = parts.next()?.split('.').next();
            let _collection = parts.next()?;
            name = parts.next();
        } else if id.starts_with("projects/") || id.starts_with("//cloudkms.googleapis.com/projects/") {
            let mut parts = id.trim_start_matches("//cloudkms.googleapis.com/").split('/');
            while let (Some(of), Some(part)) = (parts.next(), parts.next()) {
                match of {
                    "projects" => account = Some(part),
                    "locations" => region = Some(part),
                    "keyRings" | "caPools" => store = Some(part),
                    "cryptoKeys" | "secrets" | "certificateAuthorities" => name = Some(part),
                    _ => {}
                }
            }
        }
        Some(Self { account, region, store, name: name.filter(|n| !n.is_empty())? })
    }
}
