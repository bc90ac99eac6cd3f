//! What stands around the records of a document: arrays, and the objects that sources deliver records in.

use memchr::{memchr, memchr2};

use super::first_keys::Look;
use super::scanner::{MAX_GAP, Scanner, Step};
use super::{is_space, trim_separators, trim_start};

/// How far into an object its container key is looked for, and how long what stands beside it may be.
const LOOK_BYTES: usize = 4096;

/// What stands around records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Container {
    /// A log file of CloudTrail or Azure, or an answer of LookupEvents or Cloud Logging.
    Object,
    /// An EventList of Kubernetes.
    EventList,
    Array,
}

/// A key of a container object, with the bytes up to where reading goes on.
pub(super) enum Key {
    /// Behind the `[` of the array of records.
    Records(usize),
    /// Behind a value that says nothing of the records.
    Beside(usize),
}

/// What the value of a container's key is; any other value is kept as a bad frame.
#[derive(Clone, Copy)]
enum Holds {
    Records,
    /// Where the next page begins: a plain string or `null`.
    Token,
    /// `EventList`.
    Kind,
    /// A version of the audit API of Kubernetes.
    ApiVersion,
    /// An empty object, or `null`.
    Nothing,
}

/// The keys of container objects.
const KEYS: [(Container, &[u8], Holds); 10] = [
    (Container::Object, b"\"Records\"", Holds::Records),
    (Container::Object, b"\"records\"", Holds::Records),
    (Container::Object, b"\"Events\"", Holds::Records),
    (Container::Object, b"\"entries\"", Holds::Records),
    (Container::Object, b"\"NextToken\"", Holds::Token),
    (Container::Object, b"\"nextPageToken\"", Holds::Token),
    (Container::EventList, b"\"items\"", Holds::Records),
    (Container::EventList, b"\"kind\"", Holds::Kind),
    (Container::EventList, b"\"apiVersion\"", Holds::ApiVersion),
    (Container::EventList, b"\"metadata\"", Holds::Nothing),
];

/// Whether `bytes` start with a key of a container, before a value of its kind.
pub(super) fn key_of(bytes: &[u8], eof: bool) -> Look<(Container, Key)> {
    let short = if eof || bytes.len() >= LOOK_BYTES { Look::No } else { Look::More };
    let bytes = &bytes[..bytes.len().min(LOOK_BYTES)];
    let Some((container, name, holds)) = KEYS.iter().find(|(_, name, _)| bytes.starts_with(name)) else {
        return if KEYS.iter().any(|(_, name, _)| name.starts_with(bytes)) { short } else { Look::No };
    };
    let start = match after_colon(bytes, name.len()) {
        Look::Yes(at) => at,
        Look::No => return Look::No,
        Look::More => return short,
    };
    match (holds, bytes[start]) {
        (Holds::Records, b'[') => return Look::Yes((*container, Key::Records(start + 1))),
        (Holds::Nothing, b'{' | b'n') | (Holds::Token | Holds::Kind | Holds::ApiVersion, b'"' | b'n') => {}
        _ => return Look::No,
    }
    match Scanner::loose().advance(bytes, start, start) {
        Step::End(end) if holds.fits(trim_separators(&bytes[start..end])) => {
            Look::Yes((*container, Key::Beside(end)))
        }
        Step::More => short,
        _ => Look::No,
    }
}

impl Holds {
    /// Whether a value, without what separates it from the next, is one of these.
    fn fits(self, value: &[u8]) -> bool {
        match self {
            Self::Records => false,
            Self::Token => is_token(value),
            Self::Kind => value == b"\"EventList\"",
            Self::ApiVersion => value.starts_with(b"\"audit.k8s.io/") && is_token(value),
            Self::Nothing => value == b"null" || value.iter().filter(|b| !is_space(**b)).eq(b"{}"),
        }
    }
}

/// A plain string or `null`.
fn is_token(value: &[u8]) -> bool {
    let quoted = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
    value == b"null" || quoted.is_some_and(|token| memchr2(b'"', b'\\', token).is_none())
}

/// Index of the first byte of the value behind a key that ends at `at`.
fn after_colon(bytes: &[u8], at: usize) -> Look<usize> {
    let colon = trim_start(&bytes[at..]);
    match colon.first() {
        None => return Look::More,
        Some(b':') => {}
        Some(_) => return Look::No,
    }
    let value = trim_start(&colon[1..]);
    if value.is_empty() { Look::More } else { Look::Yes(bytes.len() - value.len()) }
}

/// Whether the object that `bytes` start with holds records, and as what: one of its keys is a
/// container's, and only scalars stand before it, or in an EventList what says that it is one.
pub(super) fn is_container(bytes: &[u8], eof: bool) -> Look<Container> {
    let short = if eof || bytes.len() >= LOOK_BYTES { Look::No } else { Look::More };
    let bytes = &bytes[..bytes.len().min(LOOK_BYTES)];
    let whole = eof || bytes.len() >= LOOK_BYTES;
    let (mut at, mut is_list) = (1, false);
    loop {
        at = bytes.len() - trim_start(&bytes[at..]).len();
        match bytes.get(at) {
            None => return short,
            Some(b'"') => {}
            Some(_) => return Look::No,
        }
        let mut known = false;
        match key_of(&bytes[at..], whole) {
            Look::Yes((container, Key::Records(_))) if container == Container::Object || is_list => {
                return Look::Yes(container);
            }
            Look::More => return Look::More,
            Look::Yes((container, Key::Beside(_))) => known = container == Container::EventList,
            // An object of another kind, such as an event itself, which need not be looked through.
            Look::No if bytes[at..].starts_with(b"\"kind\"") => return Look::No,
            Look::Yes(_) | Look::No => {}
        }
        let Some(n) = memchr(b'"', &bytes[at + 1..]) else { return short };
        match after_colon(bytes, at + n + 2) {
            Look::Yes(value) if matches!(bytes[value], b'{' | b'[') && !is_list => return Look::No,
            Look::Yes(value) => is_list |= known && bytes[value] == b'"',
            Look::No => return Look::No,
            Look::More => return short,
        }
        match Scanner::loose().advance(bytes, at, at) {
            Step::End(end) if bytes[end] == b',' => at = end + 1,
            Step::More => return short,
            Step::End(_) | Step::Broken { .. } => return Look::No,
        }
    }
}

/// Whether a `[` opens an array, rather than some text: what may follow it in one.
pub(super) fn is_array(bytes: &[u8], eof: bool) -> Look<()> {
    let rest = trim_start(&bytes[1..]);
    match rest.first() {
        _ if bytes.len() - rest.len() > MAX_GAP => Look::Yes(()),
        None if eof => Look::Yes(()),
        None => Look::More,
        Some(b'{' | b'[' | b']' | b'"' | b'-' | b'0'..=b'9') => Look::Yes(()),
        Some(_) => Look::No,
    }
}
