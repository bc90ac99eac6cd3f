//! Walks a JSON text without parsing it: which keys an object has, and which field an offset is in.
//! It takes torn and broken texts, too, and says what it saw up to there.

/// Calls `see` with each key of the text's outermost object, without its quotes and as it is written,
/// and with the text behind its colon, until `see` says `false`.
pub(crate) fn top_keys<'a>(json: &'a str, mut see: impl FnMut(&'a str, &'a str) -> bool) {
    walk(json, json.len(), |depth, key, rest| depth != 1 || see(key, rest));
}

/// The dotted names of the fields around an offset, e.g. `userIdentity.arn`; empty at the top.
pub(crate) fn path_at(json: &str, offset: usize) -> String {
    let mut names: Vec<&str> = Vec::new();
    let open = walk(json, offset, |depth, key, _| {
        names.truncate(depth - 1);
        names.resize(depth - 1, "");
        names.push(key);
        true
    });
    names.truncate(open);
    names.retain(|n| !n.is_empty());
    names.join(".")
}

/// As [`top_keys`], with the keys of the objects in the outermost one too: `see` is given their depth, 1 or 2.
pub(crate) fn upper_keys<'a>(json: &'a str, mut see: impl FnMut(usize, &'a str, &'a str) -> bool) {
    walk(json, json.len(), |depth, key, rest| depth > 2 || see(depth, key, rest));
}

/// Whether the text behind a colon is a string in which `part` stands, letters in any case.
pub(crate) fn holds(value: &str, part: &str) -> bool {
    let Some(inner) = value.trim_ascii_start().strip_prefix('"') else { return false };
    let end = memchr::memchr(b'"', inner.as_bytes()).unwrap_or(inner.len());
    inner.as_bytes()[..end].windows(part.len()).any(|w| w.eq_ignore_ascii_case(part.as_bytes()))
}

/// Follows brackets and strings up to `end` and calls `see` with the depth of each key, the key and what
/// stands behind its colon. Gives the number of brackets that are open where it stopped.
fn walk<'a>(json: &'a str, end: usize, mut see: impl FnMut(usize, &'a str, &'a str) -> bool) -> usize {
    let bytes = json.as_bytes();
    let (mut depth, mut i) = (0usize, 0);
    while i < end.min(bytes.len()) {
        match bytes[i] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let start = i + 1;
                let Some(close) = string_close(bytes, start) else { return depth };
                i = close + 1;
                let colon = i + bytes[i..].iter().take_while(|b| b.is_ascii_whitespace()).count();
                // A string before a colon is a key, and quotes are at character boundaries.
                if depth > 0
                    && bytes.get(colon) == Some(&b':')
                    && let (Some(key), Some(rest)) = (json.get(start..close), json.get(colon + 1..))
                    && !see(depth, key, rest)
                {
                    return depth;
                }
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    depth
}

/// The offset of the quote that closes a string whose first character is at `i`.
fn string_close(bytes: &[u8], mut i: usize) -> Option<usize> {
    loop {
        i += memchr::memchr2(b'"', b'\\', bytes.get(i..)?)?;
        if bytes[i] == b'"' {
            return Some(i);
        }
        i += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_in_fields() {
        let json = r#"{"a":{"b":[1,{"c":"x"}],"d":2},"e":"f"}"#;
        for (value, path) in [("\"x\"", "a.b.c"), ("2}", "a.d"), ("\"f\"", "e"), ("1,", "a.b")] {
            assert_eq!(path_at(json, json.find(value).unwrap() + 1), path, "{value}");
        }
        assert_eq!(path_at(json, 1), "");
    }

    #[test]
    fn keys_of_the_outermost_object_only() {
        let mut seen = Vec::new();
        top_keys(r#"{"a":{"b":1}, "c d" : ["e",{"f":1}],"g\"h":"torn"#, |key, _| {
            seen.push(key);
            true
        });
        assert_eq!(seen, ["a", "c d", "g\\\"h"]);
        top_keys("\"a\":1 } ]", |_, _| panic!("no object"));
    }
}
