//! The views, against the terms of the weekly report.

use keytrail_model::{ActionClass, Column};
use keytrail_query::VIEWS;

use crate::trail::{Event, Trail};

/// Every class of operations is in one count of `keys`, and so the counts add up.
#[test]
fn counts_by_class_are_complete() {
    let keys = VIEWS.iter().find(|(name, ..)| *name == "keys").expect("a view").2;
    let counts = &keys[keys.find("AS destroyed").expect("the last time")..];
    for class in ActionClass::ALL {
        assert_eq!(counts.matches(&format!("'{}'", class.name())).count(), 1, "{}", class.name());
    }
}

fn event<'a>(time: &'a str, columns: &'a [(Column, &'a str)]) -> Event<'a> {
    Event { dataset: "vault.audit", time: Some(time), columns }
}

#[test]
fn a_key_has_a_row() {
    use Column as C;
    let class = C::KeytrailActionClass;
    let (id, store) = ((C::KeytrailKeyId, "k"), (C::KeytrailKeyStore, "transit/"));
    let trail = Trail::default().with(&[
        event(
            "2024-01-01T01:00:00Z",
            &[id, store, (class, "create"), (C::EventOutcome, "success"), (C::KeytrailKeyAlgorithm, "first")],
        ),
        event(
            "2024-01-01T02:00:00Z",
            &[id, store, (class, "encrypt"), (C::EventOutcome, "failure"), (C::UserName, "eve")],
        ),
        event(
            "2024-01-01T03:00:00Z",
            &[
                id,
                store,
                (class, "rotate"),
                (C::EventOutcome, "success"),
                (C::KeytrailKeyAlgorithm, "second"),
            ],
        ),
        event("2024-01-01T04:00:00Z", &[id, store, (class, "rotate"), (C::EventOutcome, "failure")]),
        // What opens an operation is not one.
        event("2024-01-01T05:00:00Z", &[id, store, (class, "destroy"), (C::KeytrailPhase, "request")]),
        // No key operation, and one without a key.
        event("2024-01-01T06:00:00Z", &[id, store, (C::UserName, "bob")]),
        event("2024-01-01T07:00:00Z", &[(class, "administer"), (C::UserName, "bob")]),
        event(
            "2024-01-01T08:00:00Z",
            &[(C::KeytrailKeyAlias, "alias/x"), (class, "access"), (C::UserName, "bob")],
        ),
    ]);
    assert_eq!(
        trail.rows("SELECT key, algorithm, operations, failures, actors, created, rotated, destroyed, encryptions, changes FROM keys ORDER BY key"),
        "{\"key\":\"alias/x\",\"algorithm\":null,\"operations\":1,\"failures\":0,\"actors\":1,\"created\":null,\"rotated\":null,\"destroyed\":null,\"encryptions\":0,\"changes\":0}\n\
         {\"key\":\"transit/k\",\"algorithm\":\"second\",\"operations\":4,\"failures\":2,\"actors\":1,\"created\":\"2024-01-01T01:00:00Z\",\"rotated\":\"2024-01-01T03:00:00Z\",\"destroyed\":null,\"encryptions\":1,\"changes\":3}\n"
    );
    assert_eq!(
        trail.rows("SELECT actor, operations, failures, keys, first_seen FROM principals ORDER BY actor"),
        "{\"actor\":\"bob\",\"operations\":2,\"failures\":0,\"keys\":1,\"first_seen\":\"2024-01-01T07:00:00Z\"}\n\
         {\"actor\":\"eve\",\"operations\":1,\"failures\":1,\"keys\":1,\"first_seen\":\"2024-01-01T02:00:00Z\"}\n\
         {\"actor\":null,\"operations\":3,\"failures\":1,\"keys\":1,\"first_seen\":\"2024-01-01T01:00:00Z\"}\n"
    );
}

/// A condition on a view keeps objects from being read, too.
#[test]
fn views_are_pruned() {
    let trail =
        Trail::default().with_day("2024-01-01", 2).with_day("2024-01-02", 2).with_day("2024-01-03", 2);
    for (sql, objects) in [
        ("SELECT actor FROM key_operations WHERE day = '2024-01-02'", 1),
        ("SELECT actor FROM key_operations WHERE time >= '2024-01-02' AND time < '2024-01-03'", 1),
        ("SELECT actor FROM principals WHERE dataset = 'vault.audit'", 0),
        ("SELECT key FROM keys", 3),
    ] {
        assert_eq!(trail.run(sql).1.read.objects, objects, "{sql}");
    }
}
