//! Ships durable records to a folder, in order, as segments that a reader sees whole or not at all.
//!
//! What it is: a thread that takes what the spool has behind what was shipped, writes it as one segment under a
//! temporary name, syncs, and renames. What it is not: it frees nothing. A file's name follows from its first
//! record, so a restart that does not know how far it came finds out from what is there.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use keytrail_model::segment::{FOOTER_BYTES, Footer, Header, Part, read_part, write_record};

/// Bytes of records that one segment has at most, but for a record that is larger.
pub const SEGMENT_BYTES: usize = 8 << 20;

/// A folder that segments are shipped to.
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The source's own folder below `root`; made (0750) if it is not there.
    pub fn open(root: &Path, source: &str) -> io::Result<Self> {
        let root = root.join(file_name(source));
        fs::DirBuilder::new().mode(0o750).recursive(true).create(&root)?;
        Ok(Self { root })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The last record of the segment that begins with that one, where it was shipped before.
    pub fn shipped_from(&self, epoch: u64, first_seq: u64) -> io::Result<Option<u64>> {
        let mut file = match File::open(self.root.join(segment_name(epoch, first_seq))) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut footer = [0; FOOTER_BYTES];
        file.seek(SeekFrom::End(-(FOOTER_BYTES as i64)))?;
        file.read_exact(&mut footer)?;
        match read_part(&footer) {
            Ok((Part::Footer(footer), _)) => Ok(Some(footer.last_seq)),
            _ => Err(io::Error::other("a shipped segment has no footer")),
        }
    }

    /// Ships records that follow each other; durable when it returns. At least one record has to be there.
    pub fn ship(&self, header: &Header, records: &[(u64, Vec<u8>)]) -> io::Result<()> {
        let Some((last_seq, last)) = records.last() else { return Ok(()) };
        let mut bytes = Vec::with_capacity(records.iter().map(|(_, r)| r.len() + 16).sum::<usize>() + 256);
        header.write(&mut bytes);
        for (seq, record) in records {
            write_record(&mut bytes, *seq, record);
        }
        let last_hash = keytrail_model::merkle::leaf_hash(last);
        Footer { last_seq: *last_seq, records: records.len() as u64, last_hash }.write(&mut bytes);

        let name = segment_name(header.epoch, header.first_seq);
        let temporary = self.root.join(format!(".{name}.new"));
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o640).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.root.join(name))?;
        File::open(&self.root)?.sync_all()
    }
}

fn segment_name(epoch: u64, first_seq: u64) -> String {
    format!("{epoch:020}-{first_seq:020}.ktseg")
}

/// A source's name as that of a folder: every byte but letters, digits, `.`, `_` and `-` stands as `%XX`.
fn file_name(source: &str) -> String {
    let mut name = String::with_capacity(source.len());
    for byte in source.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shipped_segment_is_found_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), "gateway-1/p@0").unwrap();
        assert_eq!(folder.path(), root.path().join("gateway-1%2Fp%400"));
        assert_eq!(folder.shipped_from(1, 0).unwrap(), None);
        let source = "gateway-1/p@0".to_owned();
        let prev = keytrail_model::Hash([0; 32]);
        let header = Header { source, epoch: 1, first_seq: 0, prev, created_ns: 5 };
        folder.ship(&header, &[(0, b"a".to_vec()), (1, b"b".to_vec())]).unwrap();
        assert_eq!(folder.shipped_from(1, 0).unwrap(), Some(1));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["00000000000000000001-00000000000000000000.ktseg"]);
    }
}
