//! Tables of every format, what is wrong in them, and the join with events.

// The helpers here are tests too, which clippy.toml lets unwrap; clippy knows only marked functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::borrow::Cow;

use keytrail_enrich::{Enricher, Format, Table, Tables, Validity, fields_of, read, table_kind, time};
use keytrail_model::row::{Content, Encoded, Provenance, RowBuffer, columns};
use keytrail_model::{AuditEvent, Column, TableKind, Timestamp};

fn table(kind: TableKind, format: Format, text: &str) -> Table {
    read(kind, kind.name(), format, text.as_bytes(), Validity::default()).expect("a good table")
}

fn problems(kind: TableKind, format: Format, text: &str) -> Vec<String> {
    let found = read(kind, "t", format, text.as_bytes(), Validity::default()).expect_err("problems");
    found.iter().map(ToString::to_string).collect()
}

fn tables(csv: &[(TableKind, &str)]) -> Tables {
    Tables::new(csv.iter().map(|(kind, text)| table(*kind, Format::Csv, text)).collect())
        .expect("good tables")
}

/// What tables say of an event of that dataset and time, `column=value` by ascending column.
fn said(tables: &Tables, dataset: &'static str, at: &str, set: &[(Column, &'static str)]) -> Vec<String> {
    let mut event = AuditEvent::new(dataset, "m");
    set.iter().for_each(|(column, text)| event.text(*column, *text));
    let mut rows = RowBuffer::new();
    rows.push(&event, b"{}", Content::AsIs, Provenance { input: 0, offset: 0 });
    let mut out = Vec::new();
    Enricher::new(tables).enrich(dataset, time(at), rows.row(0).columns, &mut out);
    let text = |value| match value {
        Encoded::Text(text) => Cow::Borrowed(text),
        Encoded::Int(n) => n.to_string().into(),
        Encoded::Bool(flag) => flag.to_string().into(),
        Encoded::List(items) => items.collect::<Vec<_>>().join(",").into(),
    };
    let all = columns(&out).filter(|(c, _)| *c != Column::KeytrailTables);
    all.map(|(c, v)| format!("{}={}", c.name().trim_start_matches("keytrail_"), text(v))).collect()
}

fn owner(tables: &Tables, dataset: &'static str, at: &str, set: &[(Column, &'static str)]) -> Option<String> {
    let all = said(tables, dataset, at, set);
    all.iter().find_map(|s| s.strip_prefix("key_owner=")).map(str::to_owned)
}

const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
const ARN: &str = "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const CT: &str = "aws.cloudtrail";
use Column::{
    CloudAccountId, CloudProjectId, CloudRegion, KeytrailKeyAlias, KeytrailKeyArn, KeytrailKeyId,
    KeytrailKeyStore,
};

#[test]
fn every_format_gives_the_same_rows() {
    let csv = "id,alias,owner,cryptoperiod,valid_from\r\n007,a; b,\"Ana, B\",P1Y,2024-01-01\r\n,,,,\r\n8,,\u{fc},,\n";
    let json = r#"[{"id":"007","alias":["a","b"],"owner":"Ana, B","cryptoperiod":"P1Y","valid_from":"2024-01-01"},{"id":8,"alias":null,"owner":"ü"}]"#;
    let lines = "{\"id\":\"007\",\"alias\":\"a;b\",\"owner\":\"Ana, B\",\"cryptoperiod\":\"P1Y\",\"valid_from\":\"2024-01-01T00:00:00Z\"}\n\n{\"id\":8,\"owner\":\"\\u00fc\"}\n";
    let yaml = "# keys\n- id: 007\n  alias: [a, b]\n  owner: 'Ana, B'\n  cryptoperiod: P1Y\n  valid_from: 2024-01-01\n- {id: 8, owner: ü, team: ~}\n";
    let expected = table(TableKind::Keys, Format::Csv, csv);
    let bom = format!("\u{feff}{csv}");
    for (format, text) in
        [(Format::Csv, bom.as_str()), (Format::Json, json), (Format::Json, lines), (Format::Yaml, yaml)]
    {
        let found = table(TableKind::Keys, format, text);
        assert_eq!(format!("{:?}", found.content), format!("{:?}", expected.content), "{text}");
        assert_eq!((found.rows(), found.span()), (2, (None, None)));
    }
}

#[test]
fn all_problems_are_told_with_row_column_and_what_was_expected() {
    let csv = "id,ownr,cryptoperiod,valid_from,valid_to,cost\n\
               ,x,P1Y,,,1\n\
               a,,1 year,2024-13-01,,\n\
               b,,,2024-02-01,2024-01-01,\n";
    assert_eq!(
        problems(TableKind::Keys, Format::Csv, csv),
        [
            "row 1 (line 2), column `id`: missing, expected an id, an `arn` or an `alias` of the key",
            "row 2 (line 3), column `cryptoperiod`: expected an ISO 8601 duration as in `P1Y`, or days as in `365`, found `1 year`",
            "row 2 (line 3), column `valid_from`: expected a time as in `2024-01-31T12:00:00Z`, or a date as in `2024-01-31`, found `2024-13-01`",
            "row 3 (line 4), column `valid_to`: expected a time after `valid_from`, 2024-02-01T00:00:00.000000Z",
            "column `ownr`: unknown, did you mean `owner`?",
        ]
    );
    let one = |kind, format, text: &str| problems(kind, format, text).remove(0);
    for (kind, format, text, expected) in [
        (
            TableKind::Networks,
            Format::Csv,
            "network,zone\n10.0.0.1/8,x\n",
            "row 1 (line 2), column `network`: expected the network's first address, as in `10.0.0.0/8`, found `10.0.0.1/8`",
        ),
        (
            TableKind::Principals,
            Format::Json,
            "[{\"principal\":\"a\",\"privileged\":\"yes\"}]",
            "row 1, column `privileged`: expected `true` or `false`, found `yes`",
        ),
        (
            TableKind::Accounts,
            Format::Yaml,
            "- id: 1\n- name: x\n",
            "row 2 (line 2), column `id`: missing, expected an account, project or subscription",
        ),
        (
            TableKind::Accounts,
            Format::Yaml,
            "- id: &a 1\n- id: *a\n",
            "row 1 (line 1): anchors and aliases are not read, expected plain values",
        ),
        (
            TableKind::Accounts,
            Format::Yaml,
            "id: 1\n",
            "line 1: expected a list of rows, each with `column: value`",
        ),
        (
            TableKind::Accounts,
            Format::Csv,
            "id,id\n1,2\n",
            "line 1, column `id`: stands twice in the first line, expected once",
        ),
        (
            TableKind::Accounts,
            Format::Csv,
            "id\n1,2\n",
            "row 1 (line 2): expected 1 values as in the first line, found 2",
        ),
        (TableKind::Accounts, Format::Csv, "", "expected a first line with the columns' names"),
        (TableKind::Geoip, Format::Mmdb, "no database", "expected a MaxMind DB file (.mmdb):"),
        (
            TableKind::Keys,
            Format::Json,
            "[{\"id\":\"a\",\"id\":\"b\"}]",
            "row 1 (line 1): expected an array of objects, or one object a line: `id` stands twice",
        ),
    ] {
        let found = one(kind, format, text);
        assert!(found.starts_with(expected), "{found}");
    }
    let many = format!("id,cryptoperiod\n{}", "a,x\n".repeat(1_000));
    let told = problems(TableKind::Keys, Format::Csv, &many);
    assert_eq!((told.len(), told[20].as_str()), (21, "980 more problems"));
}

#[test]
fn rows_that_hold_at_the_same_time_name_each_other() {
    let text = "network,zone,valid_from,valid_to\n10.0.0.0/8,a,,2024-01-01\n10.0.0.0/8,b,2024-01-01,\n";
    Tables::new(vec![table(TableKind::Networks, Format::Csv, text)]).unwrap();
    let overlapping = format!("{text}10.0.0.0/8,c,2023-12-31,2024-01-01\n");
    let networks = table(TableKind::Networks, Format::Csv, &overlapping);
    let keys = table(TableKind::Keys, Format::Csv, "arn,id\narn:aws:kms:r:1:key/a,\n");
    let more =
        read(TableKind::Keys, "more", Format::Csv, b"arn\narn:aws:kms:r:1:key/a\n", Validity::default());
    let found = Tables::new(vec![networks, keys, more.unwrap()]).unwrap_err();
    let told: Vec<_> = found.iter().map(|(n, p)| format!("{n} {p}")).collect();
    assert_eq!(
        told[0],
        "0 row 3 (line 4): `10.0.0.0/8` is also in row 1 (line 2), which holds at the same time, expected \
         `valid_from` and `valid_to` apart"
    );
    assert!(
        told[1].starts_with(
            "2 row 1 (line 2): `arn:aws:kms:r:1:key/a` is also in row 1 (line 2) of the table `keys`"
        ),
        "{told:?}"
    );
}

#[test]
fn keys_are_known_by_arn_id_and_alias_within_their_account_and_region() {
    let csv = format!(
        "arn,id,alias,store,owner\n\
         {ARN},,alias/app,,west\n\
         arn:aws:kms:eu-west-1:111122223333:key/{ID},,,,dublin\n\
         ,orders,,transit/,vault\n\
         ,projects/p/locations/l/keyRings/r/cryptoKeys/k,,,google\n\
         ,https://Contoso.vault.azure.net/keys/Orders/0123,,,azure\n\
         ,anywhere,,,everywhere\n"
    );
    let tables = tables(&[(TableKind::Keys, &csv)]);
    let owner = |dataset, set: &[_]| owner(&tables, dataset, "2024-01-01", set);
    let west = Some("west".to_owned());
    let at = |region| [(CloudAccountId, "111122223333"), (CloudRegion, region)];
    assert_eq!(owner(CT, &[(KeytrailKeyArn, ARN), (KeytrailKeyId, ID)]), west);
    assert_eq!(owner(CT, &[&at("us-west-2")[..], &[(KeytrailKeyId, ID)]].concat()), west);
    assert_eq!(owner(CT, &[&at("us-west-2")[..], &[(KeytrailKeyAlias, "alias/app")]].concat()), west);
    assert_eq!(owner(CT, &[&at("eu-west-1")[..], &[(KeytrailKeyId, ID)]].concat()), Some("dublin".into()));
    // Another account's key of the same id, another region's alias of the same name.
    let other = "arn:aws:kms:us-west-2:999999999999:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    assert_eq!(
        owner(CT, &[&at("us-west-2")[..], &[(KeytrailKeyArn, other), (KeytrailKeyId, ID)]].concat()),
        None
    );
    assert_eq!(owner(CT, &[&at("eu-west-1")[..], &[(KeytrailKeyAlias, "alias/app")]].concat()), None);
    assert_eq!(owner(CT, &[(KeytrailKeyId, ID)]), None);
    assert_eq!(
        owner(CT, &[&at("x")[..], &[(KeytrailKeyId, "anywhere")]].concat()),
        Some("everywhere".into())
    );
    let vault = |store| [(KeytrailKeyId, "orders"), (KeytrailKeyStore, store)];
    assert_eq!(owner("vault.audit", &vault("transit/")), Some("vault".into()));
    assert_eq!(owner("vault.audit", &vault("other/")), None);
    let google = [
        (CloudAccountId, "o"),
        (CloudProjectId, "p"),
        (CloudRegion, "l"),
        (KeytrailKeyId, "k"),
        (KeytrailKeyStore, "r"),
    ];
    assert_eq!(owner("gcp.audit", &google), Some("google".into()));
    let azure = [(KeytrailKeyId, "ORDERS"), (KeytrailKeyStore, "contoso")];
    assert_eq!(owner("azure.keyvault", &azure), Some("azure".into()));
}

#[test]
fn the_row_that_held_at_the_events_time_is_taken() {
    let csv = "id,owner,valid_from,valid_to\na,old,,2024-01-01\na,new,2024-01-01,\n";
    let tables = tables(&[(TableKind::Keys, csv)]);
    let owner = |at| owner(&tables, "vault.audit", at, &[(KeytrailKeyId, "a")]);
    assert_eq!(owner("2023-12-31T23:59:59.999999Z"), Some("old".into()));
    assert_eq!(owner("2024-01-01"), Some("new".into()));
    assert_eq!(owner(""), None);
    assert_eq!(tables.iter().next().unwrap().span(), (None, None));
    let default = Validity { from: time("2024-06-01"), to: None };
    let table = read(TableKind::Keys, "t", Format::Csv, b"id,owner\na,x\n", default).unwrap();
    assert_eq!(table.span(), (Some(Timestamp(1_717_200_000_000_000)), None));
}

#[test]
fn a_name_that_its_caller_chose_makes_nobody_a_person() {
    use Column::{KeytrailActorArn, KeytrailActorIssuerArn, KeytrailActorType, UserId, UserName};
    let csv = "principal,dataset,person,privileged\n\
               Alice@Example.com,,Alice,true\n\
               arn:aws:iam::1:role/Admins,,administrators,true\n\
               bob,kubernetes.audit,Bob,\n\
               D9DA5048-2737-4770-BD64-1234567890AB,,Carol,false\n";
    let tables = tables(&[(TableKind::Principals, csv)]);
    let person = |dataset, set: &[_]| {
        let all = said(&tables, dataset, "", set);
        all.iter().find_map(|s| s.strip_prefix("actor_person=")).map(str::to_owned)
    };
    let session = |issuer| {
        [
            (KeytrailActorType, "AssumedRole"),
            (UserName, "alice@example.com"),
            (KeytrailActorIssuerArn, issuer),
        ]
    };
    assert_eq!(person(CT, &session("arn:aws:iam::1:role/Admins")), Some("administrators".into()));
    assert_eq!(person(CT, &session("arn:aws:iam::1:role/Other")), None);
    let sso =
        "arn:aws:iam::1:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Admins_0123456789abcdef";
    assert_eq!(person(CT, &session(sso)), Some("Alice".into()));
    assert_eq!(person("gcp.audit", &[(UserName, "ALICE@example.com")]), Some("Alice".into()));
    assert_eq!(person("kubernetes.audit", &[(UserName, "bob")]), Some("Bob".into()));
    assert_eq!(person("vault.audit", &[(UserName, "bob")]), None);
    assert_eq!(person("kubernetes.audit", &[(UserName, "Bob")]), None);
    let id = [(KeytrailActorArn, "x"), (UserId, "d9da5048-2737-4770-bd64-1234567890ab")];
    assert_eq!(said(&tables, "azure.keyvault", "", &id), ["actor_person=Carol", "actor_privileged=false"]);
}

#[test]
fn networks_and_accounts_are_joined() {
    let tables = tables(&[
        (TableKind::Networks, "network,zone,site\n10.0.0.0/8,internal,\n10.1.0.0/16,hsm,Frankfurt\n"),
        (TableKind::Accounts, "id,name,tier,owner\n012345678901,prod,production,Ana\n"),
    ]);
    let set = [(Column::SourceIp, "10.1.2.3"), (CloudAccountId, "012345678901")];
    assert_eq!(
        said(&tables, CT, "2024-01-01", &set),
        [
            "cloud_account_name=prod",
            "account_owner=Ana",
            "account_tier=production",
            "source_site=Frankfurt",
            "source_zone=hsm"
        ]
    );
    assert_eq!(said(&tables, CT, "", &[(Column::SourceIp, "::ffff:10.200.0.1")]), ["source_zone=internal"]);
    assert_eq!(said(&tables, CT, "", &[(Column::SourceIp, "AWS Internal")]), Vec::<String>::new());
}

/// Each column of the archive that tables fill is of one kind of table, but for the list of tables.
#[test]
fn every_enrichment_column_has_its_table() {
    for column in Column::ALL {
        let filled = table_kind(column).is_some() || column == Column::KeytrailTables;
        assert_eq!(filled, column.enriched(), "{}", column.name());
    }
}

/// The columns of `schemas/tables.md`, between its two marks.
fn documented() -> String {
    let kinds = [TableKind::Keys, TableKind::Principals, TableKind::Networks, TableKind::Accounts];
    let mut out = String::new();
    for kind in kinds {
        out += &format!("\n## `{}`\n\n| column | value | says |\n| --- | --- | --- |\n", kind.name());
        for field in fields_of(kind) {
            out += &format!("| `{}` | {} | {} |\n", field.name, field.values, field.doc);
        }
    }
    out + "\n"
}

/// With `KEYTRAIL_BLESS=1` in the environment the document is written anew.
#[test]
fn documents_say_what_the_code_does() {
    const MARKS: (&str, &str) =
        ("<!-- columns: made from the code, see below -->\n", "<!-- end of columns -->");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/tables.md");
    let md = std::fs::read_to_string(&path).expect("schemas/tables.md");
    let start = md.find(MARKS.0).expect("the first mark") + MARKS.0.len();
    let end = md.find(MARKS.1).expect("the second mark");
    let expected = format!("{}{}{}", &md[..start], documented(), &md[end..]);
    if std::env::var_os("KEYTRAIL_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert!(md == expected, "schemas/tables.md is out of date: run with KEYTRAIL_BLESS=1");
}
