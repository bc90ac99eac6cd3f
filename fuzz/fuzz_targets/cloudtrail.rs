//! Any bytes as CloudTrail records. Seeds: the lines of `tests/fixtures/cloudtrail/*/input.*`.

#![no_main]

use keytrail_normalize::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| keytrail_fuzz::record(Format::CloudTrail, bytes));
