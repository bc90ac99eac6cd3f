//! Texts that were looked through a moment ago and hold no secret.
//!
//! A record says the same several times, and so do records after each other: ARNs, user agents, names. What it is:
//! the last texts of this thread, compared byte for byte, which costs a small part of looking through them again.
//! What it is not: it judges nothing, and holds no text with a secret. In: a text and its judge. Out: the verdict.

use std::cell::RefCell;

/// Texts that are held.
const PLACES: usize = 256;

/// Bytes of the longest text that is held: user agents and encryption contexts are below.
const LONGEST: usize = 191;

/// A text and its length.
#[derive(Clone, Copy)]
struct Held {
    len: u8,
    text: [u8; LONGEST],
}

/// Whether a text holds no secret: known from the last time, or what `judge` says of it.
#[inline]
pub(super) fn known_or(text: &[u8], judge: impl FnOnce(&[u8]) -> bool) -> bool {
    thread_local! {
        static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
    }
    let (Some(end), Ok(len)) = (text.last_chunk::<8>(), u8::try_from(text.len())) else { return judge(text) };
    if text.len() > LONGEST {
        return judge(text);
    }
    HELD.with_borrow_mut(|held| {
        if held.is_empty() {
            held.resize(PLACES, Held { len: 0, text: [0; LONGEST] });
        }
        let held = &mut held[place(*end, len)];
        if held.len == len && held.text[..text.len()] == *text {
            return true;
        }
        let is_clean = judge(text);
        if is_clean {
            held.len = len;
            held.text[..text.len()].copy_from_slice(text);
        }
        is_clean
    })
}

/// Where a text is held: texts that begin alike mostly end in different ways.
fn place(end: [u8; 8], len: u8) -> usize {
    let mixed = (u64::from_le_bytes(end) ^ u64::from(len)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - PLACES.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_known_by_all_of_their_bytes() {
        for len in [0, 7, 8, 40, LONGEST, LONGEST + 1, 300] {
            let text = "a".repeat(len).into_bytes();
            let is_held = (8..=LONGEST).contains(&len);
            assert!(known_or(&text, |_| true));
            assert_eq!(known_or(&text, |_| false), is_held, "{len}");
            for at in 0..len {
                // In the same place, as far as its end and its length say.
                let mut other = text.clone();
                other[at] = b'b';
                assert!(!known_or(&other, |_| false), "{len}, {at}");
            }
            assert_eq!(known_or(&text, |_| false), is_held, "{len}");
        }
    }
}
