//! The least and the greatest text of a column chunk, as readers prune by them.
//!
//! What it is: bounds cut to what a footer should hold, so that they stay bounds. What it is not: it bounds no
//! numbers and no pages. In: texts. Out: Parquet's statistics.

use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

use crate::schema::STATISTICS_BYTES;

/// The bounds of the texts so far.
#[derive(Default)]
pub(crate) struct Bounds(Option<(Vec<u8>, Vec<u8>)>);

impl Bounds {
    /// Takes a text in.
    pub fn add(&mut self, value: &[u8]) {
        match &mut self.0 {
            None => self.0 = Some((value.to_vec(), value.to_vec())),
            Some((min, _)) if value < &min[..] => *min = value.to_vec(),
            Some((_, max)) if value > &max[..] => *max = value.to_vec(),
            Some(_) => {}
        }
    }

    /// The statistics of a chunk that has so many nulls beside these texts.
    pub fn statistics(self, nulls: u64) -> Statistics {
        let (min, max) = self.0.unzip();
        let min = min.map(|min| prefix(&min, STATISTICS_BYTES));
        let max = max.and_then(|max| least_above(&max, STATISTICS_BYTES));
        let exact = |bound: &Option<(Vec<u8>, bool)>| bound.as_ref().is_some_and(|(_, exact)| *exact);
        let (min_exact, max_exact) = (exact(&min), exact(&max));
        let array = |bound: Option<(Vec<u8>, bool)>| bound.map(|(bytes, _)| ByteArray::from(bytes));
        let statistics = ValueStatistics::new(array(min), array(max), None, Some(nulls), false)
            .with_min_is_exact(min_exact)
            .with_max_is_exact(max_exact);
        Statistics::ByteArray(statistics)
    }
}

/// A text, or the whole characters in so many bytes of it; and whether that is all of it.
fn prefix(text: &[u8], most: usize) -> (Vec<u8>, bool) {
    if text.len() <= most {
        return (text.to_vec(), true);
    }
    // A character goes on with bytes 0b10xxxxxx.
    let end = (0..=most).rev().find(|i| text[*i] & 0xc0 != 0x80).unwrap_or(0);
    (text[..end].to_vec(), false)
}

/// A text of at most so many bytes that is not below the given one, and whether it is that one; `None` where
/// no character of its prefix has a next one.
fn least_above(text: &[u8], most: usize) -> Option<(Vec<u8>, bool)> {
    let (short, all) = prefix(text, most);
    if all {
        return Some((short, true));
    }
    let short = String::from_utf8(short).ok()?;
    for (at, last) in short.char_indices().rev() {
        let next = char::from_u32(u32::from(last) + 1).filter(|next| next.len_utf8() == last.len_utf8());
        if let Some(next) = next {
            return Some((format!("{}{next}", &short[..at]).into_bytes(), false));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_cut_between_characters_and_stay_bounds() {
        let max = |text: &str, most| {
            let (bytes, exact) = least_above(text.as_bytes(), most)?;
            Some((String::from_utf8(bytes).unwrap(), exact))
        };
        let key = "\u{1f511}";
        assert_eq!(prefix(b"abc", 3), (b"abc".to_vec(), true));
        assert_eq!(prefix("ab\u{e9}".as_bytes(), 3), (b"ab".to_vec(), false));
        assert_eq!(prefix(key.as_bytes(), 3), (Vec::new(), false));
        assert_eq!(max("abc", 3), Some(("abc".into(), true)));
        assert_eq!(max("abcd", 3), Some(("abd".into(), false)));
        assert_eq!(max("ab\u{7f}d", 3), Some(("ac".into(), false)));
        assert_eq!(max("a\u{10ffff}d", 5), Some(("b".into(), false)));
        assert_eq!(max("\u{7f}\u{7f}\u{7f}", 2), None);
        assert_eq!(max("a\u{d7ff}x", 4), Some(("b".into(), false)));
        for text in ["abcd", "ab\u{7f}d", "\u{e9}\u{7ff}z", key] {
            for most in 0..8 {
                let (min, _) = prefix(text.as_bytes(), most);
                assert!(
                    max(text, most).is_none_or(|(max, _)| max.as_str() >= text)
                        && &min[..] <= text.as_bytes()
                );
            }
        }
    }
}
