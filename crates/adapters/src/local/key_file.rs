//! The signing key in a file.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use keytrail_ports::{Put, Signer, StoreError};

use super::files::{at, make_folder, move_new, new_temporary, parent, read};
use crate::keys::PrivateKey;

/// An Ed25519 key whose file is readable by its owner alone.
///
/// The file is the line of a [`PrivateKey`]. Whoever reads it signs as the log: it does not belong into the data folder.
pub struct KeyFile(PrivateKey);

impl KeyFile {
    /// Reads the key of that name; makes a new one (0600, its folder 0700) if the file is not there.
    /// The second value: whether it was made now.
    pub fn open_or_create(path: &Path, name: &str) -> Result<(Self, bool), StoreError> {
        if let Some(found) = Self::open(path, name)? {
            return Ok((found, false));
        }
        if name.is_empty() || name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control()) {
            return Err(StoreError::Fatal(format!(
                "`{}` is no name of a key: expected one without `+` and white space",
                name.escape_debug()
            )));
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|e| StoreError::Fatal(format!("the system gives no random bytes: {e}")))?;
        let made = Self(PrivateKey::new(name, seed));
        let folder = parent(path);
        if !folder.is_dir() {
            make_folder(parent(folder))?;
            std::fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(folder)
                .map_err(|e| at("make the folder", folder, &e))?;
            super::files::sync_folder(parent(folder))?;
        }
        let (temporary, mut file) = new_temporary(folder, 0o600)?;
        file.write_all(format!("{}\n", made.0.line()).as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|e| at("write", &temporary, &e))?;
        match move_new(&temporary, path)? {
            Put::Created => Ok((made, true)),
            // Another process was faster: its key is the key.
            Put::Exists => match Self::open(path, name)? {
                Some(found) => Ok((found, false)),
                None => {
                    Err(StoreError::Retryable(format!("the key file `{}` came and went", path.display())))
                }
            },
        }
    }

    /// Reads the key of that name; `None`: the file is not there.
    pub fn open(path: &Path, name: &str) -> Result<Option<Self>, StoreError> {
        let Some(text) = read(path)? else { return Ok(None) };
        let mode = path.symlink_metadata().map_err(|e| at("read", path, &e))?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Fatal(format!(
                "the key file `{path}` is open to others (mode {mode:04o}): expected 0600, as `chmod 600 {path}` sets it",
                path = path.display()
            )));
        }
        let found = std::str::from_utf8(&text).ok().and_then(PrivateKey::parse).ok_or_else(|| {
            StoreError::Fatal(format!(
                "the key file `{}` is not one line `PRIVATE+KEY+NAME+KEYID+BASE64` with an Ed25519 key",
                path.display()
            ))
        })?;
        if found.name() != name {
            return Err(StoreError::Fatal(format!(
                "the key file `{}` is of `{}`, expected one of `{}`",
                path.display(),
                found.name().escape_debug(),
                name.escape_debug()
            )));
        }
        Ok(Some(Self(found)))
    }

    /// The key, to be kept elsewhere.
    pub fn into_key(self) -> PrivateKey {
        self.0
    }
}

impl Signer for KeyFile {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], StoreError> {
        self.0.sign(message)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn error(path: &Path, name: &str) -> String {
        match KeyFile::open_or_create(path, name) {
            Ok(_) => panic!("a key was read"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/log.key");
        let (made, new) = KeyFile::open_or_create(&path, "example.org/log").unwrap();
        let (read, again) = KeyFile::open_or_create(&path, "example.org/log").unwrap();
        assert!(new && !again);
        assert_eq!(made.sign(b"m").unwrap(), read.sign(b"m").unwrap());
        let mode = |p: &Path| p.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(error(&path, "other").contains("is of `example.org/log`, expected one of `other`"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let e = error(&path, "example.org/log");
        assert!(e.contains("is open to others (mode 0640): expected 0600, as `chmod 600 "), "{e}");
    }

    #[test]
    fn what_go_writes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        // golang.org/x/mod/sumdb/note's documentation and tests (BSD-3-Clause).
        let line = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write(line);
        let (key, new) = KeyFile::open_or_create(&path, "PeterNeumann").unwrap();
        assert!(!new);
        assert_eq!(key.0.line(), line);
        for bad in [
            line.replace("c74f20a3", "c74f20a4"),
            line.replace("PRIVATE", "PUBLIC"),
            line.replace("AYEK", "AoEK"),
            format!("{line}AAAA"),
            format!("{line}\n{line}\n"),
            String::new(),
        ] {
            write(&bad);
            assert!(error(&path, "PeterNeumann").contains("is not one line `PRIVATE+KEY+NAME"), "{bad}");
        }
    }

    #[test]
    fn eight_at_once_get_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k/log.key");
        let keys: Vec<[u8; 32]> = std::thread::scope(|s| {
            let open = || KeyFile::open_or_create(&path, "log").unwrap().0.public_key();
            let all: Vec<_> = (0..8).map(|_| s.spawn(open)).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|k| *k == keys[0]));
    }
}
