//! The audit log of a CloudHSM.

use super::*;

#[test]
fn blocks() {
    let block = format!("{HEAD}Opcode : CN_LOGIN (0xd)\nUser Name : {{\"a\"}}");
    let torn = "Time: 12/19/17 21:01:17.140812, usecs:15137";
    let stray = "Response : 0:HSM Return: SUCCESS\r\n\r\nLog type : MINIMAL_LOG_ENTRY (0)";
    let exported = format!("2017-12-19T21:01:17.140Z {block}");
    let json = &"{\"Time\": \"\\n\"}".to_owned();
    for text in [
        format!("{block}\n\n{exported}\n{block}\r\n \n"),
        format!("\u{feff}\n\n{block}\n{exported}\n\n\n{block}"),
    ] {
        assert_eq!(texts(&text), [ok(&block), ok(&exported), ok(&block)], "{text}");
    }
    assert_eq!(
        texts(&format!("{stray}\n\n{block}\n{json}\n\ntext\n2017-12-19T21:01:17.140Z {json}\n{block}")),
        [
            bad(stray, "format_unknown"),
            ok(&block),
            ok(json),
            bad("text", "format_unknown"),
            ok(&format!("2017-12-19T21:01:17.140Z {json}")),
            ok(&block),
        ]
    );
    assert_eq!(
        texts(&format!("{block}\n  {block}\n{json}\n \t {block}")),
        [&block, &block, json, &block].map(|t| ok(t))
    );
    for next in [&block, &exported] {
        assert_eq!(
            texts(&format!("{block}\n{torn}{next}\n{HEAD}")),
            [ok(&block), bad(torn, "record_torn"), ok(next), ok(HEAD.trim_end())]
        );
    }
    // No user's name begins a record: none holds a line feed.
    let forged = format!("{HEAD}User Name : Time: 12/19/17 21:01:17.140812, usecs:1");
    assert_eq!(texts(&format!("{forged}\nUser Type : x\n")), [ok(&format!("{forged}\nUser Type : x"))]);
}

#[test]
fn too_large_blocks_leave_whole_in_pieces() {
    let small = HEAD.trim_end();
    let large = format!("{small}\n{}", "x : y\n".repeat(100));
    let text = format!("{small}\n{large}{small}\n{}{small}", "z".repeat(300));
    let frames = cut_pieces(200, [text.as_bytes()].into_iter());
    conserved(text.as_bytes(), &frames);
    let codes: Vec<_> = frames.iter().map(|f| f.2).collect();
    let too_large = "record_too_large";
    assert_eq!(codes, ["ok", too_large, too_large, too_large, too_large, too_large, too_large, "ok"]);
    assert!(frames.iter().all(|f| f.1.len() <= 200));
    let text = format!("{small}\n{large}{HEAD}\n{small}");
    let frames = cut_pieces(200, [text.as_bytes()].into_iter());
    assert_eq!(frames.iter().filter(|f| f.2 == "ok").count(), 3);
}

/// Every way to tear a block and glue the next one on: the next one is whole.
#[test]
fn a_block_glued_on_a_torn_one_survives_any_tear() {
    let block = format!("{HEAD}Opcode : CN_LOGIN (0xd)\nResponse : 0:HSM Return: SUCCESS");
    for n in 1..block.len() {
        let torn = &block[..n];
        let frames = texts(&format!("{block}\n\n{torn}{block}\n\n{block}\n"));
        assert_eq!(frames.len(), 4, "{torn}");
        assert_eq!((&frames[0], &frames[2], &frames[3]), (&ok(&block), &ok(&block), &ok(&block)), "{torn}");
        assert_eq!(frames[1].0.trim_end(), torn.trim_end());
        assert!(torn.ends_with('\n') || frames[1].1 != "ok", "{torn}");
    }
}
