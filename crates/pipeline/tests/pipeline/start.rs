//! What a start reads of a log that has grown: what is new since `state/taken` was written.

use keytrail_pipeline::input::Input;
use keytrail_ports::BlobStore;

use crate::memory::{Memory, input};

/// A record without a producer's key on each of 300 days, and one that is refused.
fn year() -> Input {
    let day = |n: u32| {
        format!(
            "{{\"time\":\"2015-{:02}-{:02}T10:00:00Z\",\"type\":\"request\",\"auth\":{{\"token_type\":\"default\"}},\
             \"request\":{{\"operation\":\"update\",\"namespace\":{{\"id\":\"root\"}},\"path\":\"sys/audit/x\"}}}}\n",
            n / 25 + 1,
            n % 25 + 1
        )
    };
    input("year", (0..300).map(day).chain(["{\"broken\n".to_owned()]).collect::<String>())
}

fn delete(trail: &Memory, prefix: &str) {
    for key in trail.store.list(prefix).unwrap() {
        trail.store.delete(&key).unwrap();
    }
}

#[test]
fn a_start_reads_the_detail_objects_that_are_new() {
    let trail = Memory::new();
    let size = trail.run(&[year()]).unwrap().checkpoint.size;
    assert!(size >= 300);
    let old = trail.store.list("detail/").unwrap();
    let few = input("few", crate::memory::keyless(1) + "{\"torn\n");
    let grown = trail.run(std::slice::from_ref(&few)).unwrap().checkpoint.size;
    assert!(grown > size);
    // None of what is old is read; what is new is: nothing is named twice.
    old.iter().for_each(|key| trail.store.delete(key).unwrap());
    let again = trail.run(&[year(), few.clone()]).unwrap();
    assert_eq!((again.total.accepted, again.checkpoint.size), (0, grown));
    // Nothing else is lost by deleting it, and nothing is won by writing it.
    for forge in [true, false] {
        let forged = trail.copy();
        let stored = forged.store.get("state/taken").unwrap().unwrap();
        let text = String::from_utf8(stored).unwrap().replacen("\"inputs\":\"", "\"inputs\": \"", 1);
        match forge {
            true => forged.store.replace("state/taken", text.as_bytes()).unwrap(),
            false => forged.store.delete("state/taken").unwrap(),
        }
        assert_eq!(forged.run(std::slice::from_ref(&few)).unwrap_err().code, "Fatal.ObjectMissing");
    }
}

/// Of an archive that is older than that file, also by a run that finds nothing new.
#[test]
fn a_run_with_nothing_new_makes_the_next_start_cheap() {
    let trail = Memory::new();
    trail.run(&[year()]).unwrap();
    trail.store.delete("state/taken").unwrap();
    trail.run(&[year()]).unwrap();
    delete(&trail, "detail/");
    assert_eq!(trail.run(&[year()]).unwrap().total.accepted, 0);
}

#[test]
fn what_another_log_lists_is_not_believed() {
    let (trail, other) = (Memory::new(), Memory::new());
    trail.run(&[year()]).unwrap();
    other.run(&[input("few", crate::memory::keyless(1)), year()]).unwrap();
    let taken = other.store.get("state/taken").unwrap().unwrap();
    trail.store.replace("state/taken", &taken).unwrap();
    delete(&trail, "detail/");
    assert_eq!(trail.run(&[year()]).unwrap_err().code, "Fatal.ObjectMissing");
}
