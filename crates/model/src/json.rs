//! The structure of a JSON text, read in one pass without building anything.
//!
//! One scan gives what framing, identity and the limits need: where a value ends, how deep it nests,
//! and whether it holds whitespace that means nothing.

use sha2::{Digest, Sha256};

use crate::hash::Hash;

/// Nesting beyond this is refused: the readers downstream (Elasticsearch, DuckDB, serde) have limits near it.
pub const MAX_DEPTH: u32 = 128;

/// What a scan found of one balanced JSON object or array at the start of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Bytes of the value, from its opening to its closing bracket.
    pub len: usize,
    /// Deepest nesting; the value itself is 1.
    pub depth: u32,
    /// No whitespace outside strings: the content digest is the hash of the bytes as they are.
    pub compact: bool,
    /// A `\u` escape that is half of a surrogate pair, at this offset.
    pub lone_surrogate: Option<usize>,
}

/// Why a scan came to no end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanError {
    /// The input ends inside the value.
    Unfinished,
    /// A raw line feed inside a string, or a closing bracket of the wrong kind, at this offset.
    Broken(usize),
}

/// Scans one value that starts with `{` or `[` at `bytes[0]`. Brackets and strings are followed;
/// what stands between them is the parser's to judge.
pub fn scan(bytes: &[u8]) -> Result<Scan, ScanError> {
    // One bit a level says which bracket opened it; levels beyond the limit share the last bit, since
    // such a value is refused whatever closes it.
    let mut kinds = [0u64; (MAX_DEPTH as usize).div_ceil(64) + 1];
    let (mut depth, mut deepest) = (0u32, 0u32);
    let (mut compact, mut lone) = (true, None);
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => {
                i = string_end(bytes, i + 1, &mut lone)?;
                continue;
            }
            b @ (b'{' | b'[') => {
                let bit = (depth.min(MAX_DEPTH)) as usize;
                let mask = 1 << (bit % 64);
                if b == b'{' {
                    kinds[bit / 64] |= mask
                } else {
                    kinds[bit / 64] &= !mask
                }
                depth += 1;
                deepest = deepest.max(depth);
            }
            b @ (b'}' | b']') => {
                if depth == 0 {
                    return Err(ScanError::Broken(i));
                }
                depth -= 1;
                let bit = depth as usize;
                if depth < MAX_DEPTH && (kinds[bit / 64] >> (bit % 64) & 1 == 1) != (b == b'}') {
                    return Err(ScanError::Broken(i));
                }
                if depth == 0 {
                    return Ok(Scan { len: i + 1, depth: deepest, compact, lone_surrogate: lone });
                }
            }
            b' ' | b'\t' | b'\n' | b'\r' => compact = false,
            _ => {}
        }
        i += 1;
    }
    Err(ScanError::Unfinished)
}

/// Offset behind the closing quote of a string whose first character is at `i`.
fn string_end(bytes: &[u8], mut i: usize, lone: &mut Option<usize>) -> Result<usize, ScanError> {
    loop {
        i = string_stop(bytes, i);
        match bytes.get(i) {
            None => return Err(ScanError::Unfinished),
            Some(b'"') => return Ok(i + 1),
            Some(b'\\') => {
                if bytes.get(i + 1) == Some(&b'u') {
                    let unit = hex4(bytes, i + 2);
                    match unit {
                        Some(0xD800..=0xDBFF) if low_half(bytes, i + 6) => i += 6,
                        Some(0xD800..=0xDFFF) => {
                            lone.get_or_insert(i);
                        }
                        _ => {}
                    }
                }
                i += 2;
            }
            Some(_) => return Err(ScanError::Broken(i)),
        }
    }
}

/// First quote, backslash or line feed at or after `i`, or the end: what a string does not go over
/// unseen.
pub fn string_stop(bytes: &[u8], i: usize) -> usize {
    stop(bytes, i, |word| matches(word, b'\n'), |b| b == b'\n')
}

/// First quote, backslash or control character at or after `i`, or the end: what stands in no string
/// (RFC 8259 section 7).
#[inline]
pub fn plain_end(bytes: &[u8], i: usize) -> usize {
    stop(bytes, i, |word| word.wrapping_sub(LOW * 0x20) & !word & HIGH, |b| b < 0x20)
}

/// First quote, backslash or other byte that `word` and `one` tell, eight bytes a step: the lowest bit
/// that is set in `word` is the highest of the first such byte.
#[inline]
fn stop(bytes: &[u8], i: usize, word: impl Fn(u64) -> u64, one: impl Fn(u8) -> bool) -> usize {
    // An escape at the end of the input may have led beyond it.
    let rest = bytes.get(i..).unwrap_or_default();
    let (eights, tail) = rest.as_chunks::<8>();
    for (n, eight) in eights.iter().enumerate() {
        let eight = u64::from_le_bytes(*eight);
        let hits = matches(eight, b'"') | matches(eight, b'\\') | word(eight);
        if hits != 0 {
            return i + 8 * n + (hits.trailing_zeros() / 8) as usize;
        }
    }
    let in_tail = tail.iter().take_while(|b| !matches!(b, b'"' | b'\\') && !one(**b)).count();
    bytes.len() - tail.len() + in_tail
}

const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// The high bit of each byte of `word` that is `byte`, exact up to the first one (Mycroft's test): a byte
/// of `x` is zero where it matches.
fn matches(word: u64, byte: u8) -> u64 {
    let x = word ^ u64::from_ne_bytes([byte; 8]);
    x.wrapping_sub(LOW) & !x & HIGH
}

/// Offset behind the escape that starts at `i` (RFC 8259 section 7), a surrogate pair being one; `None`
/// where there is none, or half of a pair.
pub fn escape_end(bytes: &[u8], i: usize) -> Option<usize> {
    match bytes.get(i + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(i + 2),
        b'u' => match hex4(bytes, i + 2)? {
            0xD800..=0xDBFF if low_half(bytes, i + 6) => Some(i + 12),
            0xD800..=0xDFFF => None,
            _ => Some(i + 6),
        },
        _ => None,
    }
}

/// Whether the second half of a surrogate pair stands at `i`.
fn low_half(bytes: &[u8], i: usize) -> bool {
    bytes.get(i..i + 2) == Some(b"\\u") && matches!(hex4(bytes, i + 2), Some(0xDC00..=0xDFFF))
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |n, b| Some(n * 16 + char::from(*b).to_digit(16)?))
}

/// SHA-256 of a JSON text without its insignificant whitespace (ARCHITECTURE rule 4).
pub fn content_digest(json: &[u8]) -> Hash {
    let mut h = Sha256::new();
    let (mut from, mut i) = (0, 0);
    while i < json.len() {
        match json[i] {
            b'"' => i = string_end(json, i + 1, &mut None).unwrap_or(json.len()),
            b' ' | b'\t' | b'\n' | b'\r' => {
                h.update(&json[from..i]);
                i += 1;
                from = i;
            }
            _ => i += 1,
        }
    }
    h.update(&json[from..]);
    Hash(h.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_depth_and_whitespace() {
        let s = scan(br#"{"a":[1,{"b":"}]\"\\"}]} tail"#).unwrap();
        assert_eq!((s.len, s.depth, s.compact), (24, 3, true));
        assert!(!scan(b"{\"a\": 1}").unwrap().compact);
        assert_eq!(scan(b"{\"a\":\"x"), Err(ScanError::Unfinished));
        assert_eq!(scan(b"{\"a\":\"x\ny\"}"), Err(ScanError::Broken(7)));
        assert_eq!(scan(b"{\"a\":[}"), Err(ScanError::Broken(6)));
    }

    #[test]
    fn very_deep_values_end_where_they_end() {
        let deep = [b"[".repeat(5_000), b"]".repeat(5_000), b"x".to_vec()].concat();
        let s = scan(&deep).unwrap();
        assert_eq!((s.len, s.depth), (10_000, 5_000));
    }

    #[test]
    fn surrogates_are_paired() {
        assert_eq!(scan(br#"["\ud83d\ude00"]"#).unwrap().lone_surrogate, None);
        assert_eq!(scan(br#"["\ud83d"]"#).unwrap().lone_surrogate, Some(2));
        assert_eq!(scan(br#"["\ude00\ud83d\ude00"]"#).unwrap().lone_surrogate, Some(2));
    }

    #[test]
    fn escapes_end_where_serde_ends_them() {
        let pieces = ["\\", "u", "d83d", "de00", "00e9", "\"", "/", "n", "x", "DC0", "\\u"];
        for i in 0..pieces.len().pow(4) {
            let part = |n: u32| pieces[i / pieces.len().pow(n) % pieces.len()];
            let text = format!("\\{}{}{}{}", part(0), part(1), part(2), part(3));
            let end = escape_end(text.as_bytes(), 0);
            let read = |end: usize| serde_json::from_str::<String>(&format!("\"{}\"", &text[..end])).ok();
            let one = (2..=text.len().min(12)).find(|end| read(*end).is_some_and(|s| s.chars().count() == 1));
            assert_eq!(end, one, "{text}");
        }
    }

    #[test]
    fn content_ignores_whitespace_outside_strings_only() {
        let compact = br#"{"a b":"c \" d","e":[1,2]}"#;
        let pretty = b"{\n  \"a b\" : \"c \\\" d\",\r\n\t\"e\": [1, 2]\n}";
        assert_eq!(content_digest(compact), Hash::of(compact));
        assert_eq!(content_digest(pretty), Hash::of(compact));
        assert_ne!(content_digest(br#"{"a  b":1}"#), content_digest(br#"{"a b":1}"#));
    }

    #[test]
    fn strings_stop_at_the_first_hit() {
        for n in 0..40 {
            for stop in [b'"', b'\\', b'\n'] {
                let mut bytes = vec![b'!'; 48];
                bytes[n] = stop;
                bytes[n + 1] = b'"';
                assert_eq!(string_stop(&bytes, 0), n);
            }
        }
        for n in 0..40 {
            for stop in [b'"', b'\\', 0, 0x1f] {
                let mut bytes = vec![b' '; 48];
                bytes[n] = stop;
                bytes[n + 1] = b'"';
                assert_eq!(plain_end(&bytes, 0), n);
            }
        }
        assert_eq!(plain_end(&[0x80, 0xff, 0x21, 0x20, 0x5d, 0x7f, 0x9f, 0xa2, 0xdc], 0), 9);
        assert_eq!(string_stop(&[0x80, 0xff, 0x21, 0x23, 0x5d, 0x0b, 0x02, 0xa2, 0xdc], 0), 9);
    }
}
