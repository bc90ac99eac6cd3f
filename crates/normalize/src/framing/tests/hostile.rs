//! Input that means to break the splitter, or is no log.

use super::*;

#[test]
fn what_holds_no_object_is_of_no_known_format() {
    for text in [
        "MIT License\n\nPermission is hereby granted { or not }",
        "[section]\nkey=value",
        "\u{feff}\0\0\0",
        "{\0}",
        "\"\"\"",
        "]",
    ] {
        let frames = cut(text.as_bytes());
        assert_eq!(frames.len(), 1, "{text}: {frames:?}");
        assert_eq!(frames[0].2, "format_unknown", "{text}");
    }
    let frames = cut_pieces(1000, [&[0xff; 150_500][..]].into_iter());
    assert_eq!((frames.len(), frames[0].1.len(), frames[150].1.len()), (151, 1000, 500));
}

#[test]
fn too_large_records_leave_whole_in_pieces() {
    let record = format!("{{\"a\":\"{}\"}}", "x".repeat(250_000));
    for text in [
        format!("{{\"a\":1}}\n{record}\n{{\"a\":2}}\n"),
        format!("[{{\"a\":1}},{record},{{\"a\":2}}]"),
        format!("{{\"Records\":[{{\"a\":1}},{record},{{\"a\":2}}]}}"),
    ] {
        let frames = cut_pieces(100_000, [text.as_bytes()].into_iter());
        conserved(text.as_bytes(), &frames);
        assert_eq!(
            frames.iter().map(|f| f.2).collect::<Vec<_>>(),
            ["ok", "record_too_large", "record_too_large", "record_too_large", "ok"]
        );
        assert_eq!(frames[1..4].iter().flat_map(|f| f.1.clone()).collect::<Vec<_>>(), record.as_bytes());
    }
    let exact = format!("{{\"a\":\"{}\"}}", "x".repeat(92));
    for text in [format!("{exact}\n{exact}"), format!("[{exact},{exact}]")] {
        assert!(cut_pieces(100, [text.as_bytes()].into_iter()).iter().all(|f| f.2 == "ok"));
        assert!(cut_pieces(99, [text.as_bytes()].into_iter()).iter().all(|f| f.2 == "record_too_large"));
    }
}

#[test]
fn deep_nesting_is_a_record() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(texts(&format!("[{deep},{{\"a\":1}}]")), [ok(&deep), ok("{\"a\":1}")]);
}

/// Quadratic work on any of these would take hours.
#[test]
fn hostile_input_takes_linear_time() {
    const N: usize = 2 << 20;
    let line = |unit: &str| format!("{{\"a\":1}}\n{}\n", unit.repeat((64 << 10) / unit.len())).repeat(16);
    let inputs = [
        "{".repeat(N),
        "[".repeat(N),
        "\"".repeat(N),
        "\\".repeat(N),
        "{\"".repeat(N / 2),
        "{\"a\":".repeat(N / 5),
        "{\"a\":1}\n".to_owned() + &"{\"a\":".repeat(N / 5),
        "[{\"a\":1},".to_owned() + &"{\"a\":]".repeat(N / 6),
        "[{\"a\":1},".to_owned() + &"{\"a\":\"".repeat(N / 6),
        "[{\"a\":1},".to_owned() + &"{\"a\":[{\"a\":1}".repeat(N / 13),
        "[".to_owned() + &"1,".repeat(N / 8),
        "{\"a\" ".to_owned() + &" ".repeat(N),
        line("{"),
        line("{\"a\":"),
        line("{\"a\":\""),
        line("{\"a\":[{\"a\":1}"),
        line("{\"a\":1}"),
        format!("{HEAD}{}", "Time: ".repeat(N / 6)),
        format!("{HEAD}{}", "\n{".repeat(N / 2)),
        HEAD.repeat(N / HEAD.len()),
        HEAD.trim_end().replace('\n', "\n2017-12-19T21:01:17.140Z ").repeat(N / HEAD.len()),
    ];
    for input in &inputs {
        let frames = cut_pieces(1 << 20, input.as_bytes().chunks(64 << 10));
        let bytes: usize = frames.iter().map(|f| f.1.len()).sum();
        assert!(bytes + frames.len() + 600 + N / 8 >= input.trim_end().len(), "{}", &input[..20]);
    }
}
