//! SHA-256 values and the identity of an event.

use std::fmt;

use sha2::{Digest, Sha256};

/// A SHA-256 value (32 bytes); shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 lower-case hex digits; anything else is `None`.
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::from_digits(text.as_bytes())
    }

    /// As [`from_hex`](Self::from_hex).
    pub fn from_digits(text: &[u8]) -> Option<Self> {
        decode_hex(text).map(Self)
    }

    /// 64 lower-case hex digits, on the stack.
    pub fn hex(self) -> [u8; 64] {
        let mut out = [0; 64];
        encode_hex(&self.0, &mut out);
        out
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Self::from_hex(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is not a sha-256 in 64 lower-case hex digits"))
        })
    }
}

/// `keytrail_uid`: the first 20 bytes of a SHA-256, shown as 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uid(pub [u8; 20]);

impl Uid {
    /// Reads 40 lower-case hex digits; anything else is `None`.
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::from_digits(text.as_bytes())
    }

    /// As [`from_hex`](Self::from_hex).
    pub fn from_digits(text: &[u8]) -> Option<Self> {
        decode_hex(text).map(Self)
    }

    /// 40 lower-case hex digits, on the stack: no allocation on the hot path.
    pub fn hex(self) -> [u8; 40] {
        let mut out = [0; 40];
        encode_hex(&self.0, &mut out);
        out
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// What an event's identity is made of (frozen with `keytrail/uid/1`, ARCHITECTURE rule 4): the
/// dataset, the scope that the record itself names, the producer's key (empty: none) and the digest
/// of the record's content.
///
/// Returns the uid and the *key group*: 8 bytes that are equal for all events with the same dataset,
/// scope and producer key (for the same content and ordinal where there is no key). The group is an
/// index, never an identity: whoever finds two events in one group compares the keys.
pub fn identify<S: AsRef<str>>(
    dataset: &str,
    scope: &str,
    producer_key: &[S],
    content: &Hash,
    ordinal: u64,
) -> (Uid, u64) {
    let mut h = Sha256::new();
    let put = |h: &mut Sha256, part: &[u8]| {
        h.update((part.len() as u64).to_be_bytes());
        h.update(part);
    };
    put(&mut h, b"keytrail/uid/1");
    put(&mut h, dataset.as_bytes());
    put(&mut h, scope.as_bytes());
    h.update((producer_key.len() as u64).to_be_bytes());
    for part in producer_key {
        put(&mut h, part.as_ref().as_bytes());
    }
    let keyed = (!producer_key.is_empty()).then(|| h.clone());
    put(&mut h, &content.0);
    if producer_key.is_empty() {
        put(&mut h, &ordinal.to_be_bytes());
    }
    let full: [u8; 32] = h.finalize().into();
    let group: [u8; 32] = keyed.map_or(full, |k| k.finalize().into());
    let mut uid = [0; 20];
    uid.copy_from_slice(&full[..20]);
    let mut g = [0; 8];
    g.copy_from_slice(&group[24..]);
    (Uid(uid), u64::from_be_bytes(g))
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes `bytes` as lower-case hex; `out` is twice as long.
pub fn encode_hex(bytes: &[u8], out: &mut [u8]) {
    for (b, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(b >> 4)];
        pair[1] = DIGITS[usize::from(b & 15)];
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for b in bytes {
        write!(f, "{b:02x}")?;
    }
    Ok(())
}

/// Branches are left out: digits are looked at some at a time.
fn decode_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let (mut out, mut are_digits) = ([0; N], true);
    for i in 0..N {
        let [high, low] = pairs[i].map(|digit| {
            let (number, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
            are_digits &= (number < 10) | (letter < 6);
            if number < 10 { number } else { letter.wrapping_add(10) }
        });
        out[i] = high << 4 | low & 0xf;
    }
    are_digits.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These values are a promise (`keytrail/uid/1`): a change here orphans every archive.
    #[test]
    fn identity_is_frozen() {
        let content = Hash::of(b"{}");
        let (keyed, group) = identify("aws.cloudtrail", "111122223333", &["e-1"], &content, 0);
        let (other_content, same_group) =
            identify("aws.cloudtrail", "111122223333", &["e-1"], &Hash::of(b"{\"a\":1}"), 0);
        let (keyless, _) = identify::<&str>("x", "", &[], &content, 0);
        let (second, _) = identify::<&str>("x", "", &[], &content, 1);
        assert_eq!(keyed.to_string(), "6e1fe74d53e9ccadf80a0d3fe4358c5b25af88e5");
        assert_eq!(keyless.to_string(), "11c2c5fea7cb1849f5fa357c7c87ba7bf4e38ab4");
        assert_ne!(keyed, other_content);
        assert_eq!(group, same_group);
        assert_ne!(keyless, second);
    }

    #[test]
    fn parts_are_length_prefixed() {
        let c = Hash::of(b"");
        assert_ne!(identify("a", "bc", &["d"], &c, 0).0, identify("ab", "c", &["d"], &c, 0).0);
        assert_ne!(identify("a", "b", &["c", "d"], &c, 0).0, identify("a", "b", &["cd"], &c, 0).0);
        assert_ne!(identify("a", "b", &["c", ""], &c, 0).1, identify("a", "b", &["c"], &c, 0).1);
    }

    #[test]
    fn hex_round_trips_and_refuses_upper_case() {
        let h = Hash::of(b"abc");
        assert_eq!(Hash::from_hex(&h.to_hex()), Some(h));
        assert_eq!(Hash::from_hex(&h.to_hex().to_uppercase()), None);
        assert_eq!(Uid::from_hex("00"), None);
    }
}
