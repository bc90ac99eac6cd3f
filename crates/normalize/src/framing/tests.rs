mod blocks;
mod hostile;
mod properties;

use super::*;
use crate::reader::{Read, Reader, read_first};

/// Offset, bytes and code (`ok` for a record) of each frame.
type Cut = Vec<(u64, Vec<u8>, &'static str)>;

/// A sink that reads all records where they stand that are JSON.
#[derive(Default)]
struct Reading {
    frames: Cut,
    read: usize,
}

impl Sink for Reading {
    fn frame(&mut self, f: Frame<'_>) {
        let code = f.verdict.map_or_else(|r| r.code.code(), |()| "ok");
        self.frames.push((f.offset, f.bytes.to_vec(), code));
    }

    fn record(&mut self, text: &str, offset: u64) -> Option<usize> {
        struct Any;
        impl Read<'_> for Any {
            fn read(&mut self, from: &mut Reader<'_>) -> Option<()> {
                from.skip()
            }
        }
        let (len, _) = read_first(text, &mut Any)?;
        self.frames.push((offset, text.as_bytes()[..len].to_vec(), "ok"));
        self.read += 1;
        Some(len)
    }
}

/// Frames are the same for a sink that is given frames alone and for one that reads what it can.
fn cut_pieces<'a>(max_record_bytes: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Cut {
    let mut sink = Reading::default();
    let (mut given, mut alone) = (Reading::default(), Splitter::new(Limits { max_record_bytes }));
    let mut splitter = Splitter::new(Limits { max_record_bytes });
    let mut held = Vec::new();
    let mut run = |held: &mut Vec<u8>, eof| {
        let done = splitter.run(held, eof, &mut sink);
        assert_eq!(alone.run(held, eof, &mut |f: Frame<'_>| given.frame(f)), done);
        held.drain(..done);
    };
    for piece in pieces {
        held.extend_from_slice(piece);
        run(&mut held, false);
    }
    run(&mut held, true);
    assert!(held.is_empty());
    assert_eq!(sink.frames, given.frames);
    sink.frames
}

/// Texts are looked through for UTF-8 in strides: records, good and bad ones, lie on all their bounds.
#[test]
fn records_are_read_where_they_stand_in_any_place() {
    let mut input = b"[".to_vec();
    for i in 0..40_000usize {
        let record = match i % 1_000 {
            7 => b"{\"a\":nul}".to_vec(),
            8 => b"{\"a\":\"\xff\"}".to_vec(),
            9 => format!("{{\"a\":\"{}\"}}", "long ".repeat(20_000 * (i % 7 % 2) + i % 90)).into_bytes(),
            _ => format!("{{\"a\":\"{}\"}}", "\u{1f511}".repeat(i % 13)).into_bytes(),
        };
        input.extend(record);
        input.push(b',');
    }
    let frames = cut(&input);
    assert_eq!(frames.len(), 40_000);
    assert!(frames.iter().all(|(_, _, code)| *code == "ok"));
    let mut sink = Reading::default();
    Splitter::new(Limits::default()).run(&input, true, &mut sink);
    assert!(sink.read > 39_900, "{} of {} records were read where they stand", sink.read, frames.len());
}

fn cut(input: &[u8]) -> Cut {
    let frames = cut_pieces(1 << 20, std::iter::once(input));
    conserved(input, &frames);
    frames
}

/// The frames' texts and codes.
fn texts(input: &str) -> Vec<(String, &'static str)> {
    cut(input.as_bytes()).into_iter().map(|(_, b, c)| (String::from_utf8_lossy(&b).into_owned(), c)).collect()
}

/// Frames stand in order and hold what is in the input there; outside are separators and containers.
fn conserved(input: &[u8], frames: &Cut) {
    let mut outside = Vec::new();
    let mut at = 0;
    for (offset, bytes, _) in frames {
        let offset = usize::try_from(*offset).unwrap();
        assert!(offset >= at && !bytes.is_empty(), "frame at {offset} after {at}");
        assert_eq!(&input[offset..offset + bytes.len()], &bytes[..]);
        outside.extend_from_slice(&input[at..offset]);
        outside.push(b' ');
        at = offset + bytes.len();
    }
    outside.extend_from_slice(&input[at..]);
    let text = String::from_utf8_lossy(&outside).into_owned();
    let text = text.trim_start_matches('\u{feff}');
    let text = text.replace("\"Records\"", "").replace("\"Events\"", "").replace("\"NextToken\"", "");
    let text = text
        .replace("\"entries\"", "")
        .replace("\"nextPageToken\"", "")
        .replace("\"records\"", "")
        .replace("\"items\"", "")
        .replace("\"metadata\"", "");
    let text = text.replace("\"kind\"", "").replace("\"apiVersion\"", "").replace("\"EventList\"", "");
    let text = text.replace("\"audit.k8s.io/v1\"", "");
    let text = text.replace(":\"token\"", "").replace(": \"token\"", "").replace("null", "");
    assert!(text.bytes().all(|b| is_space(b) || b"{}[]:,".contains(&b)), "outside of frames: {text:?}");
}

fn ok(text: &str) -> (String, &'static str) {
    (text.to_owned(), "ok")
}

fn bad(text: &str, code: &'static str) -> (String, &'static str) {
    (text.to_owned(), code)
}

#[test]
fn lines() {
    assert_eq!(
        texts("{\"a\":1}\n\r\n  \n{\"a\":{\"b\":2}}\r\n{\"c\":3}"),
        [ok(r#"{"a":1}"#), ok(r#"{"a":{"b":2}}"#), ok(r#"{"c":3}"#)]
    );
    assert_eq!(texts("\u{feff}{\"a\":1}\n"), [ok(r#"{"a":1}"#)]);
    assert_eq!(cut("\u{feff} {\"a\":1}\n".as_bytes())[0].0, 4);
    assert_eq!(
        texts("vault: {\"a\":1}\nvault: {\"a\":2}\n"),
        [ok("vault: {\"a\":1}"), ok("vault: {\"a\":2}")]
    );
    let exported = "2017-12-19T21:01:17.140Z {\"a\":1}";
    assert_eq!(texts(&format!("{{\"a\":0}}\n{{\"a\":0}}\n{exported}\n"))[2..], [ok(exported)]);
    assert_eq!(texts(""), []);
    assert_eq!(texts(" \r\n\t\n"), []);
}

#[test]
fn documents() {
    let records = [ok(r#"{"a":1}"#), ok("{\n \"a\": [{}]\n}")];
    for text in [
        "[{\"a\":1},{\n \"a\": [{}]\n}]",
        "{\"a\":1}\n{\n \"a\": [{}]\n}",
        "{\"a\":1}{\n \"a\": [{}]\n}",
        "{\"Records\":[{\"a\":1},{\n \"a\": [{}]\n}]}",
        "{ \"Events\" : [ {\"a\":1} , {\n \"a\": [{}]\n} ] , \"NextToken\": \"token\" }\n",
        "{\"NextToken\":\"token\",\"Events\":[{\"a\":1},{\n \"a\": [{}]\n}]}",
        "{\"records\": [{\"a\":1},{\n \"a\": [{}]\n}]}",
        "{\"entries\": [{\"a\":1},{\n \"a\": [{}]\n}], \"nextPageToken\": \"token\"}",
        "{\"nextPageToken\": \"token\", \"entries\": [{\"a\":1},{\n \"a\": [{}]\n}]}",
        "{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{ },\"items\":[{\"a\":1},{\n \"a\": [{}]\n}]}",
        "{ \"apiVersion\" : \"audit.k8s.io/v1\", \"items\" : [{\"a\":1},{\n \"a\": [{}]\n}],\"kind\":\"EventList\",\"metadata\":null}",
        "[{\"Records\":[{\"a\":1}]},\n{\"records\":[{\n \"a\": [{}]\n}]}]",
        "[{\"a\":1},{\"kind\":\"EventList\",\"items\":[{\n \"a\": [{}]\n}]}]",
        "{\"NextToken\":null,\"Events\":[{\"a\":1}]}\n{\"Events\":[{\n \"a\": [{}]\n}]}",
    ] {
        assert_eq!(texts(text), records, "{text}");
    }
    assert_eq!(texts("{\"Records\":[]}"), []);
    assert_eq!(texts("[]"), []);
}

#[test]
fn containers_drop_nothing() {
    assert_eq!(
        texts(r#"{"x": [1, {"y":2}],"Records":[{"a":1}]}"#),
        [ok(r#"{"x": [1, {"y":2}],"Records":[{"a":1}]}"#)]
    );
    assert_eq!(
        texts(r#"{"x": 1 ,"Records":[{"a":1}], "y":{"z":[]} }tail"#),
        [
            bad(r#""x": 1"#, "json_broken"),
            ok(r#"{"a":1}"#),
            bad(r#""y":{"z":[]}"#, "json_broken"),
            bad("tail", "json_broken"),
        ]
    );
    assert_eq!(
        texts(r#"[1,"x, {y}", [2,{"a":1}],{"a":3},null]"#),
        [
            bad("1", "json_broken"),
            bad(r#""x, {y}""#, "json_broken"),
            bad(r#"[2,{"a":1}]"#, "json_broken"),
            ok(r#"{"a":3}"#),
            bad("null", "json_broken"),
        ]
    );
}

/// Lists of other APIs have `items`, too; what stands beside an EventList's is kept.
#[test]
fn only_lists_of_audit_events_come_apart() {
    for whole in [
        r#"{"kind":"SecretList","apiVersion":"v1","metadata":{},"items":[{"a":1}]}"#,
        r#"{"items":[{"a":1}],"kind":"EventList"}"#,
        r#"{"kind":"List","apiVersion":"v1","items":[{"a":1}]}"#,
        r#"{"apiVersion":"v1","items":[{"a":1}],"kind":"EventList"}"#,
    ] {
        assert_eq!(texts(whole), [ok(whole)]);
    }
    assert_eq!(
        texts(r#"{"kind":"EventList","metadata":{"continue":"x"},"items":[{"a":1}],"other":[2]}"#),
        [
            bad(r#""metadata":{"continue":"x"}"#, "json_broken"),
            ok(r#"{"a":1}"#),
            bad(r#""other":[2]"#, "json_broken"),
        ]
    );
    let list =
        r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[{"a":1},{"a":2}]}"#;
    assert_eq!(
        texts(&format!("{list}\n{list}\n")),
        [ok(r#"{"a":1}"#), ok(r#"{"a":2}"#), ok(r#"{"a":1}"#), ok(r#"{"a":2}"#)]
    );
}

#[test]
fn broken_lines_leave_the_others_whole() {
    assert_eq!(
        texts("{\"a\":1,\n{\"a\":2}\n{\"a\":[3}\n{\"a\":4}\ntext\n{\"a\":5}\n"),
        [
            bad(r#"{"a":1,"#, "record_torn"),
            ok(r#"{"a":2}"#),
            // The line looks like a record; the normalizer says what is wrong with it.
            ok(r#"{"a":[3}"#),
            ok(r#"{"a":4}"#),
            bad("text", "json_broken"),
            ok(r#"{"a":5}"#),
        ]
    );
}

#[test]
fn glued_lines_come_apart() {
    let lines = "{\"a\":0}\n{\"a\":0}\n";
    for (line, want) in [
        (r#"{"a":1}{"b":2} {"c":"}{"}"#, vec![ok(r#"{"a":1}"#), ok(r#"{"b":2}"#), ok(r#"{"c":"}{"}"#)]),
        (r#"{"a":"x}{y"}"#, vec![ok(r#"{"a":"x}{y"}"#)]),
        (r#"{"a":[{"a":2}"#, vec![bad(r#"{"a":["#, "record_torn"), ok(r#"{"a":2}"#)]),
        (r#"{"a":"x {"a":2}"#, vec![bad(r#"{"a":"x "#, "record_torn"), ok(r#"{"a":2}"#)]),
        (
            r#"{"a":1,{"a":2}{"a":3}"#,
            vec![bad(r#"{"a":1,"#, "record_torn"), ok(r#"{"a":2}"#), ok(r#"{"a":3}"#)],
        ),
        (r#"{"a":"{"{"a":2}"#, vec![bad(r#"{"a":"{""#, "record_torn"), ok(r#"{"a":2}"#)]),
        (r#"{{"{"a":"{"a":2}"#, vec![bad(r#"{{"{"a":""#, "record_torn"), ok(r#"{"a":2}"#)]),
        (r#"b":1}}{"a":2}"#, vec![bad(r#"b":1}}"#, "json_broken"), ok(r#"{"a":2}"#)]),
    ] {
        assert_eq!(texts(&format!("{lines}{line}\n"))[2..], want, "{line}");
    }
    assert_eq!(
        texts("p: {\"a\":1}\np: {\"a\":p: {\"a\":2}\np: {\"a\":3}p: {\"a\":4}\n")[1..],
        [bad("p: {\"a\":", "record_torn"), ok("p: {\"a\":2}"), ok("p: {\"a\":3}"), ok("p: {\"a\":4}"),]
    );
}

/// Every way to tear a record and glue the next one on: the next one is whole, the head is one frame.
#[test]
fn a_record_glued_on_a_torn_one_survives_any_tear() {
    let record = r#"{"time":"1","auth":{"x":["a\"b\\",{"k":[1,2.5,null]}],"y":{}},"type":"response"}"#;
    for n in 1..record.len() {
        let torn = &record[..n];
        for text in [format!("{record}\n{torn}{record}\n{record}\n"), format!("{record}\n {torn}{record}")] {
            let frames = texts(&text);
            assert_eq!(frames[1], bad(torn, "record_torn"), "{text}");
            assert!(frames.len() > 2 && frames[2..].iter().all(|f| *f == ok(record)), "{text}");
        }
    }
}

#[test]
fn broken_documents_go_on_with_the_next_record() {
    assert_eq!(
        texts(r#"{"Records":[{"e":1},{"e":"x,"f":2},{"e":3}]}"#),
        [ok(r#"{"e":1}"#), bad(r#"{"e":"x,"f":2}"#, "json_broken"), ok(r#"{"e":3}"#),]
    );
    assert_eq!(
        texts(r#"{"Records":[{"e":[1}],"g":{"h":1}},{"e":3}]}"#),
        [bad(r#"{"e":[1}],"g":{"h":1}}"#, "json_broken"), ok(r#"{"e":3}"#),]
    );
    assert_eq!(
        texts("[{\"e\":1},{\"e\":2}}},{\"e\":3}"),
        [ok(r#"{"e":1}"#), ok(r#"{"e":2}"#), bad("}}", "json_broken"), ok(r#"{"e":3}"#),]
    );
    assert_eq!(
        texts("{\"Recor:[{\"e\":1},{\"e\":2}]}"),
        [bad("{\"Recor:[", "record_torn"), ok(r#"{"e":1}"#), ok(r#"{"e":2}"#), bad("]}", "json_broken"),]
    );
    // Cut in the middle of a record, and between two.
    assert_eq!(
        texts(r#"{"Records":[{"e":1},{"e":{"f"#),
        [ok(r#"{"e":1}"#), bad(r#"{"e":{"f"#, "record_torn")]
    );
    assert_eq!(texts(r#"{"Records":[{"e":1},"#), [ok(r#"{"e":1}"#)]);
}

/// How a block begins.
const HEAD: &str = "Time: 12/19/17 21:01:17.140812, usecs:1513717277140812\nSequence No : 0x1\n";

#[test]
fn a_cut_off_object_gives_its_whole_records() {
    let why = Rejection::new(Reject::CompressionBroken, "cut");
    for (text, want) in [
        ("{\"a\":1}\n{\"a\":2}\n{\"a\":", vec!["{\"a\":1}", "{\"a\":2}", "!{\"a\":"]),
        ("{\"a\":1}\n{\"a\":2}", vec!["{\"a\":1}", "{\"a\":2}"]),
        ("{\"Records\":[{\"a\":1},{\"a\"", vec!["{\"a\":1}", "!{\"a\""]),
        ("{\"Rec", vec!["!{\"Rec"]),
        (
            &format!("{HEAD}a : b\n\n{HEAD}{}", &HEAD[..30]),
            vec![&format!("{HEAD}a : b"), HEAD.trim_end(), &format!("!{}", &HEAD[..30])],
        ),
        ("", vec![]),
    ] {
        let mut frames = Vec::new();
        let mut sink = |f: Frame<'_>| {
            let mark = if f.verdict.is_ok() { "" } else { "!" };
            frames.push(format!("{mark}{}", String::from_utf8_lossy(f.bytes)));
        };
        let mut splitter = Splitter::new(Limits::default());
        let done = splitter.run(text.as_bytes(), false, &mut sink);
        let left = splitter.abort(&text.as_bytes()[done..], &why, &mut sink);
        assert_eq!(frames, want);
        assert_eq!(left, want.last().is_some_and(|f| f.starts_with('!')));
    }
}
