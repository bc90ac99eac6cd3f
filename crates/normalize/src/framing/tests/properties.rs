//! Properties that hold whatever the bytes are.

use proptest::prelude::*;

use super::*;

/// Bytes that are near the shapes that the splitter knows.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        "\r\n",
        " ",
        "{\"a\":1}",
        "{\"a\":\"x\"}\n",
        "{\"a\":",
        "{\"b\":{\"a\":[1]}}",
        "{\"Records\":[",
        "]}",
        "{\"Events\":[",
        "{\"records\":[",
        "{\"kind\":\"EventList\",",
        "\"apiVersion\":\"audit.k8s.io/v1\",",
        "\"metadata\":{},",
        "\"items\":[",
        "\"NextToken\":\"token\",",
        "null",
        "text",
        "\0",
        "\u{feff}",
        "p: ",
        "\\u00e9",
        "{ \"a\"",
        "\"a\"",
        "\"x,",
        "{\n  \"a\": 1\n}\n",
        "            ",
        HEAD,
        "Time: 12/19/17 21:01:17.140812, usecs:1",
        "2017-12-19T21:01:17.140Z ",
        "Opcode : CN_LOGIN (0xd)\n",
    ]);
    let tokens = prop::collection::vec(token, 0..60).prop_map(|t| t.concat().into_bytes());
    let block = prop::sample::select(vec![
        HEAD,
        "Time: 12/19/17 21:01:17",
        "2017-12-19T21:01:17.140Z ",
        "Opcode : CN_LOGIN (0xd)\n",
        "Response",
        "\n",
        "\r\n",
        " ",
        "{\"a\":1}\n",
        "{",
        "T",
    ]);
    let blocks =
        prop::collection::vec(block, 0..40).prop_map(|t| [HEAD.as_bytes(), t.concat().as_bytes()].concat());
    prop_oneof![
        4 => blocks,
        8 => tokens.clone(),
        2 => (tokens.clone(), prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(a, b)| [a, b].concat()),
        1 => (tokens.clone(), tokens).prop_map(|(a, b)| {
            // Beyond the window, so that the mode is decided before the end.
            [b"{\"a\":1}\n".repeat(9_000), a, b"{\"a\":2}\n".repeat(3), b].concat()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_dropped(input in input(), max in 1usize..80) {
        conserved(&input, &cut_pieces(1 << 20, std::iter::once(&input[..])));
        let small = cut_pieces(max, std::iter::once(&input[..]));
        conserved(&input, &small);
        prop_assert!(small.iter().all(|f| f.1.len() <= max));
    }

    #[test]
    fn frames_do_not_depend_on_the_pieces(input in input(), max in 1usize..80, sizes in prop::collection::vec(1usize..40, 1..20)) {
        let whole = cut_pieces(max, std::iter::once(&input[..]));
        let mut rest = &input[..];
        let mut sizes = sizes.iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let n = rest.len().min(if rest.len() > 4_000 { 3_001 } else { *sizes.next()? });
            let (piece, after) = rest.split_at_checked(n).filter(|_| n > 0)?;
            rest = after;
            Some(piece)
        });
        prop_assert_eq!(cut_pieces(max, pieces), whole);
    }

    #[test]
    fn records_among_records_survive(n in 1usize..5, broken in "[a-z\\\\:, 0-9\"]{0,12}") {
        let record = "{\"a\":{\"b\":\"c\"}}";
        let text = format!("{}{{\"x{broken}\n{}", format!("{record}\n").repeat(n), format!("{record}\n").repeat(n));
        let good = texts(&text).iter().filter(|f| **f == ok(record)).count();
        prop_assert_eq!(good, 2 * n, "{}", text);
    }
}
