//! Rules out that a text holds a secret, at a few instructions a byte: nearly all texts hold none.
//!
//! What it is: one pass that follows all shapes of [`super::secrets`] at once, each by a few bytes that no
//! secret of that shape lacks. What it is not: it finds nothing, and may suspect a text without a secret.
//! In: a text. Out: `false` where there is certainly none.

use super::secrets::{BLOB_LEN, WORD};

/// The bytes of one step, in either case of a letter where a shape takes both. [`EDGE`] is any byte that
/// is no letter and no digit, and the start of a text.
type Step = &'static [u8];
const EDGE: u8 = b'\n';

const DIGIT: Step = b"0123456789";
const CARD: Step = b"23456";
const SPLIT: Step = b" -";
const VAULT: Step = b"sbr";
const QUOTE: Step = b"=:\"'\\";

/// A bit a step, and a bit between two of them: at most 64.
const HINTS: [&[Step]; 12] = [
    // `ghp_`, `github_pat_`, `glpat-`, `xoxb-`, `-----BEGIN`.
    &[b"h", b"pousr", b"_"],
    &[b"a", b"t", b"_-"],
    &[b"x", b"o", b"x"],
    &[b"-", b"-", b"B"],
    // `s.`, `hvs.`, and `eyJ`, which a JWT begins with.
    &[&[EDGE, b'v'], VAULT, b"."],
    &[b"y", b"J"],
    // The last two letters of names before a value, with separators between them or not:
    // password, passphrase, signature, string; key, secret, token, pin.
    &[b"RWSNrwsn-_", b"DEGdeg", QUOTE],
    &[b"EIei-_", b"YTNytn", QUOTE],
    &[b"RWSNEIrwsnei-_", b"DEGYTNdegytn", b" ", b"=:\"'\\ "],
    // `Bearer `.
    &[b"Rr", b"Ee", b"Rr", b" "],
    // Card numbers: the shortest, and the first groups of a printed one.
    &[CARD, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT],
    &[CARD, DIGIT, DIGIT, DIGIT, SPLIT, DIGIT, DIGIT, DIGIT, DIGIT],
];

/// Steps of the longest hint.
const LONGEST: usize = 13;

const _: () = {
    let mut hint = 0;
    while hint < HINTS.len() {
        assert!(HINTS[hint].len() <= LONGEST);
        hint += 1;
    }
};

/// Bit n of `STEPS[b]`: the byte b can be step n. `FIRST` and `LAST`: the steps that begin and end a hint.
const TABLES: ([u64; 256], u64, u64) = {
    let (mut steps, mut first, mut last) = ([0u64; 256], 0, 0);
    let (mut hint, mut bit) = (0, 0);
    while hint < HINTS.len() {
        first |= 1 << bit;
        let mut step = 0;
        while step < HINTS[hint].len() {
            let bytes = HINTS[hint][step];
            let mut n = 0;
            while n < bytes.len() {
                if bytes[n] == EDGE {
                    let mut b = 0;
                    while b < 256 {
                        if !(b as u8).is_ascii_alphanumeric() {
                            steps[b] |= 1 << bit;
                        }
                        b += 1;
                    }
                }
                steps[bytes[n] as usize] |= 1 << bit;
                n += 1;
            }
            step += 1;
            bit += 1;
        }
        last |= 1 << (bit - 1);
        bit += 1;
        hint += 1;
    }
    (steps, first, last)
};
static STEPS: [u64; 256] = TABLES.0;
const FIRST: u64 = TABLES.1;
const LAST: u64 = TABLES.2;

/// Whether a text may hold a secret.
///
/// All hints are matched side by side (the shift-and algorithm of Baeza-Yates and Gonnet 1992): bit n of
/// the state says that the bytes up to here are steps of a hint up to n.
pub(super) fn suspect(text: &[u8]) -> bool {
    // Bits do not meet in this sum: nothing is a step between two hints, where the first bits come from.
    let step = |state: u64, b: u8| (state << 1).wrapping_add(FIRST) & STEPS[usize::from(b)];
    // Two halves in turns: while a processor waits for a step of one, it works on the other. The second begins
    // early enough for every hint that does not end in the first.
    let (first, _) = text.split_at(text.len() / 2);
    let second = &text[first.len().saturating_sub(LONGEST - 1)..];
    let (mut state, mut seen) = (step(0, EDGE), 0);
    let mut other = if second.len() == text.len() { state } else { 0 };
    let (beside, rest) = second.split_at(first.len());
    for (a, b) in first.iter().zip(beside) {
        state = step(state, *a);
        other = step(other, *b);
        seen |= state | other;
    }
    for b in rest {
        other = step(other, *b);
        seen |= other;
    }
    seen & LAST != 0 || suspect_word(text)
}

/// Whether a text may hold a word that looks random: one long enough, and a fifth of such a length in
/// capital letters.
fn suspect_word(text: &[u8]) -> bool {
    let mut start = 0;
    while let Some(window) = text.get(start..start + BLOB_LEN) {
        match window.iter().rposition(|b| !WORD[usize::from(*b)]) {
            Some(edge) => start += edge + 1,
            None => return text.iter().filter(|b| b.is_ascii_uppercase()).count() >= BLOB_LEN / 5,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::secrets;
    use super::*;

    /// Whole secrets, parts of their shapes, and what stands between.
    const PARTS: [&str; 56] = [
        "password",
        "Passwd",
        "pass-phrase",
        "PWD",
        "api_key",
        "secretKey",
        "access-key",
        "private_key",
        "clientsecret",
        "secretstring",
        "sessiontoken",
        "access_token_",
        "secret",
        "token",
        "signature",
        "pin",
        "Bearer",
        "bearer abcdefgh01234567",
        "masked:",
        "=",
        ":",
        "\"",
        "'",
        "\\",
        " ",
        ".",
        "-",
        "_",
        "/",
        "x",
        "-----BEGIN",
        "-----BEGIN RSA PRIVATE KEY-----",
        "hvs.CAESIJlWh1Zj0123456789abcdefAB",
        "hvb",
        "s",
        "b",
        "5njfHdQjbQpQ0MmjB8SPaTZk",
        "s.5njfHdQjbQpQ0MmjB8SPaTZk",
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJ",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "github_pat_0123456789abcdefghijABCDEFGHIJ012345",
        "glpat-0123456789abcdefghij",
        "xoxb-123456789012-abc",
        "gh",
        "4111111111111111",
        "3782 822463 10005",
        "4111-1111-1111-1111",
        "4111",
        "1111",
        "2720",
        "arn:aws:kms:eu-west-1:444455556666:key/",
        "\u{e9}",
        "\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_secret_is_ruled_out(parts in prop::collection::vec(prop::sample::select(&PARTS[..]), 1..9)) {
            let text = parts.concat();
            prop_assert!(suspect(text.as_bytes()) || secrets::next(text.as_bytes(), 0).is_none(), "{}", text);
        }
    }

    #[test]
    fn names_before_values_are_suspected() {
        for name in secrets::BEFORE_COLON.iter().chain(&secrets::BEFORE_EQUALS) {
            for mark in ["=", " =", "\": \"", "\\\" : "] {
                assert!(suspect(&[name, mark.as_bytes()].concat()));
                assert!(suspect(&[&name.to_ascii_uppercase(), mark.as_bytes()].concat()));
            }
        }
    }

    #[test]
    fn what_logs_are_full_of_is_not_suspected() {
        for text in [
            "",
            "arn:aws:kms:eu-west-1:444455556666:key/ffcaf95b-f359-4393-813a-fb0aca716ae1",
            "arn:aws:sts::111122223333:assumed-role/app-ledger-2/erin.1@example.com",
            "aws-sdk-go-v2/1.38.3 ua/2.1 os/linux lang/go#1.25.0 md/GOOS#linux md/GOARCH#arm64 api/kms#1.39.2",
            "kms.eu-west-1.amazonaws.com",
            "AROAE6Y4QAYKF2N57RFL:erin.1@example.com",
            "User: arn:aws:iam::999900001111:root is not authorized to perform: kms:GenerateDataKey on the resource",
        ] {
            assert!(!suspect(text.as_bytes()), "{text}");
        }
    }
}
