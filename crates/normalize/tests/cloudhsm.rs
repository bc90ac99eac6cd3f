//! What must hold of CloudHSM blocks: they are known, their identity is their numbers and bytes, and
//! what the container says of the HSM is found again in the row.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use keytrail_model::row::{Provenance, text};
use keytrail_model::{Column, RowBuffer, Timestamp};
use keytrail_normalize::framing::{Frame, Limits, Splitter};
use keytrail_normalize::{Context, Format, Masker, Origin, normalize_of};

const BLOCK: &str = "Time: 01/24/18 19:51:12.860123, usecs:1516823472860123\nSequence No : 0x27\nReboot counter : 0x107\n\
                     Opcode : CN_WRAP_KEY (0x1a)\nResponse : 0:HSM Return: SUCCESS";

fn read(block: &str, origin: &Origin<'_>) -> RowBuffer {
    let masker = Masker::new(&[7; 32]);
    let ctx =
        Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker, declared: None };
    let mut rows = RowBuffer::new();
    let from = Provenance { input: 0, offset: 0 };
    normalize_of(Format::CloudHsm, block.as_bytes(), origin, from, &ctx, &mut rows).unwrap();
    rows
}

fn origin<'a>(group: &'a str, stream: &'a str) -> Origin<'a> {
    Origin {
        account: "111122223333".into(),
        log_group: group.into(),
        log_stream: stream.into(),
        ..Origin::default()
    }
}

#[test]
fn the_guides_events_are_cut_known_and_accepted() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cloudhsm/audit-log-guide/input.txt");
    let bytes = std::fs::read(path).unwrap();
    let mut uids = Vec::new();
    let mut each = |frame: Frame<'_>| {
        assert_eq!(frame.verdict, Ok(()));
        assert_eq!(Format::recognise(frame.bytes), Some(Format::CloudHsm));
        let block = std::str::from_utf8(frame.bytes).unwrap();
        uids.push(read(block, &Origin::default()).heads()[0].uid);
    };
    Splitter::new(Limits::default()).run(&bytes, true, &mut each);
    assert_eq!(uids.len(), 20);
    uids.sort();
    uids.dedup();
    // The guide shows two of them twice.
    assert_eq!(uids.len(), 18);
}

#[test]
fn nothing_else_is_known_for_a_block() {
    for other in [
        "Time: 01/24/18 19:51:12.860123, usecs:1516823472860123",
        "Time: now\nSequence No : 0x1\nOpcode : LOGIN",
        "x\nTime: 01/24/18 19:51:12\nSequence No : 0x1\nOpcode : CN_LOGIN (0xd)",
        "{\"Time: \": \"\nSequence No : 0x1\nOpcode : CN_LOGIN (0xd)\"}",
        "",
    ] {
        assert_eq!(Format::recognise(other.as_bytes()), None, "{other}");
    }
    assert_eq!(Format::recognise(BLOCK.as_bytes()), Some(Format::CloudHsm));
    assert_eq!(
        Format::recognise(b"Time:x {\"eventVersion\":\"1.08\",\"eventName\":\"x\"}"),
        Some(Format::CloudTrail)
    );
}

#[test]
fn the_hsm_is_scope_and_no_part_of_the_uid() {
    let bare = read(BLOCK, &Origin::default());
    for (group, stream, cluster, hsm) in [
        ("/aws/cloudhsm/cluster-likphkxygsn", "hsm-nwbbiqbj4jk", true, true),
        // The stream of certificate storage, a name that somebody chose, another group.
        ("/aws/cloudhsm/cluster-likphkxygsn", "cluster-likphkxygsn", true, false),
        ("/aws/cloudhsm/cluster-likphkxygsn", "hsm-a password=hunter2", true, false),
        ("/aws/cloudhsm/../x", "hsm-nwbbiqbj4jk", false, false),
        ("application", "hsm-nwbbiqbj4jk", false, false),
        ("", "", false, false),
    ] {
        let rows = read(BLOCK, &origin(group, stream));
        let row = rows.row(0);
        assert_eq!((row.head.uid, row.head.group), (bare.heads()[0].uid, bare.heads()[0].group));
        let hsm = hsm.then_some(stream);
        for (column, value) in [
            (Column::KeytrailHsmId, hsm),
            (Column::KeytrailScope, hsm),
            (Column::KeytrailKeyStore, cluster.then_some("cluster-likphkxygsn")),
            (Column::CloudAccountId, cluster.then_some("111122223333")),
        ] {
            assert_eq!(text(row.columns, column), value, "{group} {stream}");
        }
        let again = read(BLOCK, &Origin::of_row(Format::CloudHsm, row.columns));
        assert_eq!((again.row(0).columns, again.heads()), (row.columns, rows.heads()));
    }
    let other = read(&BLOCK.replace("CN_WRAP_KEY", "CN_LOGIN"), &Origin::default());
    assert_ne!(other.heads()[0].uid, bare.heads()[0].uid);
    assert_eq!(other.heads()[0].group, bare.heads()[0].group);
}

/// Blocks that are none of the HSM's are of no known format, and not broken JSON.
#[test]
fn blocks_without_an_opcode_are_of_no_known_format() {
    let block = b"Time: 12/19/17 21:01:17.140812, usecs:1513717277140812\nSequence No : 0x1\nOpcode : \n";
    assert_eq!(Format::recognise(block), None);
    let why = keytrail_normalize::check(block).unwrap_err();
    assert_eq!(why.code.code(), "format_unknown");
    assert_eq!(
        why.reason,
        "expected a JSON object, or lines with `Sequence No` and an `Opcode` that begins with `CN_`"
    );
}
