//! Ships to a folder of this machine.
//!
//! A segment is written under a temporary name, synced, and renamed. Its name follows from its first record, so a
//! restart that does not know how far it came finds out from what is there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use keytrail_model::segment::Header;

use super::{Destination, Records, Shipped, file_name, made_of, segment, segment_name};

/// A folder that segments are shipped to.
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The source's own folder below `root`; made (0750) if it is not there.
    pub fn open(root: &Path, source: &str) -> io::Result<Self> {
        let root = root.join(file_name(source, '%'));
        fs::DirBuilder::new().mode(0o750).recursive(true).create(&root)?;
        Ok(Self { root })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.root.join(format!(".{name}.new"));
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o640).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.root.join(name))?;
        File::open(&self.root)?.sync_all()
    }
}

impl Destination for Folder {
    fn ship(&mut self, header: &Header, records: &Records) -> Result<Shipped, String> {
        let at = |verb: &str, e| format!("cannot {verb} `{}`: {e}", self.root.display());
        let name = segment_name(header.epoch, header.first_seq);
        let (last_seq, bytes) = match fs::read(self.root.join(&name)) {
            Ok(there) => match made_of(&there, header, records) {
                Some(last_seq) => (last_seq, there.len()),
                None => return Err(format!("`{name}` is there, and is not made of the spool's records")),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let bytes = segment(header, records);
                self.write(&name, &bytes).map_err(|e| at("write to", e))?;
                (records.last().map_or(header.first_seq, |r| r.0), bytes.len())
            }
            Err(e) => return Err(at("read", e)),
        };
        Ok(Shipped { last_seq, segments: 1, bytes: bytes as u64, fallback: false })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SOURCE, header, records};
    use super::*;

    #[test]
    fn a_shipped_segment_is_found_again() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(root.path(), SOURCE).unwrap();
        assert_eq!(folder.root, root.path().join("gateway-1%2Fp%400"));
        let first = folder.ship(&header(0), &records(0, &[1, 1])).unwrap();
        assert_eq!((first.last_seq, first.segments, first.fallback), (1, 1, false));
        // A restart does not know that, and has more records by now.
        assert_eq!(folder.ship(&header(0), &records(0, &[1, 1, 1])), Ok(first));
        let names: Vec<_> = fs::read_dir(&folder.root).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["00000000000000000001-00000000000000000000.ktseg"]);
        let other = folder.ship(&header(0), &records(0, &[1, 2]));
        assert_eq!(
            other.unwrap_err(),
            "`00000000000000000001-00000000000000000000.ktseg` is there, and is not made of the spool's records"
        );
    }
}
