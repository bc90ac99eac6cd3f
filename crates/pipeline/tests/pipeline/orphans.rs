//! Archive objects that a killed run left and nothing names.

use keytrail_adapters::memory::ManualClock;
use keytrail_model::Timestamp;
use keytrail_pipeline::Trail;
use keytrail_pipeline::pending::{self, Sealed};
use keytrail_ports::BlobStore;

use crate::memory::{Memory, keyless};
use crate::pending::{archive, seal};

/// So many hours later.
fn hide(trail: &Memory, hours: i64) -> u64 {
    let clock = ManualClock::new(Timestamp(1_700_000_000_000_000 + hours * 3_600_000_000));
    trail.with(&trail.store, &trail.lock, |t| {
        pending::hide_orphans(&Trail { clock: &clock, ..*t }, &mut Sealed::default()).unwrap()
    })
}

#[test]
fn an_object_that_nothing_names_for_a_day_is_hidden() {
    let trail = Memory::new();
    archive(&trail, &[("sealed", keyless(1))]);
    seal(&trail);
    // One whose batch was lost with the run that made it, and one that waits.
    archive(&trail, &[("orphan", keyless(2))]);
    let batch = trail.store.list("state/pending/").unwrap().remove(0);
    trail.store.delete(&batch).unwrap();
    archive(&trail, &[("waits", keyless(3))]);
    assert_eq!((hide(&trail, 0), hide(&trail, 23)), (0, 0));
    assert_eq!(trail.store.list("archive/").unwrap().len(), 3);
    assert_eq!(hide(&trail, 24), 1);
    assert_eq!(trail.store.list("archive/").unwrap().len(), 2);
    assert_eq!(seal(&trail).rows, 1);
    assert_eq!(hide(&trail, 72), 0);
    // What it held is given again.
    archive(&trail, &[("orphan", keyless(2))]);
    assert_eq!(seal(&trail).rows, 1);
    assert_eq!(trail.with(&trail.store, &trail.lock, |t| trail.rows(t.log().recover().unwrap().size)), 3);
}

#[test]
fn one_that_is_named_in_between_stays() {
    let trail = Memory::new();
    archive(&trail, &[("late", keyless(2))]);
    let batch = trail.store.list("state/pending/").unwrap().remove(0);
    let bytes = trail.store.get(&batch).unwrap().unwrap();
    trail.store.delete(&batch).unwrap();
    assert_eq!(hide(&trail, 0), 0);
    trail.store.replace(&batch, &bytes).unwrap();
    assert_eq!(hide(&trail, 30), 0);
    // Unnamed again, and for less than a day.
    trail.store.delete(&batch).unwrap();
    assert_eq!((hide(&trail, 31), hide(&trail, 54)), (0, 0));
    trail.store.replace(&batch, &bytes).unwrap();
    assert_eq!(seal(&trail).rows, 1);
    assert_eq!(hide(&trail, 100), 0);
}

/// What somebody put among the batches keeps all objects: it may name them.
#[test]
fn nothing_is_hidden_while_a_batch_cannot_be_read() {
    let trail = Memory::new();
    archive(&trail, &[("orphan", keyless(2))]);
    let batch = trail.store.list("state/pending/").unwrap().remove(0);
    trail.store.replace(&batch, b"{}\n\n").unwrap();
    assert_eq!((hide(&trail, 0), hide(&trail, 48)), (0, 0));
    trail.store.delete(&batch).unwrap();
    assert_eq!((hide(&trail, 50), hide(&trail, 80)), (0, 1));
}
