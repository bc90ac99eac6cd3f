//! Values as JSON text, appended to a buffer.

/// Appends a text in quotes. It is UTF-8 already; quotes, backslashes and control characters are escaped.
pub(crate) fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match escape {
            b'u' => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            short => out.extend([b'\\', short]),
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// What stands behind the backslash of a byte; 0 where it needs none.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends a whole number.
pub(crate) fn int(out: &mut Vec<u8>, n: i64) {
    let mut digits = [0; 20];
    let (mut at, mut left) = (digits.len(), n.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// As much of a text as fits into so many bytes.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_what_a_parser_reads() {
        let all: String =
            (0..0x3000u32).chain([0x2028, 0xfeff, 0x1f511, 0x10ffff]).filter_map(char::from_u32).collect();
        for text in ["", "a", "\"", "\\", "a\"b\\c\n", &all] {
            let mut out = Vec::new();
            quoted(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), text);
        }
    }

    #[test]
    fn numbers_are_what_a_parser_reads() {
        for n in [0, 1, -1, 9, 10, 443, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            int(&mut out, n);
            assert_eq!(String::from_utf8(out).expect("digits"), n.to_string());
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!((cut("aé", 2), cut("aé", 3), cut("aé", 9)), ("a", "aé", "aé"));
    }
}
