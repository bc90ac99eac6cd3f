//! Implementations of keytrail's ports, a module and a cargo feature each.
//!
//! What it is: `local` (a folder of this machine), `memory` (doubles for tests, one of which fails on
//! request), receivers of alerts, `command` (a program) and `webhook` (a web server), `elasticsearch` (a server of a
//! search index), `aws` (services of AWS), and `keys` (a trail's private keys). What it is not: it decides nothing; stages
//! do not know which one they talk to.
//! In: calls of `keytrail-ports`' traits. Out: their effects, or an error of the port.

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "command")]
pub mod command;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "elasticsearch")]
pub mod elasticsearch;
#[cfg(feature = "keys")]
pub mod keys;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "webhook")]
pub mod webhook;

/// Why a key names no object; `None` where it may. Keys are segments of `[A-Za-z0-9._=-]` with `/`
/// between them, never `.` or `..`, at most 255 bytes each and 1024 in all.
#[cfg(any(feature = "aws", feature = "local", feature = "memory"))]
fn key_fault(key: &str) -> Option<keytrail_ports::StoreError> {
    let good = |segment: &str| {
        (1..=255).contains(&segment.len())
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=-".contains(&b))
    };
    (key.len() > 1024 || !key.split('/').all(good)).then(|| {
        keytrail_ports::StoreError::Fatal(format!(
            "`{}` is no key: expected segments of letters, digits and `._=-` with `/` between them",
            key.escape_default()
        ))
    })
}
