//! The inputs that the sealed log names, as far as digests are about them.

use std::collections::{BTreeMap, HashMap, HashSet};

use keytrail_ledger::cloudtrail_digest::{LogName, Range};
use keytrail_model::{Detail, Fatal, Hash, Timestamp};
use keytrail_ports::BlobStore;

use crate::readable::Readable;

/// Inputs, by the hash of the bytes as they came and, where they have a log file's name, by that.
pub(super) struct Ingested {
    hashes: HashSet<Hash>,
    named: Vec<Named>,
    /// Numbers of inputs by the file's name without `.gz`.
    by_file: HashMap<String, Vec<u32>>,
    /// Inputs without a log file's name.
    other: u64,
    /// Detail objects that could not be read: they have findings of their own.
    pub unreadable: u64,
}

struct Named {
    name: String,
    sha256: Hash,
    log: LogName,
    listed: bool,
}

/// What the mirror says of a listed log file.
pub(super) enum Delivered {
    /// It holds the file as it was delivered, with this hash.
    Here(Hash),
    /// It holds another one in its place, with these hashes: as it is and inflated.
    Altered(Hash, Hash),
    /// It does not hold it.
    Elsewhere,
}

impl Delivered {
    /// Whether an input with this hash is the file whose inflated bytes have the hash `sha256`, as far as
    /// that can be told.
    fn is(&self, input: &Hash, sha256: &Hash) -> Option<bool> {
        match self {
            _ if input == sha256 => Some(true),
            Self::Here(raw) => Some(input == raw),
            Self::Altered(raw, inflated) if input == raw || input == inflated => Some(false),
            Self::Altered(..) | Self::Elsewhere => None,
        }
    }
}

/// How a listed log file arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// With the bytes that were delivered.
    Bytes,
    /// Under its name; what its bytes inflate to is not known.
    Name,
    /// Not at all.
    None,
}

/// Inputs with a log file's name that no digest lists.
#[derive(Default)]
pub(super) struct Unlisted {
    /// Inside of a time that digests cover, which is told too.
    pub inside: Vec<(String, String)>,
    /// Shortly before the end of such a time.
    pub edge: u64,
    /// Outside of all.
    pub outside: u64,
    /// Inputs with another name.
    pub other: u64,
}

/// A log file may be delivered so long after the minute in its name.
const DELIVERY: i64 = 15 * 60_000_000;

impl Ingested {
    /// Reads what the sealed log says was taken in.
    pub fn load(store: &dyn BlobStore, readable: &Readable) -> Result<Self, Fatal> {
        let mut all = Self {
            hashes: HashSet::new(),
            named: Vec::new(),
            by_file: HashMap::new(),
            other: 0,
            unreadable: 0,
        };
        for (key, sealed) in &readable.details {
            let bytes = store.get(key)?.filter(|bytes| Hash::of(bytes) == sealed.sha256);
            let Some(detail) = bytes.and_then(|bytes| Detail::parse(&bytes).ok()) else {
                all.unreadable += 1;
                continue;
            };
            for input in detail.inputs {
                all.hashes.insert(input.sha256);
                let Some(log) = LogName::parse(&input.object) else {
                    all.other += 1;
                    continue;
                };
                // Details of 4 billion inputs do not fit any memory.
                let number = all.named.len() as u32;
                all.by_file.entry(LogName::file(&input.object).to_owned()).or_default().push(number);
                all.named.push(Named { name: input.object, sha256: input.sha256, log, listed: false });
            }
        }
        Ok(all)
    }

    /// Notes that a digest lists a log file, no matter how it arrived.
    pub fn listed(&mut self, object: &str, sha256: Hash) {
        self.take(object, sha256, &Delivered::Elsewhere);
    }

    /// How a listed log file arrived, and names of inputs that have its name and other bytes.
    pub fn take(&mut self, object: &str, sha256: Hash, delivered: &Delivered) -> (Arrival, Vec<String>) {
        // Inflated before it was ingested, or as it came; under any name.
        let mut arrived = self.hashes.contains(&sha256)
            || matches!(delivered, Delivered::Here(raw) if self.hashes.contains(raw));
        let (mut unknown, mut others) = (false, Vec::new());
        for number in self.by_file.get(LogName::file(object)).into_iter().flatten() {
            let input = &mut self.named[*number as usize];
            input.listed = true;
            match delivered.is(&input.sha256, &sha256) {
                Some(true) => arrived = true,
                Some(false) => others.push(input.name.clone()),
                None => unknown = true,
            }
        }
        let arrival = match (arrived, unknown) {
            (true, _) => Arrival::Bytes,
            (false, true) => Arrival::Name,
            (false, false) => Arrival::None,
        };
        (arrival, others)
    }

    /// Inputs that no digest listed, by the times that digests cover.
    pub fn unlisted(
        &self,
        windows: &BTreeMap<(String, String), Vec<(Timestamp, Timestamp)>>,
        range: &Range,
    ) -> Unlisted {
        let mut rest = Unlisted { other: self.other, ..Unlisted::default() };
        let unlisted = self.named.iter().filter(|i| !i.listed);
        rest.other += unlisted.clone().filter(|i| !i.log.ordinary).count() as u64;
        let unlisted = unlisted.filter(|i| i.log.ordinary);
        for input in unlisted.filter(|i| range.meets(i.log.minute, Timestamp(i.log.minute.0 + 1))) {
            let LogName { account, region, minute, .. } = &input.log;
            let covered = windows.get(&(account.clone(), region.clone())).map_or(&[][..], Vec::as_slice);
            // The last window that begins before it.
            let at = covered.partition_point(|(start, _)| start <= minute);
            match at.checked_sub(1).map(|at| covered[at]).filter(|(_, end)| minute <= end) {
                None => rest.outside += 1,
                Some((_, end)) if minute.0 > end.0 - DELIVERY => rest.edge += 1,
                Some((start, end)) => {
                    let window = format!("{} to {}", start.to_rfc3339(), end.to_rfc3339());
                    rest.inside.push((input.name.clone(), window));
                }
            }
        }
        rest
    }
}
