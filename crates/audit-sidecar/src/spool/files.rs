//! What the spool needs of a file system, and the real one.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};
use rustix::io::Errno;

/// A file system, as the spool uses it: the seam where tests put one that fails.
///
/// Nothing is durable before its sync: bytes before [`FileAccess::sync_data`] of their file, names before
/// [`sync_folder`](Self::sync_folder). A sync that failed says nothing of what is on disk and must not be
/// tried again: the kernel may have dropped the pages. Whoever controls the file system can drop the newest
/// records unseen; receipts and signed heads that left the machine are what shows it.
pub trait Files: Send + Sync {
    /// Makes a folder and those above it, and closes it to others (0700).
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Takes the folder's only lock, which ends with what is returned; `None`: another has it.
    fn lock(&self, folder: &Path) -> io::Result<Option<Box<dyn Send + Sync>>>;
    /// Names of the regular files in a folder, in any order; one that is not UTF-8 is none of ours.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Makes a new file (0600); one of that name is an error.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileAccess>>;
    /// Opens a file to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileAccess>>;
    /// Gives a file another name, in place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Bytes that can still be written below a folder.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait FileAccess: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Gives it that length, of zeros that have their place on the disk: writing there needs no more space.
    fn preallocate(&self, bytes: u64) -> io::Result<()>;
    /// Writes some of the bytes, at least one; how many.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Reads some bytes; 0 at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Makes what was written durable, and the length.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts it to that length.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// The files of this machine.
#[derive(Clone, Copy, Default, Debug)]
pub struct OsFiles;

impl Files for OsFiles {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if !path.is_dir() {
            let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !above.is_dir() {
                self.make_folder(above)?;
            }
            DirBuilder::new().mode(0o700).create(path)?;
            self.sync_folder(above)?;
        }
        let mode = path.metadata()?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    fn lock(&self, folder: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let folder = File::open(folder)?;
        match folder.try_lock() {
            // The lock is on the folder itself: a killed process leaves none behind.
            Ok(()) => Ok(Some(Box::new(folder))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileAccess>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileAccess>> {
        let flags = OFlags::NOFOLLOW.bits() as i32;
        Ok(Arc::new(OsFile(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let space = statvfs(folder)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

struct OsFile(File);

impl FileAccess for OsFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
                Err(Errno::INTR) => {}
                // A file system that cannot: what is written has its place.
                Err(Errno::NOTSUP | Errno::NOSYS) => return self.fill(bytes),
                other => return Ok(other?),
            }
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}

impl OsFile {
    /// Writes zeros from the end of the file up to that length.
    fn fill(&self, bytes: u64) -> io::Result<()> {
        let mut at = self.length()?;
        while at < bytes {
            let part = ZEROS.len().min((bytes - at) as usize);
            write_all(self, at, &ZEROS[..part])?;
            at += part as u64;
        }
        Ok(())
    }
}

/// Zeros to write.
pub(super) static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// Writes all of the bytes.
pub(super) fn write_all(file: &dyn FileAccess, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(offset, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads until `into` is full or the file ends; how many bytes.
pub(super) fn read_full(file: &dyn FileAccess, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(offset + filled as u64, &mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
