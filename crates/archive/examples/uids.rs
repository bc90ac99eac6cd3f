//! What deduplication costs: everything that ingest asks the uid indexes, for the rows of real objects.
//!
//! In: archive objects, in the order of their names. Out, on stdout: rows, and CPU seconds of one thread.
//! For each object: its index is made from its columns, written and opened; each row is looked up among
//! the entries that wait to be sealed and noted there; each row is looked up as a new event in the indexes
//! of all objects of its partition (of its folder), and one of ten as a replay. `tests/bench` runs it.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keytrail_archive::{Entries, ObjectReader, Projection, Selection, UidIndex};
use keytrail_model::{Hash, Uid};

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    paths.sort();
    let scratch = tempfile::tempdir()?;
    let (mut rows, mut seconds) = (0, 0.0);
    for partition in paths.chunk_by(|a, b| a.parent() == b.parent()) {
        let mut indexes = Vec::new();
        for (n, path) in partition.iter().enumerate() {
            let index = scratch.path().join(n.to_string());
            let start = cpu_seconds()?;
            let entries = Entries::read(&ObjectReader::open(Arc::new(File::open(path)?))?)?;
            entries.write(&Hash::default(), &mut File::create(&index)?)?;
            indexes.push(UidIndex::open(Arc::new(File::open(&index)?), true)?);
            seconds += cpu_seconds()? - start;
        }
        for path in partition {
            let events = events(path)?;
            rows += events.len();
            let start = cpu_seconds()?;
            judge(&events, &indexes)?;
            seconds += cpu_seconds()? - start;
        }
    }
    println!("{rows} {seconds:.2}");
    Ok(())
}

/// Groups and uids of an object, in file order.
fn events(path: &Path) -> Result<Vec<(u64, Uid)>, Box<dyn Error>> {
    let object = ObjectReader::open(Arc::new(File::open(path)?))?;
    let mut events = Vec::new();
    for batch in object.batches(&Projection::index(), Selection::All) {
        events.extend(batch?.rows().map(|row| (row.group.unwrap_or_default(), row.uid)));
    }
    Ok(events)
}

fn judge(events: &[(u64, Uid)], indexes: &[UidIndex]) -> Result<(), Box<dyn Error>> {
    let mut fresh = Entries::new();
    for (n, (group, uid)) in events.iter().enumerate() {
        let mut found = fresh.find(*group, uid);
        // Flipped bits of a hash are another event's.
        let (new_group, new_uid) = (!group, Uid(uid.0.map(|b| !b)));
        for index in indexes {
            found.merge(index.find(new_group, &new_uid)?);
        }
        if found.same || !found.others.is_empty() {
            return Err("an event of the archive was found twice".into());
        }
        fresh.insert(*group, uid);
        if n % 10 == 0 {
            let mut same = false;
            for index in indexes {
                same |= index.find(*group, uid)?.same;
            }
            if !same {
                return Err("an event of the archive was not found".into());
            }
        }
    }
    Ok(())
}

/// User and system time of this process so far (`utime` and `stime` of proc_pid_stat(5), ticks of 10 ms).
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name is the only field with spaces; it stands in parentheses.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || -> Result<f64, Box<dyn Error>> { Ok(fields.next().ok_or("short stat")?.parse()?) };
    Ok((ticks()? + ticks()?) / 100.0)
}
