use std::io::Write;
use std::os::unix::fs::symlink;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

/// Offset, text and code of each frame.
type Found = Vec<(u64, String, &'static str)>;

fn read_all(input: &Input, limits: &Limits) -> (Found, InputSummary) {
    let mut frames = Found::new();
    let summary = read(input, limits, &mut Buffers::default(), &never(), &mut |f: Frame<'_>| {
        let code = f.verdict.as_ref().map_or_else(|r| r.code.code(), |()| "ok");
        frames.push((f.offset, String::from_utf8_lossy(f.bytes).into_owned(), code));
        Ok(())
    });
    (frames, summary.unwrap())
}

fn bytes_input(bytes: &[u8]) -> Input {
    Input { name: "in".to_owned(), source: Source::Bytes(bytes.to_vec()), declared: None }
}

fn read_bytes(bytes: &[u8]) -> Found {
    let (frames, summary) = read_all(&bytes_input(bytes), &Limits::default());
    assert_eq!((summary.sha256, summary.bytes), (Hash::of(bytes), bytes.len() as u64));
    frames
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

/// Lines that do not compress to nothing.
fn lines(n: usize) -> String {
    let mut x = 1u64;
    let mut line = |i| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{{\"n\":{i},\"x\":\"{x:016x}\"}}\n")
    };
    (0..n).map(&mut line).collect()
}

fn expected(text: &str) -> Found {
    let mut at = 0;
    text.lines()
        .map(|l| {
            let frame = (at, l.to_owned(), "ok");
            at += l.len() as u64 + 1;
            frame
        })
        .collect()
}

#[test]
fn every_compression_gives_the_same_frames() {
    let text = lines(1_000);
    let want = expected(&text);
    let (a, b) = text.split_at(text.len() / 3);
    let (a, b) = (a.as_bytes(), b.as_bytes());
    for bytes in [
        text.clone().into_bytes(),
        gzip(text.as_bytes()),
        [gzip(a), gzip(b"\n"), gzip(b)].concat(),
        zstd(text.as_bytes()),
        [vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7], zstd(a), zstd(b)].concat(),
    ] {
        let frames: Vec<_> = read_bytes(&bytes).into_iter().map(|f| f.1).collect();
        let whole: String = frames.concat();
        assert_eq!(whole, want.iter().map(|f| &*f.1).collect::<String>());
    }
    for bytes in [text.clone().into_bytes(), gzip(text.as_bytes()), zstd(text.as_bytes())] {
        assert_eq!(read_bytes(&bytes), want);
        assert_eq!(read_bytes(&gzip(&bytes)), want);
        assert_eq!(read_bytes(&zstd(&gzip(&bytes))), want);
    }
    // Equal members: the last one's trailer fits the first one too.
    let twice = [gzip(text.as_bytes()), gzip(text.as_bytes())].concat();
    assert_eq!(read_bytes(&twice).len(), 2 * want.len());
    let empty = read_bytes(&gzip(b""));
    assert_eq!(empty, []);
}

#[test]
fn broken_compression_keeps_what_came_before() {
    let text = lines(2_000);
    for whole in [gzip(text.as_bytes()), zstd(text.as_bytes())] {
        for n in (4..whole.len()).step_by(97).chain([whole.len() - 1]) {
            let frames = read_bytes(&whole[..n]);
            let (last, before) = frames.split_last().unwrap();
            assert_eq!(last.2, "compression_broken", "cut at {n}");
            assert!(expected(&text).starts_with(before), "cut at {n}");
            assert!(last.1 == "in" || text[last.0 as usize..].starts_with(&last.1), "cut at {n}");
        }
    }
    let mut bad = gzip(text.as_bytes());
    let middle = bad.len() / 2;
    bad[middle] ^= 0x55;
    let frames = read_bytes(&bad);
    assert_eq!(frames.last().unwrap().2, "compression_broken");
    assert!(frames.len() > 500);
    let frames = read_bytes(&[gzip(text.as_bytes()), b"tail".to_vec()].concat());
    assert_eq!((frames.len(), frames[2_000].2), (2_001, "compression_broken"));
    assert_eq!(read_bytes(&[0x1f, 0x8b]), [(0, "in".to_owned(), "compression_broken")]);
}

#[test]
fn compression_in_compression_is_read_to_its_third_layer() {
    let text = lines(2_000);
    let (a, b) = text.split_at(text.len() / 3);
    // As Firehose does it: what it collected of compressed records, compressed.
    let collected = gzip(&[gzip(a.as_bytes()), gzip(b.as_bytes())].concat());
    assert_eq!(read_bytes(&collected).into_iter().map(|f| f.1).collect::<String>(), text.replace('\n', ""));
    let inner = gzip(text.as_bytes());
    for n in (4..inner.len()).step_by(997) {
        let frames = read_bytes(&gzip(&inner[..n]));
        let (last, before) = frames.split_last().unwrap();
        assert_eq!(last.2, "compression_broken", "cut at {n}");
        assert!(expected(&text).starts_with(before), "cut at {n}");
    }
    let outer = gzip(&inner);
    let frames = read_bytes(&outer[..outer.len() / 2]);
    assert_eq!(frames.last().unwrap().2, "compression_broken");
    assert!(frames.len() > 500);
    let fourth = read_bytes(&gzip(&gzip(&gzip(&inner))));
    assert!(fourth.iter().all(|f| f.2 != "ok"), "{fourth:?}");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(b"{\"a\":1}\n").unwrap();
    for _ in 0..64 {
        encoder.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let mut small = bomb.clone();
    let n = small.len();
    small[n - 4..].copy_from_slice(&9u32.to_le_bytes());
    for bytes in [gzip(&bomb), bomb, small, zstd(&[&b"{\"a\":1}\n"[..], &[b'x'; 40 << 20]].concat())] {
        let limits = Limits { max_inflated_bytes: 10 << 20, ..Limits::default() };
        let (frames, summary) = read_all(&bytes_input(&bytes), &limits);
        assert_eq!(frames[0].1, "{\"a\":1}");
        assert_eq!((frames.len(), frames[1].2), (2, "inflated_too_large"));
        assert_eq!(summary.sha256, Hash::of(&bytes));
        assert_eq!(summary.inflated_bytes, 10 << 20);
    }
}

#[test]
fn the_first_failure_of_who_takes_them_is_the_last_call() {
    let mut frames = 0;
    let stopped = read(
        &bytes_input(lines(1_000).as_bytes()),
        &Limits::default(),
        &mut Buffers::default(),
        &never(),
        &mut |_: Frame<'_>| {
            frames += 1;
            Err(Fatal::new("Fatal.Test", "no"))
        },
    );
    assert_eq!((stopped.unwrap_err().code, frames), ("Fatal.Test", 1));
}

#[test]
fn memory_of_one_input_says_nothing_of_the_next() {
    let (long, short) = (lines(60_000), lines(3));
    let mut buffers = Buffers::default();
    for text in [&long, &short, &long, &short] {
        for bytes in [text.as_bytes().to_vec(), gzip(text.as_bytes()), zstd(text.as_bytes())] {
            let mut frames = Found::new();
            let summary = read(
                &bytes_input(&bytes),
                &Limits::default(),
                &mut buffers,
                &never(),
                &mut |f: Frame<'_>| {
                    frames.push((f.offset, String::from_utf8_lossy(f.bytes).into_owned(), "ok"));
                    Ok(())
                },
            );
            assert!(frames == expected(text), "{} bytes", bytes.len());
            assert_eq!(summary.unwrap().inflated_bytes, text.len() as u64);
        }
    }
}

/// Gives some bytes, then fails.
struct Failing(&'static [u8]);

impl Read for Failing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(out)?;
        if n == 0 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(n) }
    }
}

#[test]
fn unreadable_inputs_are_frames() {
    let folder = tempfile::tempdir().unwrap();
    let gone = Input::path(folder.path().join("gone"));
    for (input, reason) in [
        (gone, "the input cannot be read: no such file or folder"),
        (Input::path(folder.path()), "the input cannot be read: expected a file, found a folder"),
        (
            Input::path("/dev/zero"),
            "the input cannot be read: expected a file or a pipe, found a device or socket",
        ),
    ] {
        let mut frames = Vec::new();
        read(&input, &Limits::default(), &mut Buffers::default(), &never(), &mut |f: Frame<'_>| {
            frames.push((f.bytes.to_vec(), f.verdict.err()));
            Ok(())
        })
        .unwrap();
        let want = Rejection::new(Reject::InputUnreadable, reason);
        assert_eq!(frames, [(input.name.into_bytes(), Some(want))]);
    }

    let mut found = Vec::new();
    let mut sink = |f: Frame<'_>| {
        found.push((f.bytes.to_vec(), f.verdict.err().map(|r| r.code)));
        Ok(())
    };
    let mut frames = Frames { name: "n", sink: &mut sink, failed: None, stopped: None };
    let source = Box::new(Failing(b"{\"a\":1}\n{\"a\":2}\n{\"a"));
    read_from(Ok(source), &Limits::default(), &mut Buffers::default(), &mut frames);
    assert_eq!(
        found,
        [
            (b"{\"a\":1}".to_vec(), None),
            (b"{\"a\":2}".to_vec(), None),
            (b"{\"a".to_vec(), Some(Reject::RecordTorn)),
            (b"n".to_vec(), Some(Reject::InputUnreadable)),
        ]
    );
}

#[test]
fn arguments_become_inputs_in_a_stable_order() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(root.join("a/empty")).unwrap();
    for name in ["a/b/2", "a/b/10", "a/b.log", "a/.hidden", "z"] {
        fs::write(root.join(name), name).unwrap();
    }
    symlink(root, root.join("a/loop")).unwrap();
    symlink(root.join("z"), root.join("a/link")).unwrap();
    let names = |args: &[&str]| {
        let args: Vec<OsString> = args.iter().map(|a| root.join(a).into()).collect();
        let inputs = expand(&args)?;
        let short = |i: Input| i.name[root.to_str().unwrap().len() + 1..].to_owned();
        Ok::<_, String>(inputs.into_iter().map(short).collect::<Vec<_>>())
    };
    assert_eq!(names(&["z", "a"]).unwrap(), ["z", "a/.hidden", "a/b.log", "a/b/10", "a/b/2"]);
    assert_eq!(names(&["a/b/*"]).unwrap(), ["a/b/10", "a/b/2"]);
    assert_eq!(names(&["a/link"]).unwrap(), ["a/link"]);
    let root_name = root.to_str().unwrap();
    assert_eq!(
        names(&["gone"]).unwrap_err(),
        format!("`{root_name}/gone` cannot be read: no such file or folder")
    );
    assert_eq!(names(&["a/*.txt"]).unwrap_err(), format!("`{root_name}/a/*.txt` matches no file"));
    assert_eq!(
        expand(&["-".into()]).unwrap(),
        [Input { name: "-".to_owned(), source: Source::Stdin, declared: None }]
    );
    assert!(expand(&["-".into(), "-".into()]).unwrap_err().contains("twice"));
    assert_eq!(Input::path(std::ffi::OsStr::from_bytes(b"a\xff/\xc3\xa9")).name, "a\\xff/\u{e9}");
}
