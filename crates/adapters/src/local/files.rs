//! Writing files so that they are there whole and for good, or not at all.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use keytrail_ports::{Put, StoreError};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// The error of a call, with what was done to which path.
pub(super) fn at(verb: &str, path: &Path, e: &io::Error) -> StoreError {
    let errno = e.raw_os_error().map(Errno::from_raw_os_error);
    // The system's own words, without its number: `Permission denied`.
    let text = e.to_string();
    let why = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    let message = format!("cannot {verb} `{}`: {why}", path.display());
    match errno {
        Some(Errno::NOSPC | Errno::DQUOT) => StoreError::Full(message),
        Some(Errno::INTR | Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
            StoreError::Retryable(message)
        }
        _ => StoreError::Fatal(message),
    }
}

/// The folder of a path below a root.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Opens a file to read; `None`: there is none of that name. Links are not followed.
pub(super) fn open_file(path: &Path) -> Result<Option<File>, StoreError> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => {
            let kind = file.metadata().map_err(|e| at("read", path, &e))?.file_type();
            if kind.is_file() {
                Ok(Some(file))
            } else if kind.is_dir() {
                Ok(None)
            } else {
                Err(StoreError::Fatal(format!("cannot read `{}`: it is no regular file", path.display())))
            }
        }
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(at("read", path, &e)),
    }
}

/// A file's bytes; `None`: there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(mut file) = open_file(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| at("read", path, &e))?;
    Ok(Some(bytes))
}

/// How often a step is tried again that others stop by removing empty folders at the same time.
const TRIES: u32 = 100;

/// Makes a folder and those above it (0750); each new one is in its parent for good.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let above = parent(path);
    let mut tries = 0;
    loop {
        if path.is_dir() {
            return Ok(());
        }
        if above != path && above != Path::new(".") {
            make_folder(above)?;
        }
        match DirBuilder::new().mode(0o750).create(path) {
            Ok(()) => return sync_folder(above),
            // Another was first.
            Err(_) if path.is_dir() => return sync_folder(above),
            // Another was first and has removed it since, or the folder above: both were empty.
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) && tries < TRIES => {
                tries += 1;
            }
            Err(e) => return Err(at("make the folder", path, &e)),
        }
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    match File::open(path).and_then(|f| f.sync_all()) {
        // Another deleted the last object in it, and then it: nothing is left to be made durable.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| at("sync the folder", path, &e)),
    }
}

/// A new file in `folder` with a name of its own.
pub(super) fn new_temporary(folder: &Path, mode: u32) -> Result<(PathBuf, File), StoreError> {
    loop {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|e| StoreError::Fatal(format!("the system gives no random bytes: {e}")))?;
        let path = folder.join(format!("{:016x}.tmp", u64::from_le_bytes(random)));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => return other.map(|f| (path.clone(), f)).map_err(|e| at("create", &path, &e)),
        }
    }
}

/// A new, synced file (0640) in `folder` with those bytes.
pub(super) fn write_temporary(folder: &Path, bytes: &[u8]) -> Result<PathBuf, StoreError> {
    let (path, mut file) = new_temporary(folder, 0o640)?;
    match file.write_all(bytes).and_then(|()| file.sync_all()) {
        Ok(()) => Ok(path),
        Err(e) => Err(discard(&path, at("write", &path, &e))),
    }
}

/// A synced copy of `file` in `folder`.
pub(super) fn copy_temporary(file: &Path, folder: &Path) -> Result<PathBuf, StoreError> {
    let (path, mut copy) = new_temporary(folder, 0o640)?;
    let copied = File::open(file).and_then(|mut from| io::copy(&mut from, &mut copy));
    match copied.and_then(|_| copy.sync_all()) {
        Ok(()) => Ok(path),
        Err(e) => Err(discard(&path, at("write", &path, &e))),
    }
}

/// Syncs a file that another has written and gives it the mode of objects.
pub(super) fn finish(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|f| f.set_permissions(Permissions::from_mode(0o640)).and_then(|()| f.sync_all()))
        .map_err(|e| at("write", path, &e))
}

pub(super) fn same_device(a: &Path, b: &Path) -> Result<bool, StoreError> {
    let device = |p: &Path| p.metadata().map(|m| m.dev()).map_err(|e| at("read", p, &e));
    Ok(device(a)? == device(b)?)
}

/// Removes a file; whether it was there.
pub(super) fn remove_if_there(path: &Path) -> Result<bool, StoreError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(at("remove", path, &e)),
    }
}

/// Removes an unfinished file and hands on why it is unfinished; a second failure would hide the first.
fn discard(temporary: &Path, why: StoreError) -> StoreError {
    match remove_if_there(temporary) {
        Ok(_) | Err(_) => why,
    }
}

/// Moves a synced file to a name that nobody has taken. The file is gone afterwards, but where a
/// [`StoreError::Fatal`] says that it could not be moved.
pub(super) fn move_new(from: &Path, to: &Path) -> Result<Put, StoreError> {
    let folder = parent(to);
    let moved = with_folder(folder, || match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without that flag: a link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rustix::fs::link(from, to).and_then(|()| rustix::fs::unlink(from))
        }
        other => other,
    })?;
    match moved {
        Ok(()) => {
            sync_folder(folder)?;
            Ok(Put::Created)
        }
        Err(Errno::EXIST) => {
            remove_if_there(from)?;
            // It may be there by the move of another who has not synced yet.
            sync_folder(folder)?;
            Ok(Put::Exists)
        }
        Err(Errno::XDEV) => Err(at("write", to, &Errno::XDEV.into())),
        Err(e) => Err(discard(from, at("write", to, &e.into()))),
    }
}

/// Moves a synced file to a name in place of what is there.
pub(super) fn move_over(from: &Path, to: &Path) -> Result<(), StoreError> {
    let folder = parent(to);
    match with_folder(folder, || rustix::fs::rename(from, to))? {
        Ok(()) => sync_folder(folder),
        Err(e) => Err(discard(from, at("write", to, &e.into()))),
    }
}

/// Runs `step` with its folder there: one that another removes in between, for it was empty, is made again.
fn with_folder(
    folder: &Path,
    mut step: impl FnMut() -> Result<(), Errno>,
) -> Result<Result<(), Errno>, StoreError> {
    let mut tries = 0;
    loop {
        make_folder(folder)?;
        match step() {
            Err(Errno::NOENT) if tries < TRIES => tries += 1,
            other => return Ok(other),
        }
    }
}
