//! A local copy of a bucket: what lies below its folder are the objects' S3 paths.
//!
//! Files may be as they came or inflated (`.json.gz` or `.json`). Nothing outside of the folder is opened:
//! symbolic links are not followed, and a path with empty, `.` or `..` segments leads nowhere.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use keytrail_ledger::cloudtrail_digest::{DigestName, LogName};
use keytrail_model::{Fatal, Hash, Timestamp};
use sha2::{Digest, Sha256};

use super::{DigestPath, display};

/// A digest of an hour with 100,000 log files takes half of it.
const MAX_DIGEST_BYTES: u64 = 64 << 20;
/// A log file of CloudTrail has some megabytes.
const MAX_LOG_BYTES: u64 = 1 << 30;
/// Metadata of an object: S3 keeps at most 2 kB of a user's.
const MAX_HEAD_BYTES: u64 = 64 << 10;
const READ_BYTES: usize = 64 << 10;
/// Folders deeper than S3 paths can be.
const MAX_DEPTH: usize = 512;

/// The folder.
pub(super) struct Mirror {
    root: PathBuf,
}

/// Where digests and log files of one account and region lie.
#[derive(Default)]
pub(super) struct Region {
    /// Folders of digests; several where a trail's prefix changed.
    pub digests: Vec<PathBuf>,
    /// The newest log file, by its name.
    pub latest: Option<Timestamp>,
}

/// A log file in the mirror.
pub(super) enum Found {
    /// It is not there.
    Absent,
    /// It is there and cannot be read or inflated.
    Unreadable(String),
    /// SHA-256 of its bytes, as they are and inflated.
    File { raw: Hash, inflated: Hash },
}

impl Mirror {
    /// A folder that is there.
    pub fn open(root: &Path) -> Result<Self, Fatal> {
        if !root.is_dir() {
            return Err(Fatal::new("Usage.Digests", format!("there is no folder `{}`", root.display())));
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Accounts and regions that have digests.
    pub fn regions(&self) -> Result<BTreeMap<(String, String), Region>, Fatal> {
        let mut regions: BTreeMap<(String, String), Region> = BTreeMap::new();
        let mut folders = vec![(self.root.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let below = entries(&folder)?;
            let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            // Other services log beside CloudTrail, and more than it.
            let is_account = name.len() == 12 && name.bytes().all(|b| b.is_ascii_digit());
            for entry in below.iter().filter(|e| e.is_folder) {
                match entry.name.as_str() {
                    "CloudTrail-Digest" if depth > 0 => {
                        for region in entries(&entry.path)?.into_iter().filter(|e| e.is_folder) {
                            let at = regions.entry((name.to_owned(), region.name)).or_default();
                            at.digests.push(region.path);
                        }
                    }
                    "CloudTrail" if is_account => {
                        for region in entries(&entry.path)?.into_iter().filter(|e| e.is_folder) {
                            let latest = newest_log(&region.path)?;
                            let at = regions.entry((name.to_owned(), region.name)).or_default();
                            at.latest = at.latest.max(latest);
                        }
                    }
                    _ if !is_account && depth < MAX_DEPTH => folders.push((entry.path.clone(), depth + 1)),
                    _ => {}
                }
            }
        }
        regions.retain(|_, region| !region.digests.is_empty());
        for region in regions.values_mut() {
            region.digests.sort();
        }
        Ok(regions)
    }

    /// The digests below a region's folder; `unnamed` counts what has another name.
    pub fn digests(
        &self,
        folder: &Path,
        unnamed: &mut Option<(String, u64)>,
    ) -> Result<Vec<DigestPath>, Fatal> {
        let mut found = Vec::new();
        let mut folders = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in entries(&folder)? {
                if entry.is_folder {
                    if depth < MAX_DEPTH {
                        folders.push((entry.path, depth + 1));
                    }
                    continue;
                }
                if entry.name.ends_with(HEAD) {
                    continue;
                }
                let mut object = display(entry.path.strip_prefix(&self.root).unwrap_or(&entry.path));
                if object.ends_with(".json") {
                    object.push_str(".gz");
                }
                match DigestName::parse(&object) {
                    Some(name) => found.push(DigestPath { object, name, path: entry.path }),
                    None => unnamed.get_or_insert((object, 0)).1 += 1,
                }
            }
        }
        found.sort_by(|a, b| (&a.object, &a.path).cmp(&(&b.object, &b.path)));
        Ok(found)
    }

    /// Looks for a log file by its S3 path.
    pub fn log(&self, object: &str) -> Found {
        let inflated = object.strip_suffix(".gz");
        match [Some(object), inflated].into_iter().flatten().find_map(|o| self.file(o)) {
            None => Found::Absent,
            Some(path) => match hashes(&path) {
                Ok((raw, inflated)) => Found::File { raw, inflated },
                Err(e) => Found::Unreadable(e),
            },
        }
    }

    /// A regular file below the root, with no link on the way.
    fn file(&self, object: &str) -> Option<PathBuf> {
        let mut path = self.root.clone();
        let mut segments = object.split('/').peekable();
        while let Some(segment) = segments.next() {
            if matches!(segment, "" | "." | "..") || segment.contains(['\0', std::path::MAIN_SEPARATOR]) {
                return None;
            }
            path.push(segment);
            let kind = fs::symlink_metadata(&path).ok()?.file_type();
            if !(if segments.peek().is_some() { kind.is_dir() } else { kind.is_file() }) {
                return None;
            }
        }
        Some(path)
    }
}

/// Beside a digest: what `aws s3api head-object` prints for it.
const HEAD: &str = ".head.json";

/// The metadata beside a digest file, if they are there: by the file's own name, or by the object's where
/// the file was inflated.
pub(super) fn head(digest: &Path) -> Result<Option<Vec<u8>>, String> {
    for name in [HEAD.to_owned(), format!(".gz{HEAD}")] {
        let mut path = digest.as_os_str().to_owned();
        path.push(name);
        let path = PathBuf::from(path);
        if fs::symlink_metadata(&path).is_ok_and(|m| m.file_type().is_file()) {
            let file = File::open(&path).map_err(|e| reason(&e))?;
            return bounded(file, MAX_HEAD_BYTES).map(Some);
        }
    }
    Ok(None)
}

/// A digest file, inflated.
pub(super) fn inflated(path: &Path) -> Result<Vec<u8>, String> {
    let mut file = opened(path)?;
    if !is_gzip(&mut file)? {
        return bounded(file, MAX_DIGEST_BYTES);
    }
    let mut decoder = GzDecoder::new(file);
    let bytes = bounded(&mut decoder, MAX_DIGEST_BYTES)?;
    at_end(decoder)?;
    Ok(bytes)
}

/// SHA-256 of a log file's bytes, as they are and inflated.
fn hashes(path: &Path) -> Result<(Hash, Hash), String> {
    let mut file = opened(path)?;
    if !is_gzip(&mut file)? {
        let hash = digest(&mut file)?;
        return Ok((hash, hash));
    }
    let mut decoder = GzDecoder::new(file);
    let inflated = digest(&mut decoder)?;
    Ok((at_end(decoder)?, inflated))
}

/// A file whose bytes are hashed as they are read.
type Source = BufReader<Hashing>;

struct Hashing {
    file: File,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.hash.update(&out[..n]);
        Ok(n)
    }
}

fn opened(path: &Path) -> Result<Source, String> {
    let file = File::open(path).map_err(|e| reason(&e))?;
    Ok(BufReader::with_capacity(READ_BYTES, Hashing { file, hash: Sha256::new() }))
}

fn is_gzip(file: &mut Source) -> Result<bool, String> {
    file.fill_buf().map(|b| b.starts_with(&[0x1f, 0x8b])).map_err(|e| reason(&e))
}

/// The hash of a file whose compressed data were read to their end. AWS writes one gzip member and nothing
/// behind it; other readers would take in what was appended.
fn at_end(decoder: GzDecoder<Source>) -> Result<Hash, String> {
    let mut file = decoder.into_inner();
    match file.fill_buf() {
        Ok([]) => Ok(Hash(file.into_inner().hash.finalize().into())),
        Ok(_) => Err("there is something behind the end of its compressed data".into()),
        Err(e) => Err(reason(&e)),
    }
}

fn digest(source: &mut dyn Read) -> Result<Hash, String> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; READ_BYTES]);
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(Hash(hash.finalize().into())),
            Ok(n) => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(reason(&e)),
        }
        if bytes > MAX_LOG_BYTES {
            return Err(format!("it inflates to more than {MAX_LOG_BYTES} bytes"));
        }
    }
}

fn bounded(source: impl Read, max_bytes: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    source.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|e| reason(&e))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("it inflates to more than {max_bytes} bytes"));
    }
    Ok(bytes)
}

fn reason(error: &io::Error) -> String {
    format!("it cannot be read: {error}")
}

struct Entry {
    name: String,
    path: PathBuf,
    is_folder: bool,
}

/// Folders and files in a folder, in the order of their names; other things, and links, are left out.
fn entries(folder: &Path) -> Result<Vec<Entry>, Fatal> {
    let failed = |e: io::Error| {
        Fatal::new(
            "Fatal.NotVerified",
            format!("`{}` cannot be listed: {}", folder.display(), crate::input::cause(&e)),
        )
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() || kind.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push(Entry { name, path: entry.path(), is_folder: kind.is_dir() });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The time of the newest log file below a region's folder: `YYYY/MM/DD/` are walked from behind.
fn newest_log(region: &Path) -> Result<Option<Timestamp>, Fatal> {
    fn newest(folder: &Path, depth: usize) -> Result<Option<Timestamp>, Fatal> {
        let below = entries(folder)?;
        let logs = below.iter().filter(|e| !e.is_folder).filter_map(|e| LogName::parse(&e.name));
        if let Some(newest) = logs.map(|l| l.minute).max() {
            return Ok(Some(newest));
        }
        for entry in below.iter().rev().filter(|e| e.is_folder && depth < 3) {
            if let Some(time) = newest(&entry.path, depth + 1)? {
                return Ok(Some(time));
            }
        }
        Ok(None)
    }
    newest(region, 0)
}
