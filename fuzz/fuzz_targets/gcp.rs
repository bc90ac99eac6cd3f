//! Any bytes as entries of Cloud Audit Logs. Seeds: the lines of `tests/fixtures/gcp/*/input.*`.

#![no_main]

use keytrail_normalize::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| keytrail_fuzz::record(Format::Gcp, bytes));
