//! The join: an event's columns in, what tables say of it out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use keytrail_model::event::Value;
use keytrail_model::row::{encode, values};
use keytrail_model::{Column, TableKind, Timestamp};

use crate::index::Scope;
use crate::key::Arn;
use crate::network::number;
use crate::principal::{folded, ignores_case};
use crate::table::Content;
use crate::tables::{Tables, space};

/// Enriches events, one after the other. It allocates nothing for an event that was like another before.
#[derive(Debug)]
pub struct Enricher<'t> {
    tables: &'t Tables,
    /// The key that is looked up.
    key: Vec<u8>,
    /// Labels of tables, by the tables' numbers as bits.
    labels: HashMap<u64, Value<'static>>,
}

/// What an event says that is looked up.
#[derive(Default)]
struct Said<'r> {
    account: Option<&'r str>,
    project: Option<&'r str>,
    region: Option<&'r str>,
    actor_type: Option<&'r str>,
    actor_account: Option<&'r str>,
    actor_arn: Option<&'r str>,
    issuer_arn: Option<&'r str>,
    access_key: Option<&'r str>,
    user_id: Option<&'r str>,
    user_name: Option<&'r str>,
    key_alias: Option<&'r str>,
    key_arn: Option<&'r str>,
    key_id: Option<&'r str>,
    key_store: Option<&'r str>,
    source_ip: Option<&'r str>,
}

/// The columns of an event that are looked at.
pub const LOOKED_UP: [Column; 15] = [
    Column::CloudAccountId,
    Column::CloudProjectId,
    Column::CloudRegion,
    Column::KeytrailActorAccessKeyId,
    Column::KeytrailActorAccountId,
    Column::KeytrailActorArn,
    Column::KeytrailActorIssuerArn,
    Column::KeytrailActorType,
    Column::KeytrailKeyAlias,
    Column::KeytrailKeyArn,
    Column::KeytrailKeyId,
    Column::KeytrailKeyStore,
    Column::SourceIp,
    Column::UserId,
    Column::UserName,
];

/// The kind of table that fills a column.
pub const fn table_kind(column: Column) -> Option<TableKind> {
    Some(match column {
        Column::CloudAccountName | Column::KeytrailAccountOwner | Column::KeytrailAccountTier => {
            TableKind::Accounts
        }
        Column::KeytrailActorPerson
        | Column::KeytrailActorPrivileged
        | Column::KeytrailActorRole
        | Column::KeytrailActorService
        | Column::KeytrailActorTeam => TableKind::Principals,
        Column::KeytrailKeyDeclaredAlias
        | Column::KeytrailKeyDeclaredId
        | Column::KeytrailKeyOwner
        | Column::KeytrailKeyPurpose
        | Column::KeytrailKeyTeam
        | Column::KeytrailKeyTier => TableKind::Keys,
        Column::KeytrailSourceSite | Column::KeytrailSourceZone => TableKind::Networks,
        Column::SourceAsNumber
        | Column::SourceAsOrganizationName
        | Column::SourceGeoCityName
        | Column::SourceGeoCountryIsoCode => TableKind::Geoip,
        _ => return None,
    })
}

impl<'r> Said<'r> {
    fn of(columns: &'r [u8]) -> Self {
        let mut said = Self::default();
        for (column, value) in values(columns) {
            let place = match column {
                Column::CloudAccountId => &mut said.account,
                Column::CloudProjectId => &mut said.project,
                Column::CloudRegion => &mut said.region,
                Column::KeytrailActorType => &mut said.actor_type,
                Column::KeytrailActorAccountId => &mut said.actor_account,
                Column::KeytrailActorArn => &mut said.actor_arn,
                Column::KeytrailActorIssuerArn => &mut said.issuer_arn,
                Column::KeytrailActorAccessKeyId => &mut said.access_key,
                Column::UserId => &mut said.user_id,
                Column::UserName => &mut said.user_name,
                Column::KeytrailKeyAlias => &mut said.key_alias,
                Column::KeytrailKeyArn => &mut said.key_arn,
                Column::KeytrailKeyId => &mut said.key_id,
                Column::KeytrailKeyStore => &mut said.key_store,
                Column::SourceIp => &mut said.source_ip,
                _ => continue,
            };
            *place = std::str::from_utf8(value).ok();
        }
        said
    }

    /// Whether the caller chose the user name itself, as the name of a role's session. Identity Center gives its
    /// sessions the name of the user who signed in.
    fn chose_its_name(&self) -> bool {
        matches!(self.actor_type, Some("AssumedRole" | "FederatedUser" | "Role"))
            && !self.issuer_arn.is_some_and(|arn| arn.contains(":role/aws-reserved/sso.amazonaws.com/"))
    }
}

/// The columns that tables fill, ascending.
const COLUMNS: [Column; 21] = [
    Column::CloudAccountName,
    Column::KeytrailAccountOwner,
    Column::KeytrailAccountTier,
    Column::KeytrailActorPerson,
    Column::KeytrailActorPrivileged,
    Column::KeytrailActorRole,
    Column::KeytrailActorService,
    Column::KeytrailActorTeam,
    Column::KeytrailKeyDeclaredAlias,
    Column::KeytrailKeyDeclaredId,
    Column::KeytrailKeyOwner,
    Column::KeytrailKeyPurpose,
    Column::KeytrailKeyTeam,
    Column::KeytrailKeyTier,
    Column::KeytrailSourceSite,
    Column::KeytrailSourceZone,
    Column::KeytrailTables,
    Column::SourceAsNumber,
    Column::SourceAsOrganizationName,
    Column::SourceGeoCityName,
    Column::SourceGeoCountryIsoCode,
];

/// Values of an event in the making.
struct Filled<'t> {
    values: [Value<'t>; COLUMNS.len()],
    /// Tables that gave one, a bit each.
    tables: u64,
}

impl<'t> Filled<'t> {
    fn set(&mut self, table: u32, column: Column, value: Value<'t>) {
        if let Ok(place) = COLUMNS.binary_search(&column) {
            self.values[place] = value;
            self.tables |= 1u64.checked_shl(table).unwrap_or_default();
        }
    }

    fn text(&mut self, table: u32, column: Column, text: Option<&'t str>) {
        if let Some(text) = text {
            self.set(table, column, Value::Text(Cow::Borrowed(text)));
        }
    }

    fn flag(&mut self, table: u32, column: Column, flag: Option<bool>) {
        if let Some(flag) = flag {
            self.set(table, column, Value::Bool(flag));
        }
    }
}

impl<'t> Enricher<'t> {
    /// Enriches with these tables.
    pub fn new(tables: &'t Tables) -> Self {
        Self { tables, key: Vec::new(), labels: HashMap::new() }
    }

    /// Appends the enrichment columns of an event to `out`, in the row encoding: nothing, where no table says
    /// anything of it. `columns` are its own, `dataset` and `time` those of its head.
    pub fn enrich(&mut self, dataset: &str, time: Option<Timestamp>, columns: &[u8], out: &mut Vec<u8>) {
        let tables = self.tables;
        let said = Said::of(columns);
        let mut filled = Filled { values: [const { Value::Null }; COLUMNS.len()], tables: 0 };
        if let Some(place) = self.key_of(dataset, &said, time).and_then(|r| tables.place(TableKind::Keys, r))
            && let Some(key) = tables.key(place)
        {
            let mut text = |column, value: Option<&'t str>| filled.text(place.table, column, value);
            text(Column::KeytrailKeyDeclaredId, Some(key.name()));
            text(Column::KeytrailKeyDeclaredAlias, key.aliases.first().map(|a| &**a));
            text(Column::KeytrailKeyOwner, key.owner.as_deref());
            text(Column::KeytrailKeyPurpose, key.purpose.as_deref());
            text(Column::KeytrailKeyTeam, key.team.as_deref());
            text(Column::KeytrailKeyTier, key.tier.as_deref());
        }
        if let Some(place) =
            self.principal_of(dataset, &said, time).and_then(|r| tables.place(TableKind::Principals, r))
            && let Some(principal) = tables.principal(place)
        {
            filled.text(place.table, Column::KeytrailActorPerson, principal.person.as_deref());
            filled.text(place.table, Column::KeytrailActorTeam, principal.team.as_deref());
            filled.text(place.table, Column::KeytrailActorRole, principal.role.as_deref());
            filled.flag(place.table, Column::KeytrailActorPrivileged, principal.privileged);
            filled.flag(place.table, Column::KeytrailActorService, principal.service);
        }
        if let Some(place) = self.account_of(&said, time).and_then(|r| tables.place(TableKind::Accounts, r))
            && let Some(account) = tables.account(place)
        {
            filled.text(place.table, Column::CloudAccountName, account.name.as_deref());
            filled.text(place.table, Column::KeytrailAccountOwner, account.owner.as_deref());
            filled.text(place.table, Column::KeytrailAccountTier, account.tier.as_deref());
        }
        if let Some(address) = said.source_ip.and_then(|ip| ip.parse::<IpAddr>().ok()) {
            self.place_of(address, time, &mut filled);
        }
        if filled.tables == 0 {
            return;
        }
        let labels = self.labels.entry(filled.tables).or_insert_with(|| labels(tables, filled.tables));
        let all = COLUMNS.into_iter().zip(&filled.values);
        encode(out, all.map(|(c, value)| (c, if c == Column::KeytrailTables { &*labels } else { value })));
    }

    fn key_of(&mut self, dataset: &str, said: &Said<'_>, time: Option<Timestamp>) -> Option<u32> {
        let (keys, buffer) = (&self.tables.keys, &mut self.key);
        let dataset_alone: Scope<'_> = [Some(dataset), None, None, None];
        let arn = said.key_arn.and_then(|arn| Some((arn, Arn::parse(arn)?)));
        if let Some((arn, _)) = arn
            && let Some(row) = keys.find(buffer, (space::ARN, arn), &dataset_alone, time)
        {
            return Some(row);
        }
        let places = match arn {
            Some((_, arn)) => [(Some(arn.account), Some(arn.region)), (None, None)],
            None => [(said.account, said.region), (said.project, said.region)],
        };
        // Azure does not tell names apart by case.
        let lower = |name: &str| dataset == "azure.keyvault" && name.bytes().any(|b| b.is_ascii_uppercase());
        let id = said.key_id.map(|id| if lower(id) { id.to_ascii_lowercase().into() } else { folded(id) });
        let alias = said.key_alias.map(|alias| alias.strip_prefix("alias/").unwrap_or(alias));
        for (account, region) in places.into_iter().filter(|(account, _)| account.is_some() || arn.is_none())
        {
            let scope = [Some(dataset), account, region, said.key_store];
            let names = [
                id.as_deref().map(|id| (space::ID, id)),
                alias.map(|alias| (space::ALIAS, alias)),
                id.as_deref().map(|id| (space::ALIAS, id)),
            ];
            for name in names.into_iter().flatten() {
                if let Some(row) = keys.find(buffer, name, &scope, time) {
                    return Some(row);
                }
            }
            if account.is_some() && said.project.is_none() {
                break;
            }
        }
        None
    }

    fn principal_of(&mut self, dataset: &str, said: &Said<'_>, time: Option<Timestamp>) -> Option<u32> {
        let (principals, buffer) = (&self.tables.principals, &mut self.key);
        let account = said.actor_account.or(said.account).or(said.project);
        let scope = [Some(dataset), account, None, None];
        // Behind a colon stands the name of a role's session, which its caller chose.
        let role_id = said.user_id.and_then(|id| Some(id.split_once(':')?.0));
        let user_name = said.user_name.filter(|_| !said.chose_its_name());
        let names = [said.actor_arn, said.user_id, role_id, user_name, said.issuer_arn, said.access_key];
        names.into_iter().flatten().find_map(|name| {
            let name = if ignores_case(name) { folded(name) } else { name.into() };
            principals.find(buffer, (space::ID, &name), &scope, time)
        })
    }

    fn account_of(&mut self, said: &Said<'_>, time: Option<Timestamp>) -> Option<u32> {
        let (accounts, buffer) = (&self.tables.accounts, &mut self.key);
        [said.account, said.project].into_iter().flatten().find_map(|id| {
            let lower = id.bytes().any(|b| b.is_ascii_uppercase());
            let id: Cow<'_, str> = if lower { id.to_ascii_lowercase().into() } else { id.into() };
            accounts.find(buffer, (space::ID, &id), &[None; 4], time)
        })
    }

    fn place_of(&self, address: IpAddr, time: Option<Timestamp>, filled: &mut Filled<'t>) {
        let tables = self.tables;
        let network = tables.networks.find(number(address), time);
        if let Some(place) = network.and_then(|row| tables.place(TableKind::Networks, row))
            && let Some(network) = tables.network(place)
        {
            filled.text(place.table, Column::KeytrailSourceSite, network.site.as_deref());
            filled.text(place.table, Column::KeytrailSourceZone, network.zone.as_deref());
        }
        for number in tables.places.iter().copied() {
            let Some(Content::Geoip(places)) = tables.table(number).map(|t| &t.content) else { continue };
            if !places.validity.holds(time) {
                continue;
            }
            let Some(place) = places.find(address) else { continue };
            filled.text(number, Column::SourceGeoCountryIsoCode, place.country());
            filled.text(number, Column::SourceGeoCityName, place.city());
            filled.text(number, Column::SourceAsOrganizationName, place.as_organization);
            if let Some(n) = place.as_number {
                filled.set(number, Column::SourceAsNumber, Value::Int(i64::from(n)));
            }
        }
    }
}

/// Labels of tables, ascending.
fn labels(tables: &Tables, bits: u64) -> Value<'static> {
    let numbered = (0..u64::BITS).zip(tables.iter()).filter(|(n, _)| bits >> n & 1 == 1);
    let mut labels: Vec<Cow<'static, str>> = numbered.map(|(_, t)| t.reference.label().into()).collect();
    labels.sort_unstable();
    Value::List(labels)
}
