//! Any bytes as requests to the sidecar: of the service, by each of its calls, and of the audit device. What is not taken
//! is refused by a code. The first byte says which call, the next two how long the body is; then comes the next request.
//! Seeds: bodies of `tests/fixtures/key-operation` behind such bytes.

#![no_main]

use keytrail_fuzz::sidecar::Server;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let server = Server::start();
    let mut rest = bytes;
    while let [call, low, high, tail @ ..] = rest {
        let (body, next) = tail.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(tail.len()));
        let (status, answer) = server.ask(*call, body);
        assert!(matches!(status, 200 | 201 | 400 | 404 | 409 | 413 | 503), "{status} {answer:?}");
        rest = next;
    }
    server.end();
});
