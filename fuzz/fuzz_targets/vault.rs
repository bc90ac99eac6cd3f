//! Any bytes as Vault and OpenBao audit records. Seeds: the lines of `tests/fixtures/vault/*/input.*`.

#![no_main]

use keytrail_normalize::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| keytrail_fuzz::record(Format::Vault, bytes));
