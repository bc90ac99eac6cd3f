//! What the records that a sidecar makes of itself say: opening, heads, losses, end.

use keytrail_model::Hash;
use serde::Deserialize;

use super::record::Record;
use crate::checkpoint::Checkpoint;
use crate::finding::Code;
use crate::note::{Note, VerifierKey, hex};

/// What the audit key signs to vouch for an epoch's key, which is given in hex.
pub fn epoch_key_message(source: &str, epoch: u64, public_key: &str) -> String {
    format!("keytrail/epoch-key/1\n{source}\n{epoch}\n{public_key}\n")
}

#[derive(Deserialize)]
struct OpeningBody {
    epoch_key: EpochKey,
    last: Option<Last>,
    checkpoint: Option<String>,
}

#[derive(Deserialize)]
struct EpochKey {
    public_key: Hash,
    signature: String,
    audit_key_id: String,
}

/// The last record of an epoch, as the next one has it.
#[derive(Clone, Copy, Deserialize, Debug)]
pub(super) struct Last {
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

#[derive(Deserialize)]
struct HeadBody {
    checkpoint: String,
}

/// Records that were lost, and why.
#[derive(Deserialize, Debug)]
pub(super) struct Told {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) cause: String,
}

#[derive(Deserialize)]
struct CloseBody {
    records: u64,
}

/// What an epoch's first record says.
#[derive(Debug)]
pub(super) struct Opening {
    /// The key that signs its heads.
    pub(super) key: [u8; 32],
    signature: Option<[u8; 64]>,
    audit_key_id: String,
    pub(super) last: Option<Last>,
    /// A signed note of the archive's log.
    pub(super) checkpoint: Option<String>,
    pub(super) wall_ns: i64,
}

impl Opening {
    fn read(record: &Record<'_>) -> Result<Self, String> {
        let body: OpeningBody = read(record)?;
        Ok(Self {
            key: body.epoch_key.public_key.0,
            signature: bytes_of(&body.epoch_key.signature),
            audit_key_id: body.epoch_key.audit_key_id,
            last: body.last,
            checkpoint: body.checkpoint,
            wall_ns: record.clocks.map_or(0, |c| c.wall_ns),
        })
    }

    /// Whether one of a source's audit keys vouches for the epoch's key; why not.
    pub(super) fn verify(&self, source: &str, epoch: u64, keys: &[VerifierKey]) -> Result<(), String> {
        let named = |k: &&VerifierKey| format!("{}+{}", k.name(), hex(k.id())) == self.audit_key_id;
        let key = keys.iter().filter(|k| is_of(k.name(), source)).find(named).ok_or_else(|| {
            format!(
                "the audit key `{}` is none of those given for this source",
                printable(&self.audit_key_id)
            )
        })?;
        let message = epoch_key_message(source, epoch, &Hash(self.key).to_hex());
        match self.signature {
            Some(signature) if key.verify(message.as_bytes(), &signature) => Ok(()),
            _ => Err(format!("the signature of the audit key `{}` is wrong", printable(&self.audit_key_id))),
        }
    }
}

/// Whether a name is `<organization>/<rest>`; organizations have no `/`.
fn is_of(name: &str, rest: &str) -> bool {
    name.split_once('/').is_some_and(|(organization, r)| !organization.is_empty() && r == rest)
}

/// Start of a text that a hostile record may have made.
pub(super) fn printable(text: &str) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(256).map(printable).collect()
}

fn read<'a, T: Deserialize<'a>>(record: &Record<'a>) -> Result<T, String> {
    serde_json::from_str(record.body.unwrap_or("null")).map_err(|e| printable(&e.to_string()))
}

/// A head's note.
#[derive(Debug)]
struct Head {
    note: Note,
    checkpoint: Checkpoint,
}

impl Head {
    fn parse(text: &str) -> Result<Self, String> {
        let parse = || {
            let note = Note::parse(text.as_bytes())?;
            let checkpoint = Checkpoint::parse_body(&note.text)?;
            Ok(Self { note, checkpoint })
        };
        parse().map_err(|why: String| printable(&why))
    }

    fn verify(&self, key: &[u8; 32]) -> Result<(), String> {
        let key = VerifierKey::new(&self.checkpoint.origin, *key).map_err(|why| printable(&why))?;
        self.note.verify(&[&key]).map(|_| ()).map_err(|why| printable(&why))
    }
}

/// What such records of one epoch said.
#[derive(Default, Debug)]
pub(super) struct Control {
    /// Its opening.
    pub(super) opening: Option<Opening>,
    /// The opening could not be read, or is no opening.
    pub(super) opening_is_bad: bool,
    /// Notes of heads that came before the opening.
    waiting: Vec<(u64, Box<str>)>,
    /// Numbers of records that close the epoch.
    pub(super) closes: Vec<u64>,
    /// Losses, by the record that tells of them.
    pub(super) told: Vec<(u64, Told)>,
    pub(super) heads: u64,
    pub(super) last_head: Option<u64>,
    /// What is wrong, and with which record.
    pub(super) flaws: Vec<(u64, Code, String)>,
}

impl Control {
    /// Takes an `epoch_open`.
    pub(super) fn open(&mut self, record: &Record<'_>) {
        let (seq, epoch) = (record.seq, record.epoch);
        if seq != 0 {
            let message = format!("record {seq} of epoch {epoch} opens the epoch, and is not its first one");
            return self.flaws.push((seq, Code::EpochUnlinked, message));
        }
        match Opening::read(record) {
            Err(why) => {
                self.opening_is_bad = true;
                let message = format!("record 0 of epoch {epoch} vouches for no key of the epoch: {why}");
                self.flaws.push((0, Code::SigInvalid, message));
            }
            Ok(opening) => {
                let key = opening.key;
                self.opening = Some(opening);
                for (seq, text) in std::mem::take(&mut self.waiting) {
                    // They were read before.
                    if let Ok(head) = Head::parse(&text) {
                        self.verify(&head, &key, (epoch, seq));
                    }
                }
            }
        }
    }

    /// Takes a `head`; gives the root that it signs over all records before it.
    pub(super) fn head(&mut self, record: &Record<'_>) -> Option<Hash> {
        let (seq, epoch) = (record.seq, record.epoch);
        self.heads += 1;
        self.last_head = self.last_head.max(Some(seq));
        let body =
            read::<HeadBody>(record).and_then(|b| Head::parse(&b.checkpoint).map(|h| (b.checkpoint, h)));
        let (text, head) = match body {
            Ok(read) => read,
            Err(why) => {
                let message = format!("record {seq} of epoch {epoch} is a head that cannot be read: {why}");
                self.flaws.push((seq, Code::SigInvalid, message));
                return None;
            }
        };
        let Checkpoint { origin, size, root } = &head.checkpoint;
        if !is_of(origin, &format!("{}/{epoch}", record.source)) {
            let message = format!(
                "record {seq} of epoch {epoch} is a head of `{}`, which is not this epoch",
                printable(origin)
            );
            self.flaws.push((seq, Code::SigInvalid, message));
        } else if *size != seq {
            let message =
                format!("record {seq} of epoch {epoch} is a head over {size} records: expected {seq}");
            self.flaws.push((seq, Code::SigInvalid, message));
        }
        match self.opening.as_ref().map(|o| o.key) {
            Some(key) => self.verify(&head, &key, (epoch, seq)),
            None => self.waiting.push((seq, text.into())),
        }
        (*size == seq).then_some(*root)
    }

    fn verify(&mut self, head: &Head, key: &[u8; 32], (epoch, seq): (u64, u64)) {
        if let Err(why) = head.verify(key) {
            let message =
                format!("record {seq} of epoch {epoch} is a head that the epoch's key did not sign: {why}");
            self.flaws.push((seq, Code::SigInvalid, message));
        }
    }

    /// Heads whose signature nobody can check.
    pub(super) fn unverified_heads(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Takes a `gap`.
    pub(super) fn gap(&mut self, record: &Record<'_>) {
        // One that cannot be read tells no cause; the numbers are missing all the same.
        if let Ok(told) = read::<Told>(record) {
            self.told.push((record.seq, told));
        }
    }

    /// Takes an `epoch_close`.
    pub(super) fn close(&mut self, record: &Record<'_>) {
        let (seq, epoch) = (record.seq, record.epoch);
        let said = match read::<CloseBody>(record) {
            Ok(body) if body.records == seq => None,
            Ok(body) => Some(format!("says that {} records are before it", body.records)),
            Err(why) => Some(format!("does not say how many records are before it: {why}")),
        };
        if let Some(said) = said {
            let message = format!("record {seq} of epoch {epoch} closes the epoch and {said}");
            self.flaws.push((seq, Code::EpochUnlinked, message));
        }
        self.closes.push(seq);
    }
}

/// Reads 128 lower-case hex digits.
fn bytes_of(text: &str) -> Option<[u8; 64]> {
    let (first, second) = text.split_at_checked(64)?;
    let halves = [Hash::from_hex(first)?.0, Hash::from_hex(second)?.0];
    halves.concat().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_one_source() {
        assert!(is_of("example.org/gateway/p0", "gateway/p0"));
        for (name, source) in [
            ("example.org/gateway/p0", "p0"),
            ("/gateway/p0", "gateway/p0"),
            ("gateway/p0", "gateway/p0"),
            ("example.org/gateway/p0/3", "gateway/p0"),
        ] {
            assert!(!is_of(name, source), "{name}");
        }
    }

    #[test]
    fn signatures_are_128_digits() {
        assert_eq!(bytes_of(&"0f".repeat(64)), Some([15; 64]));
        for text in [String::new(), "0f".repeat(63), "0f".repeat(65), "0F".repeat(64), "é".repeat(64)] {
            assert_eq!(bytes_of(&text), None, "{text}");
        }
    }
}
