//! Secret fields of records that stand in strings, or whose beginning is missing.
//!
//! What it is: a search for the name of a secret field before a colon, however often its quotes are
//! escaped and whatever comes before it. A container holds its records as strings, which may hold
//! containers; a piece of a record that is too large begins anywhere. What it is not: a reader of JSON.
//! In: a text. Out: the same with the fields' values masked.

use super::Masker;
use super::document::{decode, says_nothing, skip_space};
use super::sensitive::is_secret;
use crate::Format;

/// More bytes than a name of a secret field has.
const NAME_BYTES: usize = 64;
/// Strings in strings of which names are known: each doubles the backslashes before a quote, and one more.
const LAYERS: u32 = 8;

/// Masks values of secret fields.
pub(super) fn mask(masker: &Masker, format: Option<Format>, text: String) -> String {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(colon) = memchr::memchr(b':', &bytes[at..]).map(|n| at + n) {
        at = colon + 1;
        let Some((name, layer)) = name_before(&text, colon) else { continue };
        if !is_secret(format, name) {
            continue;
        }
        let from = skip_space(bytes, at);
        let to = value_end(bytes, from, layer);
        let slashes = "\\".repeat(slashes(layer));
        let quote = format!("{slashes}\"");
        let value = match text[from..to].strip_prefix(&quote) {
            Some(text) => unescaped(text.strip_suffix(&quote).unwrap_or(text), layer + 1),
            None => unescaped(&text[from..to], layer),
        };
        if !says_nothing(&value) {
            out.push_str(&text[kept..from]);
            out.push_str(&format!("{quote}{}{quote}", masker.mask(&value)));
            kept = to;
        }
        at = to;
    }
    if kept == 0 {
        return text;
    }
    out.push_str(&text[kept..]);
    out
}

/// Backslashes before a quote that so many strings hold.
const fn slashes(layer: u32) -> usize {
    (1 << layer) - 1
}

/// The name whose closing quote stands before a colon, and how many strings hold it.
fn name_before(text: &str, colon: usize) -> Option<(&str, u32)> {
    let before = text[..colon].trim_ascii_end().strip_suffix('"')?;
    let name_end = before.trim_end_matches('\\').len();
    let layer = (0..=LAYERS).find(|layer| slashes(*layer) == before.len() - name_end)?;
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"_-./".contains(b);
    let len = before.as_bytes()[..name_end].iter().rev().take(NAME_BYTES).take_while(|b| is_name(b)).count();
    Some((&before[name_end - len..name_end], layer))
}

/// Where a value ends that so many strings hold.
fn value_end(bytes: &[u8], from: usize, layer: u32) -> usize {
    let (mut at, mut depth, mut is_inside, mut run) = (from, 0, false, 0);
    while let Some(b) = bytes.get(at) {
        // A quote of this layer; with more backslashes it is one in a string, with fewer the end of it all.
        let is_quote = *b == b'"' && run % (2 * (slashes(layer) + 1)) == slashes(layer);
        match b {
            b'"' if run < slashes(layer) => return at - run,
            b'"' if is_quote => {
                is_inside = !is_inside;
                if !is_inside && depth == 0 {
                    return at + 1;
                }
            }
            b'{' | b'[' if !is_inside => depth += 1,
            b'}' | b']' | b',' if !is_inside && depth == 0 => return at,
            b'}' | b']' if !is_inside => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        run = if *b == b'\\' { run + 1 } else { 0 };
        at += 1;
    }
    at
}

/// The text that one stands for which was escaped so many times, as far as it can be told.
fn unescaped(text: &str, times: u32) -> String {
    (0..times).fold(text.to_owned(), |text, _| decode(&format!("\"{text}\"")).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use crate::Format;
    use crate::mask::Masker;

    fn masked(text: &str) -> String {
        Masker::new(&[7; 32]).mask_document(Some(Format::CloudTrail), text.as_bytes())
    }

    fn string(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    /// A refused container is shown with the records in it, a torn record from where it begins.
    #[test]
    fn records_in_strings_and_parts_of_them_are_masked() {
        let m = Masker::new(&[7; 32]);
        let secret = "hun\"t\\er2";
        let mut text = format!(r#"{{"a":1.50,"plaintext" : {},"b":"x\\ny"}}"#, string(secret));
        let mut expected = text.replace(&string(secret), &string(&m.mask(secret)));
        for layer in 0..5 {
            assert_eq!(masked(&text), expected, "{layer}");
            assert_eq!(masked(&expected), expected, "{layer}");
            for cut in (0..text.len()).filter(|n| text.is_char_boundary(*n)) {
                let (head, rest) = text.split_at(cut);
                assert!(!masked(head).contains("hun"), "{head}");
                assert!(!rest.contains("plaintext") || !masked(rest).contains("hun"), "{rest}");
            }
            text = format!("{{\"message\": {}, \"c\":[1]}}", string(&text));
            expected = format!("{{\"message\": {}, \"c\":[1]}}", string(&expected));
        }
    }

    #[test]
    fn values_of_all_kinds_are_masked_in_strings() {
        for value in ["12", "{\"q\":[\"hun}ter\"]}", "[[1,2],[\"hun\"]]", "\"hun\"", "-1.5e3"] {
            let text = string(&format!("{{\"plaintext\":{value},\"b\":[1]}}"));
            let shown = masked(&text);
            assert!(!shown.contains("hun") && !shown.contains(value), "{shown}");
            assert!(shown.ends_with(",\\\"b\\\":[1]}\""), "{shown}");
        }
        for value in ["null", "true", "\"\"", "\"masked:00000000:0000000000000000\""] {
            let text = string(&format!("{{\"plaintext\": {value}}}"));
            assert_eq!(masked(&text), text);
        }
        // A part of it was masked before, as what looks random, or it only says so.
        for value in ["masked:4bb06f8e:a9b2c915a6b6fe19hun", "masked:hun", "hmac-sha256:hun"] {
            let text = format!("{{\"plaintext\":\"{value}\"}}");
            for text in [string(&text), text] {
                assert!(!masked(&text).contains("hun"), "{text}");
            }
        }
        let text = r#"{"q":"say \"plaintexts\": \"b\", plaintext: c"}"#;
        assert_eq!(masked(text), text);
    }

    #[test]
    fn hostile_texts_take_linear_time() {
        for part in
            ["\"plaintext\":", "\\\"plaintext\\\":{\\\"", "\\\\", "\"plaintext\" : [", ": :", "\"\\\""]
        {
            let text = part.repeat(1_000_000 / part.len());
            assert!(masked(&text).len() < 8 * text.len());
        }
    }
}
