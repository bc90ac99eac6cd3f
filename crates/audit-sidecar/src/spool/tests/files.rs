//! The file system in memory does what the real one does.

use std::io::ErrorKind;

use super::*;
use crate::spool::files::{read_full, write_all};

fn conforms(files: &dyn Files, folder: &Path) {
    let (one, two) = (folder.join("one"), folder.join("two"));
    files.make_folder(folder).unwrap();
    files.make_folder(folder).unwrap();
    assert_eq!(files.list(folder).unwrap(), Vec::<String>::new());
    assert!(files.open(&one).is_err_and(|e| e.kind() == ErrorKind::NotFound));
    assert!(files.unlink(&one).is_err_and(|e| e.kind() == ErrorKind::NotFound));

    let file = files.create(&one).unwrap();
    assert!(files.create(&one).is_err_and(|e| e.kind() == ErrorKind::AlreadyExists));
    assert_eq!(file.length().unwrap(), 0);
    file.preallocate(10_000).unwrap();
    assert_eq!(file.length().unwrap(), 10_000);
    let mut bytes = vec![1; 20_000];
    assert_eq!(read_full(&*file, 0, &mut bytes).unwrap(), 10_000);
    assert!(bytes[..10_000].iter().all(|b| *b == 0));
    write_all(&*file, 9_998, b"four").unwrap();
    assert_eq!(file.length().unwrap(), 10_002);
    assert_eq!(read_full(&*file, 9_997, &mut bytes).unwrap(), 5);
    assert_eq!(&bytes[..5], b"\0four");
    assert_eq!(file.read_at(20_000, &mut bytes).unwrap(), 0);
    file.preallocate(12_000).unwrap();
    file.truncate(10_000).unwrap();
    file.preallocate(10_001).unwrap();
    file.sync_data().unwrap();
    let again = files.open(&one).unwrap();
    assert_eq!(read_full(&*again, 9_997, &mut bytes).unwrap(), 4);
    assert_eq!(&bytes[..4], b"\0fo\0");

    files.create(&two).unwrap();
    let mut names = files.list(folder).unwrap();
    names.sort();
    assert_eq!(names, ["one", "two"]);
    files.rename(&one, &two).unwrap();
    files.sync_folder(folder).unwrap();
    assert_eq!(files.list(folder).unwrap(), ["two"]);
    assert_eq!(files.open(&two).unwrap().length().unwrap(), 10_001);
    files.unlink(&two).unwrap();
    // Who has it open still reads it.
    assert_eq!(read_full(&*again, 9_998, &mut bytes).unwrap(), 3);
    assert!(files.free_bytes(folder).unwrap() > 0);

    let lock = files.lock(folder).unwrap();
    assert!(lock.is_some() && files.lock(folder).unwrap().is_none());
    drop(lock);
    assert!(files.lock(folder).unwrap().is_some());
}

#[test]
fn memory_and_disk_do_the_same() {
    conforms(&MemoryFiles::default(), folder());
    let dir = tempfile::tempdir().unwrap();
    conforms(&OsFiles, &dir.path().join("a/spool"));
}
