//! A log's head (C2SP tlog-checkpoint): origin, size and root, as the text of a signed note.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keytrail_model::Hash;

use crate::note::{Note, VerifierKey};

/// A log's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// Reads a note's text: three lines; extension lines are not written by us and refused.
    pub fn parse_body(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("the checkpoint is not ORIGIN, SIZE, ROOT on three lines: {what}");
        let body = text.strip_suffix('\n').ok_or_else(|| wrong("it does not end with a newline"))?;
        let lines: Vec<&str> = body.splitn(4, '\n').collect();
        let [origin, size_text, root] = lines[..] else {
            return Err(wrong(&format!("it has {} lines", body.split('\n').count())));
        };
        if origin.is_empty() {
            return Err(wrong("the origin is empty"));
        }
        let size: u64 = size_text.parse().map_err(|_| wrong("the size is no number"))?;
        let root = STANDARD
            .decode(root)
            .ok()
            .and_then(|r| r.try_into().ok())
            .map(Hash)
            .ok_or_else(|| wrong("the root is not 32 bytes of base64"))?;
        let parsed = Self { origin: origin.into(), size, root };
        if parsed.body() != text {
            return Err(wrong("the size is not in its shortest form"));
        }
        Ok(parsed)
    }

    /// The root as the note spells it, in base64.
    pub fn root_base64(&self) -> String {
        STANDARD.encode(self.root.0)
    }

    /// The text to sign.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root_base64())
    }

    /// The checkpoint file: the text and a line for each signature over [`body`](Self::body).
    pub fn to_note(&self, signatures: &[(&VerifierKey, [u8; 64])]) -> Note {
        Note::signed(self.body(), signatures)
    }

    /// Reads a checkpoint file that at least one of `keys` signed (none wrongly) under its own name.
    pub fn open(bytes: &[u8], keys: &[&VerifierKey]) -> Result<Self, String> {
        let note = Note::parse(bytes)?;
        let checkpoint = Self::parse_body(&note.text)?;
        for at in note.verify(keys)? {
            if keys[at].name() != checkpoint.origin {
                return Err(format!(
                    "the origin `{}` is not the name of the key, `{}`",
                    checkpoint.origin,
                    keys[at].name()
                ));
            }
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_one_spelling() {
        let c = Checkpoint { origin: "example.org/log".into(), size: 10, root: Hash::of(b"") };
        let body = "example.org/log\n10\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        assert_eq!(c.body(), body);
        assert_eq!(Checkpoint::parse_body(body).unwrap(), c);
        for (from, to, message) in [
            ("10", "010", "the size is not in its shortest form"),
            ("10", "+10", "the size is not in its shortest form"),
            ("10", "-1", "the size is no number"),
            ("10", "18446744073709551616", "the size is no number"),
            ("=\n", "=", "it does not end with a newline"),
            ("=\n", "=\nextension\n", "it has 4 lines"),
            ("uFU=", "uFV=", "the root is not 32 bytes of base64"),
            ("uFU=", "uFU", "the root is not 32 bytes of base64"),
            ("example.org/log", "", "the origin is empty"),
        ] {
            let e = Checkpoint::parse_body(&body.replace(from, to)).unwrap_err();
            assert!(e.contains(message), "{e}");
        }
    }
}
