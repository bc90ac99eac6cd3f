//! Any bytes as Kubernetes audit events. Seeds: the lines of `tests/fixtures/kubernetes/*/input.*`.

#![no_main]

use keytrail_normalize::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| keytrail_fuzz::record(Format::Kubernetes, bytes));
