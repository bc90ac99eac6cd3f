//! The walk along the digests of one account and region, from the newest to the oldest.
//!
//! Each digest names the one before by path, hash and signature. Nothing of that is taken on trust: the
//! digest before must be of the same trail and older, hours without a digest are counted one by one, and a
//! digest that says that a chain starts with it ends no walk while older ones are there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use keytrail_model::{Hash, Timestamp};

use super::file::{DigestFile, ObjectHead, Previous};
use super::keys::PublicKeys;
use super::name::DigestName;
use crate::finding::{Code, Finding};

/// A digest file as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its S3 path, by where it lies.
    pub object: String,
    /// What the path says.
    pub name: DigestName,
    /// What it says; `None`: it cannot be read, which has a finding of its own.
    pub content: Option<Content>,
}

/// What a digest file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// SHA-256 of its inflated bytes.
    pub sha256: Hash,
    /// The digest; its list of log files may be empty by now.
    pub digest: DigestFile,
    /// Log files that it lists.
    pub listed: u64,
    /// Its own signature, where the object's metadata are at hand.
    pub head: Option<ObjectHead>,
}

/// What is expected to be there: windows that meet it. Links and signatures are checked everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// First moment.
    pub from: Option<Timestamp>,
    /// First moment behind it.
    pub to: Option<Timestamp>,
}

impl Range {
    /// Whether a window has a moment in the range.
    pub fn meets(&self, start: Timestamp, end: Timestamp) -> bool {
        self.from.is_none_or(|from| end > from) && self.to.is_none_or(|to| start < to)
    }
}

/// The digests of one trail, account and region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Beginning of their names.
    pub trail: String,
    /// Buckets that they say they were delivered to.
    pub buckets: BTreeSet<String>,
    /// Beginning of the oldest window, end of the newest.
    pub window: (Timestamp, Timestamp),
    /// Hours between these, and those up to the newest log file.
    pub hours_expected: u64,
    /// Hours that have a digest.
    pub hours_present: u64,
    /// Digests for files that an hour's own digest left out.
    pub backfills: u64,
    /// Digests whose signature was checked and fits.
    pub signed: u64,
}

/// What a walk found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Walked {
    /// What does not fit.
    pub findings: Vec<Finding>,
    /// What was not checked, and why.
    pub unchecked: Vec<String>,
    /// The chains.
    pub chains: Vec<Chain>,
    /// Times that digests cover, ascending, neighbours joined.
    pub windows: Vec<(Timestamp, Timestamp)>,
}

const HOUR: i64 = 3_600_000_000;
/// Windows that are so far apart, or overlap by so much, still touch.
const TOUCH: i64 = HOUR / 2;
/// A digest and the hour's last log files are delivered, and the digest is signed, within this time.
const DELIVERY: i64 = 2 * HOUR;
/// Hours without a digest that are named one by one: eleven years.
const MAX_GAPS: u64 = 100_000;

/// Walks the digests of one account and region. `latest` is the newest log file of theirs in the bucket:
/// hours up to it are expected to have a digest.
pub fn walk(
    mut links: Vec<Link>,
    keys: Option<&PublicKeys>,
    range: &Range,
    latest: Option<Timestamp>,
) -> Walked {
    let mut out = Walked::default();
    for link in &mut links {
        let moved = link.content.as_ref().filter(|c| c.digest.object != link.object);
        if let Some(moved) = moved {
            let message = format!("it says that it was delivered as `{}`", moved.digest.object);
            out.findings.push(Finding::new(Code::ObjectMismatch, &link.object, message));
            link.content = None;
        }
    }
    links.sort_by(|a, b| (a.end(), &a.object).cmp(&(b.end(), &b.object)));
    let mut walk = Walk {
        by_object: links.iter().enumerate().map(|(i, l)| (l.object.as_str(), i)).collect(),
        nexts: vec![Vec::new(); links.len()],
        links: &links,
        keys,
        range,
        out,
        gaps: 0,
        unnamed_gaps: 0,
    };
    walk.join();
    let signed = walk.signatures();
    let mut trails: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, link) in links.iter().enumerate() {
        trails.entry(&link.name.trail).or_default().push(i);
    }
    let newest = links.iter().rposition(|l| !l.name.backfill);
    for (trail, members) in trails {
        let latest = latest.filter(|_| newest.is_some_and(|n| members.contains(&n)));
        walk.trail(trail, &members, &signed, latest);
    }
    walk.finish()
}

impl Link {
    fn end(&self) -> Timestamp {
        self.content.as_ref().map_or(self.name.end, |c| c.digest.end)
    }

    fn start(&self) -> Timestamp {
        self.content.as_ref().map_or(Timestamp(self.name.end.0 - HOUR), |c| c.digest.start)
    }

    fn previous(&self) -> Option<&Previous> {
        self.content.as_ref().and_then(|c| c.digest.previous.as_ref())
    }
}

struct Walk<'a> {
    links: &'a [Link],
    by_object: HashMap<&'a str, usize>,
    /// Digests that name a digest as the one before.
    nexts: Vec<Vec<usize>>,
    keys: Option<&'a PublicKeys>,
    range: &'a Range,
    out: Walked,
    gaps: u64,
    unnamed_gaps: u64,
}

impl<'a> Walk<'a> {
    fn found(&mut self, code: Code, element: &str, message: impl Into<String>) {
        self.out.findings.push(Finding::new(code, element, message));
    }

    /// The digest that a digest names as the one before, if it is there and can be that.
    fn before(&self, next: usize) -> Option<usize> {
        let at = *self.by_object.get(self.links[next].previous()?.object.as_str())?;
        (at < next && self.links[at].name.trail == self.links[next].name.trail).then_some(at)
    }

    /// Who names whom.
    fn join(&mut self) {
        for (i, link) in self.links.iter().enumerate() {
            let Some(previous) = link.previous() else { continue };
            if let Some(at) = self.before(i) {
                self.nexts[at].push(i);
                let before = &self.links[at];
                if let Some(bucket) = before.content.as_ref().map(|c| &c.digest.bucket)
                    && *bucket != previous.bucket
                {
                    let message = format!(
                        "it says that its bucket is `{bucket}`, `{}` says `{}`",
                        link.object, previous.bucket
                    );
                    self.found(Code::ChainBreak, &before.object, message);
                }
            } else if self.by_object.contains_key(previous.object.as_str()) {
                let message = format!(
                    "it names `{}` before it, which is of another trail or not older",
                    previous.object
                );
                self.found(Code::ChainBreak, &link.object, message);
            }
        }
    }

    /// Hashes and signatures of all digests; which of them are signed.
    fn signatures(&mut self) -> Vec<bool> {
        let mut signed = vec![false; self.links.len()];
        let mut unsigned = Vec::new();
        for (i, link) in self.links.iter().enumerate() {
            let Some(content) = &link.content else { continue };
            let mut claims: Vec<(String, &str)> = Vec::new();
            for next in &self.nexts[i] {
                if let Some(previous) = self.links[*next].previous() {
                    claims.push((format!("by `{}`", self.links[*next].object), &previous.signature));
                }
            }
            if let Some(head) = &content.head {
                claims.push(("by its metadata".to_owned(), &head.signature));
            }
            let mut wrong = BTreeMap::new();
            if let Some(keys) = self.keys {
                for (who, signature) in &claims {
                    match check(keys, &link.name, content, signature) {
                        Ok(()) => signed[i] = true,
                        Err(e) => drop(wrong.entry(e).or_insert(who)),
                    }
                }
            }
            for (error, who) in wrong {
                self.found(Code::SigInvalid, &link.object, format!("its signature, as given {who}: {error}"));
            }
            if claims.is_empty() {
                unsigned.push(i);
            }
            self.hash(i, content.sha256, signed[i]);
        }
        self.unsigned(&unsigned);
        signed
    }

    /// A digest's bytes against the hashes that the next ones give. Where its signature fits, it is the next
    /// one that is wrong.
    fn hash(&mut self, at: usize, sha256: Hash, signed: bool) {
        let links = self.links;
        for next in self.nexts[at].clone() {
            let (link, next) = (&links[at], &links[next]);
            let Some(expected) = next.previous().map(|p| p.sha256).filter(|h| *h != sha256) else { continue };
            let (element, message) = if signed {
                let message =
                    format!("it gives the SHA-256 {expected} for `{}`, whose bytes are signed", link.object);
                (&next.object, message)
            } else {
                (&link.object, format!("its SHA-256 is {sha256}, `{}` gives {expected}", next.object))
            };
            self.found(Code::ChainBreak, element, message);
        }
    }

    /// Says whose signatures were not checked.
    fn unsigned(&mut self, unsigned: &[usize]) {
        if self.keys.is_none() {
            if !self.links.is_empty() {
                self.out.unchecked.push(format!(
                    "signatures of {} CloudTrail digests of {} in {}: no keys were given",
                    self.links.len(),
                    self.links[0].name.account,
                    self.links[0].name.region
                ));
            }
            return;
        }
        for i in unsigned {
            let link = &self.links[*i];
            let listed = link.content.as_ref().map_or(0, |c| c.listed);
            self.out.unchecked.push(format!(
                "signature of `{}`, and with it the {listed} log files that it lists: no later digest repeats it, and there is no `.head.json` beside the file",
                link.object
            ));
        }
    }

    /// The hours of one trail.
    fn trail(&mut self, trail: &str, members: &[usize], signed: &[bool], latest: Option<Timestamp>) {
        let links = self.links;
        let mut chain = Chain {
            trail: trail.to_owned(),
            buckets: BTreeSet::new(),
            window: (links[members[0]].start(), links[members[0]].end()),
            hours_expected: 0,
            hours_present: 0,
            backfills: 0,
            signed: members.iter().filter(|i| signed[**i]).count() as u64,
        };
        for link in members.iter().map(|i| &links[*i]) {
            chain.window = (chain.window.0.min(link.start()), chain.window.1.max(link.end()));
            chain.buckets.extend(link.content.as_ref().map(|c| c.digest.bucket.clone()));
            chain.backfills += u64::from(link.name.backfill);
        }
        let mut missing = 0;
        let mut next: Option<usize> = None;
        for at in members.iter().rev().copied().filter(|i| !links[*i].name.backfill) {
            let link = &links[at];
            match next {
                None => {
                    if let Some(latest) = latest {
                        missing += self.behind(link, latest);
                    }
                }
                Some(n) => match self.step(at, n) {
                    Step::Before(hours) => missing += hours,
                    Step::Beside => continue,
                },
            }
            next = Some(at);
            if self.range.meets(link.start(), link.end()) {
                chain.hours_present += 1;
            }
            if link.content.is_some() {
                self.out.windows.push((link.start(), link.end()));
            }
        }
        if let Some(oldest) = next {
            missing += self.oldest(oldest);
        }
        for i in members.iter().copied().filter(|i| links[*i].name.backfill) {
            self.backfill(&links[i]);
        }
        chain.hours_expected = chain.hours_present + missing;
        self.out.chains.push(chain);
    }

    /// From a digest to the next older file; gives the hours that are missing between them.
    fn step(&mut self, at: usize, next: usize) -> Step {
        let links = self.links;
        let (link, after) = (&links[at], &links[next]);
        let overlaps =
            |a: &Link, b: &Link| a.end().0 - TOUCH > b.start().0 && b.end().0 - TOUCH > a.start().0;
        let Some(previous) = after.previous() else {
            if after.content.is_some() {
                let (code, why) = if overlaps(link, after) {
                    (Code::Fork, "covers a time of it")
                } else {
                    (Code::ChainBreak, "is there")
                };
                let message = format!("it says that the chain starts with it, and `{}` {why}", link.object);
                self.found(code, &after.object, message);
            }
            return Step::Before(self.between(link.end(), after, 0));
        };
        match self.before(next) {
            Some(before) if before == at => Step::Before(self.between(link.end(), after, 0)),
            Some(before) if overlaps(link, after) || overlaps(link, &links[before]) => {
                let taken = if overlaps(link, after) { after } else { &links[before] };
                let message = format!("it claims a time of `{}`, and no digest names it", taken.object);
                self.found(Code::Fork, &link.object, message);
                Step::Beside
            }
            Some(_) => {
                let message =
                    format!("it names `{}` before it and leaves out `{}`", previous.object, link.object);
                self.found(Code::ChainBreak, &after.object, message);
                Step::Before(self.between(link.end(), after, 0))
            }
            None if overlaps(link, after) => {
                let message =
                    format!("it claims a time of `{}`, which names another one before it", after.object);
                self.found(Code::Fork, &link.object, message);
                Step::Beside
            }
            // Named, and not there: at least that one is missing.
            None => Step::Before(self.between(link.end(), after, 1)),
        }
    }

    /// Hours without a digest before `after`, one finding each.
    fn between(&mut self, from: Timestamp, after: &Link, at_least: i64) -> u64 {
        let hours = ((after.start().0 - from.0 + TOUCH) / HOUR).max(at_least);
        let named = after.previous().filter(|p| !self.by_object.contains_key(p.object.as_str()));
        let named = named.map(|p| p.object.clone());
        let mut missing = 0;
        for i in 0..hours {
            let end = Timestamp(after.start().0 - i * HOUR);
            let path = || named.clone().filter(|_| i == 0).unwrap_or_else(|| after.name.at(end));
            missing += self.gap(path, end);
        }
        missing
    }

    /// Hours behind the newest digest that have log files.
    fn behind(&mut self, newest: &Link, latest: Timestamp) -> u64 {
        let mut missing = 0;
        let mut end = newest.end().0 + HOUR;
        while end + DELIVERY <= latest.0 {
            missing += self.gap(|| newest.name.at(Timestamp(end)), Timestamp(end));
            end += HOUR;
        }
        missing
    }

    /// What the oldest digest says of those before it.
    fn oldest(&mut self, at: usize) -> u64 {
        let links = self.links;
        let link = &links[at];
        let Some(previous) = link.previous() else { return 0 };
        if self.by_object.contains_key(previous.object.as_str()) {
            return 0;
        }
        if link.content.as_ref().is_some_and(|c| c.digest.bucket != previous.bucket) {
            let (object, bucket) = (&previous.object, &previous.bucket);
            self.out
                .unchecked
                .push(format!("`{object}` and older digests: they are in another bucket, `{bucket}`"));
            return 0;
        }
        self.gap(|| previous.object.clone(), link.start())
    }

    /// An hour that has no digest.
    fn gap(&mut self, path: impl FnOnce() -> String, end: Timestamp) -> u64 {
        let start = Timestamp(end.0 - HOUR);
        if !self.range.meets(start, end) {
            return 0;
        }
        if self.gaps < MAX_GAPS {
            self.gaps += 1;
            let message = format!("no digest for the hour from {} to {}", seconds(start), seconds(end));
            self.found(Code::Gap, &path(), message);
        } else {
            self.unnamed_gaps += 1;
        }
        1
    }

    /// A backfill digest belongs to no hour: only what it names is expected.
    fn backfill(&mut self, link: &Link) {
        let Some(previous) = link.previous() else { return };
        let elsewhere = link.content.as_ref().is_some_and(|c| c.digest.bucket != previous.bucket);
        if !elsewhere
            && !self.by_object.contains_key(previous.object.as_str())
            && self.range.meets(link.start(), link.end())
        {
            let message = format!("it is not there, and `{}` names it as the digest before", link.object);
            self.found(Code::FileMissing, &previous.object, message);
        }
    }

    fn finish(mut self) -> Walked {
        if self.unnamed_gaps > 0 {
            let folder = self.links.first().map_or("", |l| l.name.folder.as_str());
            self.found(Code::Gap, folder, format!("no digest for {} more hours", self.unnamed_gaps));
        }
        let windows = &mut self.out.windows;
        windows.sort_unstable();
        windows.dedup_by(|b, a| {
            let touch = b.0.0 - TOUCH <= a.1.0;
            if touch {
                a.1 = a.1.max(b.1);
            }
            touch
        });
        self.out
    }
}

/// Where a file stands.
enum Step {
    /// In the chain, so many hours missing behind it.
    Before(u64),
    /// Not in the chain.
    Beside,
}

/// Checks a digest's signature with the key that it names.
fn check(keys: &PublicKeys, name: &DigestName, content: &Content, signature: &str) -> Result<(), String> {
    let digest = &content.digest;
    let key = keys.get(&digest.fingerprint).ok_or_else(|| {
        format!("the key with the fingerprint `{}` is not among those given", digest.fingerprint)
    })?;
    // A digest is signed when it is made: after its hour, a backfill digest when its metadata say.
    let generated = content.head.as_ref().and_then(|h| h.generated).filter(|_| name.backfill);
    let (from, to) = match generated {
        Some(at) => (Timestamp(at.0.saturating_sub(HOUR)), Timestamp(at.0.saturating_add(HOUR))),
        None if name.backfill => (digest.end, Timestamp(i64::MAX)),
        None => (digest.end, Timestamp(digest.end.0 + DELIVERY)),
    };
    if !key.valid(from, to) {
        return Err(format!("the key with the fingerprint `{}` is not valid then", digest.fingerprint));
    }
    key.verify(&digest.string_to_sign(&content.sha256), signature)
}

fn seconds(time: Timestamp) -> String {
    format!("{}Z", time.to_rfc3339().chars().take(19).collect::<String>())
}

#[cfg(test)]
mod tests;
