//! Any bytes as Azure Key Vault events. Seeds: the lines of `tests/fixtures/keyvault/*/input.*`.

#![no_main]

use keytrail_normalize::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| keytrail_fuzz::record(Format::KeyVault, bytes));
