//! Files of `state/` that are believed: JSON and a tag.
//!
//! What it is: the form of what can be made again and would mislead us, were it somebody else's. What it is not: proof
//! of anything. In: a value. Out: a line of JSON, then a line with the HMAC-SHA-256 over a domain and the first line,
//! under the trail's mask key, in hexadecimal.

use keytrail_model::{Fatal, Hash};
use keytrail_normalize::Masker;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The file of a value.
pub(crate) fn write(masker: &Masker, domain: &[u8], value: &impl Serialize) -> Result<Vec<u8>, Fatal> {
    let mut bytes = serde_json::to_vec(value)
        .map_err(|e| Fatal::new("Fatal.Internal", format!("state cannot be written: {e}")))?;
    bytes.push(b'\n');
    let mut tagger = masker.tagger(domain);
    tagger.update(&bytes);
    bytes.extend(Hash(tagger.finish()).to_hex().bytes());
    bytes.push(b'\n');
    Ok(bytes)
}

/// The value of a file; `Err` says why it is not believed.
pub(crate) fn read<T: DeserializeOwned>(masker: &Masker, domain: &[u8], bytes: &[u8]) -> Result<T, String> {
    let broken = || "expected a line of JSON and a line with its tag".to_owned();
    let end = memchr::memchr(b'\n', bytes).ok_or_else(broken)? + 1;
    let (json, tag) = bytes.split_at(end);
    let tag =
        std::str::from_utf8(tag).ok().and_then(|t| Hash::from_hex(t.trim_ascii_end())).ok_or_else(broken)?;
    let mut tagger = masker.tagger(domain);
    tagger.update(json);
    if !tagger.matches(&tag.0) {
        return Err("they are not tagged by this trail's key".to_owned());
    }
    serde_json::from_slice(json).map_err(|e| e.to_string())
}
