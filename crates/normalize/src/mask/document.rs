//! The masked view of a whole record. It keeps the text as it is but for what is hidden, so that a
//! person sees the producer's own spelling, order and numbers.

use keytrail_model::json;

use super::sensitive::is_secret;
use super::{Masker, quoted};
use crate::Format;

/// See [`Masker::mask_document`].
pub(super) fn mask(masker: &Masker, format: Option<Format>, text: &str) -> String {
    quoted::mask(masker, format, strings(masker, format, text))
}

/// Masks what the document's own strings show.
fn strings(masker: &Masker, format: Option<Format>, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let (mut kept, mut at) = (0, 0);
    // What is not inside a string is scrubbed as text, too: a line's prefix, a record that is no JSON.
    while let Some(quote) = memchr::memchr(b'"', &bytes[at..]).map(|n| at + n) {
        let Some(end) = string_end(bytes, quote) else { break };
        out.push_str(&masker.scrub(&text[kept..quote]));
        let after = skip_space(bytes, end);
        if bytes.get(after) == Some(&b':')
            && decode(&text[quote..end]).is_some_and(|key| is_secret(format, &key))
        {
            let value = skip_space(bytes, after + 1);
            let stop = value_end(bytes, value);
            out.push_str(&text[quote..value]);
            hide(masker, &text[value..stop], &mut out);
            kept = stop;
        } else {
            push_string(masker, &text[quote..end], &mut out);
            kept = end;
        }
        at = kept;
    }
    out.push_str(&masker.scrub(&text[kept..]));
    out
}

/// Writes a mask in place of a value.
fn hide(masker: &Masker, value: &str, out: &mut String) {
    let decoded = decode(value);
    let inner = decoded.as_deref().unwrap_or(value);
    if says_nothing(inner) {
        out.push_str(value);
    } else {
        out.push_str(&format!("\"{}\"", masker.mask(inner)));
    }
}

/// Whether a value says nothing secret: `null`, flags and what is masked already, by us or by the producer, to
/// its last byte.
pub(super) fn says_nothing(value: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let mask = value.strip_prefix("masked:").and_then(|rest| rest.split_once(':'));
    let hash = value.strip_prefix("hmac-sha256:");
    matches!(value, "null" | "true" | "false" | "")
        || mask.is_some_and(|(key, tag)| key.len() == 8 && tag.len() == 16 && is_hex(key) && is_hex(tag))
        || hash.is_some_and(|hash| hash.split(':').all(is_hex))
}

/// Writes a string literal as it came unless something in it is masked.
fn push_string(masker: &Masker, literal: &str, out: &mut String) {
    if let Some(decoded) = decode(literal) {
        let scrubbed = masker.scrub(decoded.as_str());
        match serde_json::to_string(&scrubbed) {
            Ok(encoded) if scrubbed != decoded => out.push_str(&encoded),
            _ => out.push_str(literal),
        }
    } else {
        out.push_str(&masker.scrub(literal));
    }
}

/// The text of a JSON string literal; `None` when it is none.
pub(super) fn decode(literal: &str) -> Option<String> {
    literal.starts_with('"').then(|| serde_json::from_str(literal).ok()).flatten()
}

/// Offset behind a string literal that opens at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    loop {
        match bytes.get(i)? {
            b'"' => return Some(i + 1),
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
}

/// Offset behind the value that starts at `at`; the end of the text where the value has none.
fn value_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b'"') => string_end(bytes, at).unwrap_or(bytes.len()),
        Some(b'{' | b'[') => json::scan(&bytes[at..]).map_or(bytes.len(), |s| at + s.len),
        _ => {
            at + bytes[at..]
                .iter()
                .take_while(|b| !matches!(b, b',' | b'}' | b']') && !b.is_ascii_whitespace())
                .count()
        }
    }
}

pub(super) fn skip_space(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|b| b.is_ascii_whitespace()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        Masker::new(&[7; 32]).mask_document(Some(Format::CloudTrail), text.as_bytes())
    }

    #[test]
    fn secret_fields_are_masked_and_the_rest_stays() {
        let m = Masker::new(&[7; 32]);
        let text = "{ \"a\" : 1.50, \"SessionToken\" :\"x\\ny\", \"plaintext\":{\"q\":[1]}, \"password\":null,\n\
                    \"newPassword\":12, \"u\":\"\\u00e9 password=hunter2\"}";
        let expected = format!(
            "{{ \"a\" : 1.50, \"SessionToken\" :\"{}\", \"plaintext\":\"{}\", \"password\":null,\n\
             \"newPassword\":\"{}\", \"u\":\"\u{e9} password={}\"}}",
            m.mask("x\ny"),
            m.mask("{\"q\":[1]}"),
            m.mask("12"),
            m.mask("hunter2")
        );
        assert_eq!(masked(text), expected);
        assert_eq!(masked(&expected), expected);
    }

    #[test]
    fn what_is_no_json_is_text() {
        assert!(!masked("prefix password=hunter2 {\"a\":\"b").contains("hunter2"));
        assert!(!masked("{\"sessionToken\":\"never ends").contains("never"));
        assert!(!masked("\"plaintext\":[[1,2").contains('1'));
        assert!(!masked("{\"plaintext\"\u{0}: \"hunter2\"").contains("zzz"));
        assert_eq!(
            Masker::new(&[7; 32]).mask_document(Some(Format::Vault), b"\xff\x00{}"),
            "\u{fffd}\u{0}{}"
        );
    }
}
