//! What the start of a record looks like in this input: the first keys of the records before.

use memchr::memrchr;

use super::scanner::{MAX_GAP, Scanner, Step};
use super::{trim_end, trim_separators, trim_start};

/// Kinds of records are few; more first keys than this are not remembered.
const MAX_KEYS: usize = 8;
/// Nor are longer ones.
const MAX_KEY: usize = 64;
/// A tail is searched for with at most this many times its bytes read.
const TAIL_EFFORT: usize = 8;

/// First keys, with their quotes, the latest first.
#[derive(Clone, Default, Debug)]
pub(super) struct FirstKeys(Vec<Vec<u8>>);

/// Answer to a question that may need bytes that are not here yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look<T> {
    Yes(T),
    No,
    More,
}

impl FirstKeys {
    /// Those of [`FirstKeys::list`].
    pub(super) fn of(list: &[String]) -> Self {
        Self(list.iter().take(MAX_KEYS).map(|key| key.clone().into_bytes()).collect())
    }

    /// The keys, the latest first. They hold plain characters only.
    pub(super) fn list(&self) -> Vec<String> {
        self.0.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// Remembers how this record starts. Says whether it starts with a plain key.
    pub(super) fn learn(&mut self, record: &[u8]) -> bool {
        if let Some(first) = self.0.first()
            && record.get(1..).is_some_and(|r| r.starts_with(first))
        {
            return true;
        }
        let Look::Yes(key) = first_key(record, true) else { return false };
        match self.0.iter().position(|k| k == key) {
            Some(i) => self.0[..=i].rotate_right(1),
            None => {
                self.0.truncate(MAX_KEYS - 1);
                self.0.insert(0, key.to_vec());
            }
        }
        true
    }

    /// Whether `bytes`, which start with `{`, look like the start of a record. While no record was
    /// seen, any plain first key will do.
    pub(super) fn begins(&self, bytes: &[u8], eof: bool) -> Look<()> {
        if self.0.is_empty() {
            return match first_key(bytes, eof) {
                Look::Yes(_) => Look::Yes(()),
                Look::No => Look::No,
                Look::More => Look::More,
            };
        }
        let rest = trim_start(&bytes[1..]);
        if bytes.len() - rest.len() > MAX_GAP {
            return Look::No;
        }
        if self.0.iter().any(|k| rest.starts_with(k)) {
            Look::Yes(())
        } else if !eof && self.0.iter().any(|k| k.starts_with(rest)) {
            Look::More
        } else {
            Look::No
        }
    }

    /// Whether whole records end `region`, whose own start is no record: their ranges in order.
    /// Each must end where the next begins, so that no part of a torn record is taken for a record
    /// of its own.
    pub(super) fn tail(&self, region: &[u8]) -> Vec<(usize, usize)> {
        let mut end = trim_end(region).len();
        let mut before = end;
        let mut effort = region.len().saturating_mul(TAIL_EFFORT);
        let mut found = Vec::new();
        while let Some(at) = region.get(1..before).and_then(|r| memrchr(b'{', r)) {
            let at = at + 1;
            before = at;
            if self.begins(&region[at..], true) != Look::Yes(()) {
                continue;
            }
            let candidate = &region[at..end];
            let read = match Scanner::object().advance(candidate, 0, 0) {
                Step::End(n) if n == candidate.len() => {
                    found.push((at, end));
                    end = trim_separators(&region[..at]).len();
                    before = end;
                    n
                }
                Step::End(n) | Step::Broken { at: n, .. } => n,
                Step::More => candidate.len(),
            };
            match effort.checked_sub(read) {
                Some(left) => effort = left,
                None => break,
            }
        }
        found.reverse();
        found
    }
}

/// The first key of the object that `bytes` start with, quotes included: `{ "key" :` with plain
/// characters only, as the keys of every source are.
pub(super) fn first_key(bytes: &[u8], eof: bool) -> Look<&[u8]> {
    let short = if eof { Look::No } else { Look::More };
    let key = trim_start(&bytes[1..]);
    if bytes.len() - key.len() > MAX_GAP {
        return Look::No;
    }
    match key.first() {
        None => return short,
        Some(b'"') => {}
        Some(_) => return Look::No,
    }
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'$');
    let len = key[1..].iter().take_while(|b| plain(b)).take(MAX_KEY + 1).count();
    if len == 0 && key.len() > 1 || len > MAX_KEY {
        return Look::No;
    }
    match key.get(len + 1) {
        None => return short,
        Some(b'"') => {}
        Some(_) => return Look::No,
    }
    let behind = &key[len + 2..];
    let colon = trim_start(behind);
    if behind.len() - colon.len() > MAX_GAP {
        return Look::No;
    }
    match colon.first() {
        None => short,
        Some(b':') => Look::Yes(&key[..len + 2]),
        Some(_) => Look::No,
    }
}
