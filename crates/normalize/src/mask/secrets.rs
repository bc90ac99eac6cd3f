//! Finds what looks like a secret in a free text: by its shape, since no field name says it.
//!
//! What it is: one pass over the bytes, linear in their number whatever they are, without memory of its
//! own. What it is not: it knows no field names, see [`super::sensitive`]. In: a text. Out: byte ranges
//! that begin and end between characters. The shapes are listed, with examples that a test runs, in
//! `schemas/sensitive.yaml`.

use std::ops::Range;

/// Words of at least this length may be a key or a token that has no prefix; an AWS secret access key has 40.
pub(super) const BLOB_LEN: usize = 40;

/// The next secret that starts at `from` or later. A new shape needs its hint in [`super::hints`].
pub(super) fn next(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut i = from;
    while let Some(b) = text.get(i) {
        if !is_word(*b) {
            i += 1;
            continue;
        }
        let end = word_end(text, i + 1);
        // Short words can only announce a secret, or be the first group of a card number.
        if (end - i >= 13 || *b == b'-' || (end - i == 4 && b.is_ascii_digit()))
            && let Some(found) = in_word(text, i, end)
        {
            return Some(found);
        }
        let found = match text.get(end)? {
            b'.' => before_dot(text, i, end),
            b'=' | b':' | b'"' | b'\'' | b'\\' | b' ' => named_value(text, &text[i..end], end),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
        i = end;
    }
    None
}

/// A secret that starts in the word at `start..end`.
fn in_word(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let word = &text[start..end];
    if word.len() >= BLOB_LEN && looks_random(word) {
        return Some(start..dotted_end(text, end));
    }
    if word.ends_with(b"-----BEGIN") {
        return Some(end - 10..pem_end(text, end));
    }
    let mut part_starts = true;
    // No token and no card number is shorter than this.
    for (at, b) in word[..word.len().saturating_sub(12).max(1)].iter().enumerate() {
        if part_starts && matches!(b, b'g' | b'x' | b'2'..=b'6') {
            let found = vendor_token(&word[at..]).or_else(|| card_number(text, start + at));
            if let Some(len) = found {
                return Some(start + at..start + at + len);
            }
        }
        part_starts = is_mark(*b);
    }
    None
}

/// A token that begins in the word at `start..end` and goes on behind the dot after it.
fn before_dot(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let word = &text[start..end];
    let last = word[word.len() - 1];
    // Most words are ruled out before what follows is looked at.
    if word.len() < 10 && !matches!(last, b's' | b'b' | b'r') {
        return None;
    }
    let joined = &text[end + 1..word_end(text, end + 1)];
    if joined.len() < 8 {
        return None;
    }
    if let Some(at) = word.windows(3).position(|w| w == b"eyJ")
        && word.len() - at >= 10
        && starts_part(word, at)
    {
        return Some(start + at..dotted_end(text, end));
    }
    let at = vault_prefix(word, joined)?;
    Some(start + at..dotted_end(text, end))
}

/// Characters of base64, base64url and of the usual token alphabets.
pub(super) const WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 128 {
        table[b] = (b as u8).is_ascii_alphanumeric() || is_mark(b as u8);
        b += 1;
    }
    table
};

fn is_word(b: u8) -> bool {
    WORD[usize::from(b)]
}

/// Characters of words that are no letters and no digits.
const fn is_mark(b: u8) -> bool {
    matches!(b, b'+' | b'/' | b'_' | b'-')
}

/// The end of a word; a mask behind it is none of it.
fn word_end(text: &[u8], from: usize) -> usize {
    let end = text[from..].iter().position(|b| !is_word(*b)).map_or(text.len(), |n| from + n);
    match text.get(end) {
        Some(b':') => end - if text[from..end].ends_with(b"masked") { b"masked".len() } else { 0 },
        _ => end,
    }
}

/// The end of a token: base64 padding, or more words joined by single dots, as in a JWT.
fn dotted_end(text: &[u8], mut end: usize) -> usize {
    while text.get(end) == Some(&b'.') && text.get(end + 1).is_some_and(|b| is_word(*b)) {
        end = word_end(text, end + 1);
    }
    end + text[end..].iter().take(2).take_while(|b| **b == b'=').count()
}

/// Whether a part of a word starts at `at`: at its start, or behind a separator.
fn starts_part(word: &[u8], at: usize) -> bool {
    at == 0 || is_mark(word[at - 1])
}

/// Base64 of random bytes changes between upper case, lower case and digits at three of five
/// characters and holds all three; names, paths, hashes in hex and UUIDs do not.
fn looks_random(word: &[u8]) -> bool {
    let (mut upper, mut lower, mut digit, mut changes) = (0, 0, 0, 0);
    let mut last = 0;
    for b in word {
        let class = match b {
            b'A'..=b'Z' => {
                upper += 1;
                1
            }
            b'a'..=b'z' => {
                lower += 1;
                2
            }
            b'0'..=b'9' => {
                digit += 1;
                3
            }
            _ => 4,
        };
        changes += usize::from(class != last);
        last = class;
    }
    let len = word.len();
    changes * 5 >= len * 2 && upper * 5 >= len && lower * 5 >= len && digit > 0
}

/// Tokens of Vault and OpenBao: `hvs.`, `hvb.`, `hvr.`, and before version 1.10 `s.`, `b.`, `r.`.
fn vault_prefix(word: &[u8], rest: &[u8]) -> Option<usize> {
    let at = match word {
        [.., b'h', b'v', b's' | b'b' | b'r'] if rest.len() >= 20 => word.len() - 3,
        [.., b's' | b'b' | b'r'] if rest.len() >= 24 && mixed_case(rest) => word.len() - 1,
        _ => return None,
    };
    starts_part(word, at).then_some(at)
}

fn mixed_case(bytes: &[u8]) -> bool {
    bytes.iter().any(u8::is_ascii_uppercase) && bytes.iter().any(u8::is_ascii_lowercase)
}

/// Tokens that name their issuer: GitHub, GitLab, Slack. Gives the length.
fn vendor_token(word: &[u8]) -> Option<usize> {
    let least = match word {
        [b'g', b'h', b'p' | b'o' | b'u' | b's' | b'r', b'_', ..] => 40,
        [b'g', b'i', b't', b'h', b'u', b'b', b'_', b'p', b'a', b't', b'_', ..] => 33,
        [b'g', b'l', b'p', b'a', b't', b'-', ..] => 26,
        [b'x', b'o', b'x', b'a' | b'b' | b'o' | b'p' | b'r' | b's', b'-', ..] => 15,
        _ => return None,
    };
    (word.len() >= least).then_some(word.len())
}

/// A payment card number: 13 to 19 digits of a network's range, as one group or in the groups printed
/// on cards, with a right check digit (ISO/IEC 7812-1 annex B). Gives the length.
fn card_number(text: &[u8], at: usize) -> Option<usize> {
    if !text[at].is_ascii_digit() || (at > 0 && matches!(text[at - 1], b'.' | b'_')) {
        return None;
    }
    let (mut digits, mut count, mut end, mut groups) = ([0u8; 19], 0, at, [0usize; 6]);
    let mut group = 0;
    while let Some(b) = text.get(end) {
        match b {
            b'0'..=b'9' if count < digits.len() => {
                digits[count] = b - b'0';
                count += 1;
                groups[group] += 1;
            }
            b'0'..=b'9' => return None,
            b' ' | b'-'
                if group + 1 < groups.len()
                    && groups[group] > 0
                    && text.get(end + 1).is_some_and(u8::is_ascii_digit) =>
            {
                group += 1;
            }
            _ => break,
        }
        end += 1;
    }
    let printed = match groups[..=group] {
        [n] => (13..=19).contains(&n),
        [4, 4, 4, n] => (1..=7).contains(&n),
        [4, 4, 4, 4, n] => n == 3,
        [4, 6, n] => (4..=5).contains(&n),
        _ => false,
    };
    let next = text.get(end).copied().unwrap_or(b' ');
    let goes_on = next.is_ascii_alphanumeric()
        || matches!(next, b'_' | b'-')
        || (next == b'.' && text.get(end + 1).is_some_and(u8::is_ascii_digit));
    let number = &digits[..count];
    (printed && !goes_on && issued(number) && luhn(number)).then_some(end - at)
}

/// Ranges of the large networks; times in milliseconds, microseconds and nanoseconds are outside.
fn issued(number: &[u8]) -> bool {
    match number {
        [4, ..] => matches!(number.len(), 13 | 16 | 19),
        [5, 1..=5, ..] | [2, 2..=7, ..] => number.len() == 16,
        [3, 4 | 7, ..] => number.len() == 15,
        [3, 0 | 6 | 8, ..] => matches!(number.len(), 14..=19),
        [3, 5, ..] | [6, 0 | 2 | 4 | 5, ..] => (16..=19).contains(&number.len()),
        [5, 0 | 6..=8, ..] => (16..=19).contains(&number.len()),
        _ => false,
    }
}

fn luhn(number: &[u8]) -> bool {
    let sum: u32 = number
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| match (i % 2, u32::from(*d)) {
            (0, d) => d,
            (_, d) if d > 4 => 2 * d - 9,
            (_, d) => 2 * d,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Names before `=` or `:`, matched at the end of a word, case and separators aside.
pub(super) const BEFORE_COLON: [&[u8]; 12] = [
    b"password",
    b"passwd",
    b"passphrase",
    b"pwd",
    b"apikey",
    b"secretkey",
    b"accesskey",
    b"privatekey",
    b"clientsecret",
    b"secretstring",
    b"sessiontoken",
    b"accesstoken",
];

/// Names before `=` alone: with a colon they stand in ARNs and in sentences.
pub(super) const BEFORE_EQUALS: [&[u8]; 4] = [b"secret", b"token", b"signature", b"pin"];

/// The value behind `password=`, `"client_secret": "` and their like, or behind `Bearer`. The word ends at `end`.
fn named_value(text: &[u8], word: &[u8], end: usize) -> Option<Range<usize>> {
    // The length and the last letter of a name rule out nearly all words.
    if word.len() < 3
        || !matches!(word.last()?.to_ascii_lowercase(), b'd' | b'e' | b'y' | b't' | b'n' | b'g' | b'r')
    {
        return None;
    }
    let mut at = end;
    let next = text.get(end + 1).copied().unwrap_or_default();
    if text[at] == b' ' && word.len() != 6 && !matches!(next, b'=' | b':' | b' ' | b'"' | b'\'' | b'\\') {
        return None;
    }
    if text[at] == b' ' && word.eq_ignore_ascii_case(b"bearer") {
        let from = at + 1;
        return (!hidden(text, from)).then(|| from..value_end(text, from)).filter(|value| value.len() >= 16);
    }
    at = skip(text, at, b"\\\"' ", 4);
    let names: &[&[&[u8]]] = match text.get(at)? {
        b':' => &[&BEFORE_COLON],
        b'=' => &[&BEFORE_COLON, &BEFORE_EQUALS],
        _ => return None,
    };
    if !names.iter().copied().flatten().any(|name| ends_with_name(word, name)) {
        return None;
    }
    let from = skip(text, at + 1, b"\\\"' ", 6);
    // Looked at before the value's end is sought: a chain of such values is not read again and again.
    if hidden(text, from) {
        return None;
    }
    let value = from..value_end(text, from);
    (value.len() >= 3).then_some(value)
}

/// Whether a value says nothing secret: it is masked, by us or by the producer.
fn hidden(text: &[u8], from: usize) -> bool {
    [&b"masked:"[..], b"hmac-sha256:", b"***"].iter().any(|p| text[from..].starts_with(p))
}

/// Skips at most `most` of these bytes.
fn skip(text: &[u8], from: usize, these: &[u8], most: usize) -> usize {
    from + text[from..].iter().take(most).take_while(|b| these.contains(b)).count()
}

fn value_end(text: &[u8], from: usize) -> usize {
    let ends =
        |b: &&u8| !matches!(**b, 0..=b' ' | b'"' | b'\'' | b'\\' | b'&' | b',' | b';' | b'}' | b')' | b'>');
    from + text[from..].iter().take_while(ends).count()
}

/// Whether a word ends with a name as a whole part: `X-Amz-Security-Token` and `dbPassword`, not `mypin`.
fn ends_with_name(word: &[u8], name: &[u8]) -> bool {
    let mut at = word.len();
    for n in name.iter().rev() {
        while at > 0 && matches!(word[at - 1], b'-' | b'_') {
            at -= 1;
        }
        if at == 0 || word[at - 1].to_ascii_lowercase() != *n {
            return false;
        }
        at -= 1;
    }
    name.len() > 3 || starts_part(word, at) || word[at].is_ascii_uppercase()
}

/// The end of a PEM block (RFC 7468): everything behind its opening that can belong to one. JSON text
/// writes its line ends as `\n`, which belong to it too.
fn pem_end(text: &[u8], mut at: usize) -> usize {
    while let Some(b) = text.get(at) {
        match b {
            b'\\' if matches!(text.get(at + 1), Some(b'n' | b'r' | b't')) => at += 2,
            b' ' | b'\n' | b'\r' | b'\t' | b'=' | b':' | b',' => at += 1,
            b if is_word(*b) => at += 1,
            _ => break,
        }
    }
    at
}
