//! C2SP signed-note: a text and signature lines below it, and verifier keys (`NAME+hex8+base64`).
//!
//! Reading is strict: there is one spelling of every note, so a changed byte is a changed text, a
//! changed signature or no note at all.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use keytrail_model::Hash;

/// Signature type of Ed25519 in keys and key ids.
const ED25519: u8 = 1;

/// An Ed25519 key that a note's signatures are checked with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// A key by its name (not empty, no `+`, no white space) and its 32 bytes.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, String> {
        if !is_name(name) {
            return Err(format!("`{name}` is no key name: expected one without `+` and white space"));
        }
        VerifyingKey::from_bytes(&public)
            .map_err(|_| format!("the key of `{name}` is no Ed25519 public key"))?;
        Ok(Self { name: name.into(), public })
    }

    /// Reads `NAME+hex8+base64(0x01 || public key)`; refuses any other spelling.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{text}` is no verifier key: {what}");
        let (name, rest) =
            text.split_once('+').ok_or_else(|| wrong("expected NAME+KEYID+BASE64 with Ed25519"))?;
        let (id, key) =
            rest.split_once('+').ok_or_else(|| wrong("expected NAME+KEYID+BASE64 with Ed25519"))?;
        let bytes = STANDARD.decode(key).map_err(|_| wrong("its last part is not base64"))?;
        let public = match bytes.split_first() {
            Some((&ED25519, public)) => {
                public.try_into().map_err(|_| wrong("an Ed25519 key has 32 bytes"))?
            }
            _ => return Err(wrong("it is not of type 1, Ed25519")),
        };
        let parsed = Self::new(name, public)?;
        if hex(parsed.id()) != id {
            return Err(wrong(&format!("its key id should be `{}`", hex(parsed.id()))));
        }
        Ok(parsed)
    }

    /// The name: for a log's key, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Key id: `SHA-256(name || 0x0A || 0x01 || public key)[..4]`.
    pub fn id(&self) -> [u8; 4] {
        let mut b = self.name.clone().into_bytes();
        b.extend([b'\n', ED25519]);
        b.extend(self.public);
        let [a, b, c, d, ..] = Hash::of(&b).0;
        [a, b, c, d]
    }

    /// SHA-256 of the public key: what people compare.
    pub fn fingerprint(&self) -> Hash {
        Hash::of(&self.public)
    }

    /// Whether `signature` is this key's over `message` (RFC 8032; weak keys and malleable
    /// signatures are refused).
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.public)
            .is_ok_and(|k| k.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend(self.public);
        write!(f, "{}+{}+{}", self.name, hex(self.id()), STANDARD.encode(key))
    }
}

/// A signature line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignatureLine {
    /// Name of the key.
    pub name: String,
    /// Id of the key.
    pub key_id: [u8; 4],
    /// What follows the id; 64 bytes where it is Ed25519.
    pub signature: Vec<u8>,
}

/// A text and its signature lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The text; ends with a newline.
    pub text: String,
    /// One or more.
    pub signatures: Vec<SignatureLine>,
}

impl Note {
    /// A text (lines, each with its line feed) with the signatures of these keys.
    pub fn signed(text: String, signatures: &[(&VerifierKey, [u8; 64])]) -> Self {
        let line = |(key, signature): &(&VerifierKey, [u8; 64])| SignatureLine {
            name: key.name().into(),
            key_id: key.id(),
            signature: signature.to_vec(),
        };
        Self { text, signatures: signatures.iter().map(line).collect() }
    }

    /// Reads a note; refuses any other spelling of the same.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let all = std::str::from_utf8(bytes).map_err(|_| "the note is not UTF-8".to_owned())?;
        if let Some(c) = all.chars().find(|c| *c < ' ' && *c != '\n') {
            return Err(format!("the note has a control character, U+{:04X}", u32::from(c)));
        }
        let at = all.rfind("\n\n").ok_or("the note has no empty line before its signatures")?;
        let (text, lines) = (&all[..=at], &all[at + 2..]);
        let lines = lines.strip_suffix('\n').ok_or("the note does not end with a newline")?;
        let signatures = lines.split('\n').map(signature_line).collect::<Result<Vec<_>, _>>()?;
        for (i, s) in signatures.iter().enumerate() {
            if signatures[..i].iter().any(|o| o.name == s.name && o.key_id == s.key_id) {
                return Err(format!("the note has two signatures of the key `{}+{}`", s.name, hex(s.key_id)));
            }
        }
        Ok(Self { text: text.into(), signatures })
    }

    /// The note's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.text.clone();
        out.push('\n');
        for s in &self.signatures {
            let mut bytes = s.key_id.to_vec();
            bytes.extend(&s.signature);
            out.push_str(&format!("\u{2014} {} {}\n", s.name, STANDARD.encode(bytes)));
        }
        out.into_bytes()
    }

    /// Which of `keys` signed, by their places. Lines of other keys are ignored, as C2SP says; a wrong
    /// signature by one of `keys`, or none by any, is an error.
    pub fn verify(&self, keys: &[&VerifierKey]) -> Result<Vec<usize>, String> {
        let mut good = Vec::new();
        for line in &self.signatures {
            let Some(at) = keys.iter().position(|k| k.name == line.name && k.id() == line.key_id) else {
                continue;
            };
            let verified = <&[u8; 64]>::try_from(line.signature.as_slice())
                .is_ok_and(|s| keys[at].verify(self.text.as_bytes(), s));
            if !verified {
                return Err(format!(
                    "the signature of the key `{}+{}` is wrong",
                    line.name,
                    hex(line.key_id)
                ));
            }
            good.push(at);
        }
        if good.is_empty() {
            let found: Vec<String> =
                self.signatures.iter().map(|l| format!("`{}+{}`", l.name, hex(l.key_id))).collect();
            let expected: Vec<String> =
                keys.iter().map(|k| format!("`{}+{}`", k.name, hex(k.id()))).collect();
            return Err(format!(
                "no known key signed: signed by {}, expected {}",
                found.join(", "),
                if expected.is_empty() { "a key, and none is known".into() } else { expected.join(" or ") }
            ));
        }
        Ok(good)
    }
}

fn signature_line(line: &str) -> Result<SignatureLine, String> {
    let wrong = || "a signature line of the note is not `\u{2014} NAME BASE64`".to_owned();
    let (name, data) =
        line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or_else(wrong)?;
    if !is_name(name) {
        return Err(wrong());
    }
    let bytes = STANDARD.decode(data).map_err(|_| wrong())?;
    match bytes.split_first_chunk::<4>() {
        Some((id, signature)) if !signature.is_empty() => {
            Ok(SignatureLine { name: name.into(), key_id: *id, signature: signature.to_vec() })
        }
        _ => Err(wrong()),
    }
}

/// A key's name: not empty, no `+`, no white space.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

/// A key id as 8 lower-case hex digits.
pub(crate) fn hex(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        text: Option<String>,
        want_note: Option<String>,
        verifiers: Option<Vec<String>>,
        note: Option<String>,
        verified: Option<Vec<String>>,
        unverified: Option<Vec<String>>,
        signer: Option<String>,
    }

    fn cases() -> Vec<Case> {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/merkle/signed-note-vectors.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn the_vectors_of_go() {
        let peter = VerifierKey::parse(PETER).unwrap();
        for case in cases() {
            if let Some(want) = &case.want_note {
                // Signed by the private key of the vector, which we sign with here, in a test only.
                let signer = case.signer.unwrap();
                let seed = STANDARD.decode(signer.splitn(5, '+').nth(4).unwrap()).unwrap();
                let key = ed25519_dalek::SigningKey::from_bytes(seed[1..].try_into().unwrap());
                assert_eq!(key.verifying_key().to_bytes(), *peter.public());
                let text = case.text.clone().unwrap();
                let signature = ed25519_dalek::Signer::sign(&key, text.as_bytes()).to_bytes().to_vec();
                let line = SignatureLine { name: peter.name().into(), key_id: peter.id(), signature };
                let note = Note { text, signatures: vec![line] };
                assert_eq!(String::from_utf8(note.to_bytes()).unwrap(), *want, "{}", case.name);
                assert_eq!(Note::parse(want.as_bytes()).unwrap(), note);
            }
            if let Some(text) = &case.note {
                let keys: Vec<VerifierKey> =
                    case.verifiers.unwrap().iter().map(|k| VerifierKey::parse(k).unwrap()).collect();
                let note = Note::parse(text.as_bytes()).unwrap();
                let good = note.verify(&keys.iter().collect::<Vec<_>>()).unwrap();
                let names: Vec<&str> = good.iter().map(|i| keys[*i].name()).collect();
                assert_eq!(names, case.verified.unwrap());
                let rest: Vec<&str> =
                    note.signatures.iter().map(|s| s.name.as_str()).filter(|n| !names.contains(n)).collect();
                assert_eq!(rest, case.unverified.unwrap());
                assert_eq!(note.to_bytes(), text.as_bytes());
            }
        }
    }

    #[test]
    fn every_flip_is_noticed() {
        let peter = VerifierKey::parse(PETER).unwrap();
        let note = cases()[0].want_note.clone().unwrap().into_bytes();
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut changed = note.clone();
                changed[at] ^= 1 << bit;
                let opened = Note::parse(&changed).and_then(|n| n.verify(&[&peter]));
                assert!(opened.is_err(), "byte {at}, bit {bit}");
            }
            assert!(Note::parse(&note[..at]).and_then(|n| n.verify(&[&peter])).is_err(), "cut at {at}");
        }
        for extra in ["\n", " ", "x\n", "\u{2014} a b\n"] {
            assert!(Note::parse(&[&note, extra.as_bytes()].concat()).is_err(), "{extra:?}");
        }
    }

    #[test]
    fn verifier_keys_are_read_strictly() {
        assert_eq!(VerifierKey::parse(PETER).unwrap().to_string(), PETER);
        for (text, message) in [
            ("x", "`x` is no verifier key: expected NAME+KEYID+BASE64 with Ed25519"),
            (&PETER.replace("c74f20a3", "C74F20A3"), "its key id should be `c74f20a3`"),
            (&PETER.replace("c74f20a3", "c74f20a4"), "its key id should be `c74f20a3`"),
            (&PETER.replace("Neumann", " Neumann"), "expected one without `+` and white space"),
            (&format!("{PETER}="), "its last part is not base64"),
            ("a+00000000+Ag==", "it is not of type 1, Ed25519"),
            ("a+00000000+AQI=", "an Ed25519 key has 32 bytes"),
        ] {
            let e = VerifierKey::parse(text).unwrap_err();
            assert!(e.contains(message), "{e}");
        }
    }

    #[test]
    fn an_unknown_signer_is_not_enough() {
        let note = Note::parse(cases()[0].want_note.clone().unwrap().as_bytes()).unwrap();
        assert_eq!(
            note.verify(&[]).unwrap_err(),
            "no known key signed: signed by `PeterNeumann+c74f20a3`, expected a key, and none is known"
        );
    }
}
