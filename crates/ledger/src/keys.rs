//! The keys of one log, each with the tree sizes at which it signs.
//!
//! The key file has a line for each key: `VKEY [FROM [TO]]`, `VKEY` as in C2SP signed-note, `FROM` and
//! `TO` the first and last tree size at which it is valid (0 and no end, if left out). A log's verifier
//! key alone is therefore a key file. Where two keys are valid (the overlap of a rotation), both must
//! have signed.

use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::note::{Note, VerifierKey, hex};

/// A key and when it is valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogKey {
    /// The key.
    pub key: VerifierKey,
    /// First tree size that it signs.
    pub from: u64,
    /// Last tree size that it signs; `None`: no end.
    pub to: Option<u64>,
}

impl LogKey {
    fn valid_at(&self, size: u64) -> bool {
        self.from <= size && self.to.is_none_or(|to| size <= to)
    }
}

/// The keys of one log; all have its origin as their name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogKeys(Vec<LogKey>);

impl LogKeys {
    /// One key, valid at all sizes.
    pub fn of(key: VerifierKey) -> Self {
        Self(vec![LogKey { key, from: 0, to: None }])
    }

    /// Reads a key file; blank lines are skipped.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<LogKey> = Vec::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let wrong = |what: String| format!("line {} of the key file: {what}", i + 1);
            let mut parts = line.split_ascii_whitespace();
            let key = VerifierKey::parse(parts.next().unwrap_or_default()).map_err(wrong)?;
            let mut size = || {
                parts
                    .next()
                    .map(|p| p.parse().map_err(|_| wrong(format!("expected a tree size, found `{p}`"))))
                    .transpose()
            };
            let (from, to): (u64, Option<u64>) = (size()?.unwrap_or(0), size()?);
            if parts.next().is_some() || to.is_some_and(|to| to < from) {
                return Err(wrong("expected `VKEY [FROM [TO]]` with FROM not above TO".into()));
            }
            if let Some(first) = keys.first()
                && first.key.name() != key.name()
            {
                return Err(wrong(format!(
                    "the keys of one log have one name: expected `{}`, found `{}`",
                    first.key.name(),
                    key.name()
                )));
            }
            keys.push(LogKey { key, from, to });
        }
        if keys.is_empty() {
            return Err("the key file has no key".into());
        }
        Ok(Self(keys))
    }

    /// The keys, in the file's order.
    pub fn keys(&self) -> &[LogKey] {
        &self.0
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        // Both constructors make at least one.
        self.0.first().map_or("", |k| k.key.name())
    }

    /// Notes that from the tree size `size` on, `keys` and no others sign: a new key starts there, an
    /// open one that is not among them ended before.
    pub fn sign_from(&mut self, keys: &[VerifierKey], size: u64) {
        for k in &mut self.0 {
            if k.to.is_none() && !keys.contains(&k.key) {
                k.to = Some(size.saturating_sub(1).max(k.from));
            }
        }
        for key in keys {
            if !self.0.iter().any(|k| k.to.is_none() && k.key == *key) {
                self.0.push(LogKey { key: key.clone(), from: size, to: None });
            }
        }
    }

    /// Reads a checkpoint file: its origin is ours, every key that is valid at its size signed it, none
    /// signed wrongly or outside of its sizes. Lines of unknown keys are ignored, as C2SP says.
    pub fn open(&self, bytes: &[u8]) -> Result<Checkpoint, String> {
        let keys: Vec<&VerifierKey> = self.0.iter().map(|k| &k.key).collect();
        let checkpoint = Checkpoint::open(bytes, &keys)?;
        let note = Note::parse(bytes)?;
        let signed =
            |k: &LogKey| note.signatures.iter().any(|s| s.name == k.key.name() && s.key_id == k.key.id());
        let valid = |k: &LogKey| {
            // A key may come back: its sizes are those of all of its lines.
            self.0.iter().any(|o| o.key == k.key && o.valid_at(checkpoint.size))
        };
        for k in &self.0 {
            let name = format!("`{}+{}`", k.key.name(), hex(k.key.id()));
            match (signed(k), valid(k)) {
                (true, false) => {
                    return Err(format!(
                        "the key {name} signed size {}, where it is not valid",
                        checkpoint.size
                    ));
                }
                (false, true) => {
                    return Err(format!(
                        "the key {name} is valid at size {} and did not sign it",
                        checkpoint.size
                    ));
                }
                _ => {}
            }
        }
        Ok(checkpoint)
    }
}

impl fmt::Display for LogKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for k in &self.0 {
            write!(f, "{} {}", k.key, k.from)?;
            if let Some(to) = k.to {
                write!(f, " {to}")?;
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use keytrail_model::Hash;

    use super::*;

    pub(crate) fn key(seed: u8) -> (SigningKey, VerifierKey) {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let verifier = VerifierKey::new("log", signing.verifying_key().to_bytes()).unwrap();
        (signing, verifier)
    }

    pub(crate) fn signed(size: u64, root: Hash, seeds: &[u8]) -> Vec<u8> {
        let c = Checkpoint { origin: "log".into(), size, root };
        let keys: Vec<_> = seeds.iter().map(|s| key(*s)).collect();
        let lines: Vec<_> = keys.iter().map(|(s, v)| (v, s.sign(c.body().as_bytes()).to_bytes())).collect();
        c.to_note(&lines).to_bytes()
    }

    #[test]
    fn rotation_by_tree_size() {
        let mut keys = LogKeys::of(key(1).1);
        keys.sign_from(&[key(1).1, key(2).1], 10);
        keys.sign_from(&[key(2).1], 20);
        let text = keys.to_string();
        assert_eq!(text, format!("{} 0 19\n{} 10\n", key(1).1, key(2).1));
        assert_eq!(LogKeys::parse(&text).unwrap(), keys);
        let open = |size, seeds: &[u8]| keys.open(&signed(size, Hash::default(), seeds));
        assert!(open(9, &[1]).is_ok());
        assert!(open(10, &[1, 2]).is_ok());
        assert!(open(10, &[1, 2, 3]).is_ok(), "an unknown line is ignored");
        assert!(open(20, &[2]).is_ok());
        for (size, seeds, message) in [
            (9, &[1, 2][..], "signed size 9, where it is not valid"),
            (10, &[1], "is valid at size 10 and did not sign it"),
            (20, &[1], "signed size 20, where it is not valid"),
            (20, &[1, 2], "signed size 20, where it is not valid"),
            (20, &[3], "no known key signed"),
        ] {
            let e = open(size, seeds).unwrap_err();
            assert!(e.contains(message), "{e}");
        }
    }

    #[test]
    fn every_flip_of_an_overlap_is_noticed() {
        let keys = LogKeys::parse(&format!("{}\n{} 0\n", key(1).1, key(2).1)).unwrap();
        let good = signed(7, Hash::of(b"x"), &[1, 2]);
        assert!(keys.open(&good).is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(keys.open(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_key_file_is_checked() {
        let k = key(1).1;
        let other = VerifierKey::new("other", *k.public()).unwrap();
        for (text, message) in [
            (String::new(), "the key file has no key"),
            (format!("{k} x"), "line 1 of the key file: expected a tree size, found `x`"),
            (format!("{k} 5 4"), "line 1 of the key file: expected `VKEY [FROM [TO]]`"),
            (format!("{k} 5 6 7"), "line 1 of the key file: expected `VKEY [FROM [TO]]`"),
            (format!("{k}\n\n{other}"), "line 3 of the key file: the keys of one log have one name"),
        ] {
            let e = LogKeys::parse(&text).unwrap_err();
            assert!(e.contains(message), "{e}");
        }
    }

    #[test]
    fn the_origin_is_the_keys_name() {
        let c = Checkpoint { origin: "elsewhere".into(), size: 0, root: Hash::default() };
        let (s, v) = key(1);
        let bytes = c.to_note(&[(&v, s.sign(c.body().as_bytes()).to_bytes())]).to_bytes();
        assert_eq!(
            LogKeys::of(v).open(&bytes).unwrap_err(),
            "the origin `elsewhere` is not the name of the key, `log`"
        );
    }
}
