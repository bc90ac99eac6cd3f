//! Small private files beside the signing key: readable by their owner alone.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use keytrail_ports::StoreError;

use super::files::{at, move_over, new_temporary, parent, read as read_file};

/// 32 bytes of the system's randomness.
pub fn random() -> Result<[u8; 32], StoreError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| StoreError::Fatal(format!("the system gives no random bytes: {e}")))?;
    Ok(bytes)
}

/// A private file's bytes; `None`: it is not there. One that others can read or write is refused.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(bytes) = read_file(path)? else { return Ok(None) };
    let mode = path.symlink_metadata().map_err(|e| at("read", path, &e))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StoreError::Fatal(format!(
            "`{path}` is open to others (mode {mode:04o}): expected 0600, as `chmod 600 {path}` sets it",
            path = path.display()
        )));
    }
    Ok(Some(bytes))
}

/// Writes a private file (0600) in place of what is there, durable on return. Its folder is there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let (temporary, mut file) = new_temporary(parent(path), 0o600)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| at("write", &temporary, &e))?;
    move_over(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_can_read_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mask.key");
        assert_eq!(read(&path), Ok(None));
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path), Ok(Some(b"two".to_vec())));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("is open to others (mode 0644): expected 0600"), "{message}");
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
