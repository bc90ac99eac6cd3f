//! CloudTrail's digest chains against what was ingested: did every log file that AWS delivered arrive, as it
//! was delivered, and nothing beside it?
//!
//! What it is: the reading around [`keytrail_ledger::cloudtrail_digest`]. What it is not: it asks no AWS
//! service, and opens nothing outside of the mirror. In: a local mirror of the trail's bucket, AWS's public
//! keys, the inputs that the sealed log names. Out: findings, figures, what was not checked.
//!
//! Memory is that of the inputs' names and of the digests of one account and region, without their lists.

mod ingested;
mod mirror;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use keytrail_ledger::cloudtrail_digest::{Chain, PublicKeys, Range};
use keytrail_ledger::cloudtrail_digest::{Content, DigestFile, Link, ObjectHead, walk};
use keytrail_ledger::{Code, Finding};
use keytrail_model::{Fatal, Hash, Timestamp};
use keytrail_ports::BlobStore;

use crate::concurrent;
use crate::readable::Readable;
use ingested::{Arrival, Delivered, Ingested};
use mirror::{Found, Mirror, Region};

/// What to check against.
#[derive(Clone, Copy, Debug)]
pub struct Digests<'a> {
    /// A mirror of the bucket: what lies below are the objects' S3 paths.
    pub mirror: &'a Path,
    /// AWS's public keys; without them signatures are not checked.
    pub keys: Option<&'a PublicKeys>,
}

/// What the digests say, and how much of it was checked.
#[derive(Clone, Debug, Default)]
pub struct DigestReport {
    /// The chains: one for each trail, account and region.
    pub chains: Vec<Chain>,
    /// Digest files, those of backfills among them.
    pub digests: u64,
    /// Log files that digests list in the range that was asked for.
    pub listed: u64,
    /// Of these, ingested byte for byte.
    pub ingested: u64,
    /// Of these, ingested under that name: their bytes are in no mirror.
    pub by_name: u64,
}

/// Log files that are looked at together.
const BATCH: usize = 1024;

/// Checks the digests below the mirror. An error means that they could not be checked at all.
pub fn check(
    store: &dyn BlobStore,
    readable: &Readable,
    digests: &Digests<'_>,
    range: &Range,
) -> Result<(DigestReport, Vec<Finding>, Vec<String>), Fatal> {
    let mirror = Mirror::open(digests.mirror)?;
    let regions = mirror.regions()?;
    if regions.is_empty() {
        return Err(Fatal::new(
            "Fatal.NotVerified",
            format!(
                "`{}` has no folder `AWSLogs/ACCOUNT/CloudTrail-Digest`: expected a mirror of the trail's bucket, as `aws s3 sync s3://BUCKET DIR` makes it",
                digests.mirror.display()
            ),
        ));
    }
    let mut check = Check {
        mirror,
        range,
        ingested: Ingested::load(store, readable)?,
        report: DigestReport::default(),
        findings: Vec::new(),
        unchecked: Vec::new(),
        batch: Vec::new(),
        unnamed: None,
    };
    let mut windows: BTreeMap<(String, String), Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
    for ((account, region), folders) in regions {
        let links = check.links(&folders)?;
        check.look()?;
        let walked = walk(links, digests.keys, range, folders.latest);
        check.findings.extend(walked.findings);
        check.unchecked.extend(walked.unchecked);
        check.report.chains.extend(walked.chains);
        windows.insert((account, region), walked.windows);
    }
    check.finish(&windows);
    Ok((check.report, check.findings, check.unchecked))
}

struct Check<'a> {
    mirror: Mirror,
    range: &'a Range,
    ingested: Ingested,
    report: DigestReport,
    findings: Vec<Finding>,
    unchecked: Vec<String>,
    batch: Vec<Listed>,
    /// A file in a digest folder that has no digest's name, and how many there are.
    unnamed: Option<(String, u64)>,
}

/// A log file that a digest lists.
struct Listed {
    /// Its S3 path.
    object: String,
    /// SHA-256 of its inflated bytes.
    sha256: Hash,
    /// The digest says that it lies in this bucket.
    here: bool,
    /// The digest's S3 path.
    by: String,
}

impl Check<'_> {
    /// Reads the digests of one account and region; their lists go through the check on the way.
    fn links(&mut self, region: &Region) -> Result<Vec<Link>, Fatal> {
        let mut links: Vec<Link> = Vec::new();
        let mut before: Option<(String, Option<Hash>)> = None;
        for folder in &region.digests {
            for file in self.mirror.digests(folder, &mut self.unnamed)? {
                self.report.digests += 1;
                let (object, name) = (file.object, file.name);
                let content = match self.content(&file.path) {
                    Ok((digest, sha256)) => Some((digest, sha256)),
                    Err(e) => {
                        self.findings.push(Finding::new(
                            Code::ObjectMismatch,
                            &object,
                            format!("no digest: {e}"),
                        ));
                        None
                    }
                };
                let sha256 = content.as_ref().map(|(_, sha256)| *sha256);
                // The same object inflated beside itself, or another one in its place.
                if let Some((_, other)) = before.as_ref().filter(|(before, _)| *before == object) {
                    if *other != sha256 {
                        let message = "it is there twice, with other content: as it came and without `.gz`";
                        self.findings.push(Finding::new(Code::Fork, &object, message));
                    }
                    self.report.digests -= 1;
                    continue;
                }
                before = Some((object.clone(), sha256));
                let content = match content {
                    None => None,
                    Some((mut digest, sha256)) => {
                        let listed = self.list(&object, &mut digest)?;
                        let head = self.head(&object, &file.path);
                        Some(Content { sha256, digest, listed, head })
                    }
                };
                links.push(Link { object, name, content });
            }
        }
        Ok(links)
    }

    fn content(&self, path: &Path) -> Result<(DigestFile, Hash), String> {
        let bytes = mirror::inflated(path)?;
        Ok((DigestFile::parse(&bytes)?, Hash::of(&bytes)))
    }

    /// The signature beside a digest, if it is there.
    fn head(&mut self, object: &str, path: &Path) -> Option<ObjectHead> {
        let head = mirror::head(path).and_then(|bytes| bytes.map(|b| ObjectHead::parse(&b)).transpose());
        head.unwrap_or_else(|e| {
            let message =
                format!("the `.head.json` beside it is not what `aws s3api head-object` prints: {e}");
            self.findings.push(Finding::new(Code::SigInvalid, object, message));
            None
        })
    }

    /// Takes the list out of a digest that meets the range; how many log files it has.
    fn list(&mut self, by: &str, digest: &mut DigestFile) -> Result<u64, Fatal> {
        let files = std::mem::take(&mut digest.log_files);
        let listed = files.len() as u64;
        for file in files {
            let here = file.bucket == digest.bucket;
            if !self.range.meets(digest.start, digest.end) {
                self.ingested.listed(&file.object, file.sha256);
                continue;
            }
            self.batch.push(Listed { object: file.object, sha256: file.sha256, here, by: by.to_owned() });
            if self.batch.len() >= BATCH {
                self.look()?;
            }
        }
        Ok(listed)
    }

    /// Looks at the log files of the batch: in the mirror, and among the inputs.
    fn look(&mut self) -> Result<(), Fatal> {
        let batch = std::mem::take(&mut self.batch);
        let mirror = &self.mirror;
        let found =
            concurrent::each(&batch, |l| Ok(if l.here { mirror.log(&l.object) } else { Found::Absent }))?;
        for (listed, found) in batch.iter().zip(found) {
            self.report.listed += 1;
            let delivered = match found {
                Found::Absent => Delivered::Elsewhere,
                Found::Unreadable(e) => {
                    self.found(
                        Code::ObjectMismatch,
                        &listed.object,
                        format!("{e}; `{}` lists it", listed.by),
                    );
                    Delivered::Elsewhere
                }
                Found::File { raw, inflated } if inflated != listed.sha256 => {
                    let message = format!(
                        "its inflated bytes have the SHA-256 {inflated}, `{}` gives {}",
                        listed.by, listed.sha256
                    );
                    self.found(Code::ObjectMismatch, &listed.object, message);
                    Delivered::Altered(raw, inflated)
                }
                // Inflated: as which bytes it was delivered is not known.
                Found::File { raw, inflated } if raw == inflated => Delivered::Elsewhere,
                Found::File { raw, .. } => Delivered::Here(raw),
            };
            self.arrival(listed, &delivered);
        }
        Ok(())
    }

    fn arrival(&mut self, listed: &Listed, delivered: &Delivered) {
        let (arrival, others) = self.ingested.take(&listed.object, listed.sha256, delivered);
        match arrival {
            Arrival::Bytes => self.report.ingested += 1,
            Arrival::Name => self.report.by_name += 1,
            Arrival::None => {
                let how = match delivered {
                    Delivered::Here(_) => "the mirror holds it: `keytrail run` takes it in",
                    _ => "the mirror does not hold it as it was delivered",
                };
                let message =
                    format!("AWS delivered it, `{}` lists it, and it was never ingested; {how}", listed.by);
                self.found(Code::FileMissing, &listed.object, message);
            }
        }
        for name in others {
            let message = format!("ingested under the name of `{}`, and not with its bytes", listed.object);
            self.found(Code::ObjectMismatch, &name, message);
        }
    }

    fn found(&mut self, code: Code, element: &str, message: impl Into<String>) {
        self.findings.push(Finding::new(code, element, message));
    }

    /// What no digest lists, and what could not be checked.
    fn finish(&mut self, windows: &BTreeMap<(String, String), Vec<(Timestamp, Timestamp)>>) {
        let rest = self.ingested.unlisted(windows, self.range);
        for (name, window) in rest.inside {
            let message = format!("it was ingested, and no digest lists it, though digests cover {window}");
            self.findings.push(Finding::new(Code::FileUnlisted, name, message));
        }
        let mut not = |n: u64, what: &str| {
            if n > 0 {
                self.unchecked.push(format!("{n} {what}"));
            }
        };
        not(
            self.report.by_name,
            "ingested CloudTrail log files are known to their digests by name only: the mirror does not hold their bytes",
        );
        not(
            rest.outside,
            "ingested CloudTrail log files: no digest of their account and region covers their time",
        );
        not(
            rest.edge,
            "ingested CloudTrail log files of the last minutes before a digest ends: the next one, which is not here, may list them",
        );
        not(
            rest.other,
            "ingested inputs that are no log files of CloudTrail events by their name: no digest is about them",
        );
        not(
            self.ingested.unreadable,
            "detail objects whose inputs are not known: what they list counts as not ingested",
        );
        if let Some((name, n)) = &self.unnamed {
            self.unchecked
                .push(format!("{n} files in folders of digests that have no digest's name, as `{name}`"));
        }
    }
}

/// A path in the mirror for messages: with `/`, and what is no UTF-8 replaced.
fn display(path: &Path) -> String {
    path.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// A file of a digest.
struct DigestPath {
    object: String,
    name: keytrail_ledger::cloudtrail_digest::DigestName,
    path: PathBuf,
}
