//! Whether two records say the same in JSON.

use std::collections::BTreeMap;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Equal as JSON values: order of members, whitespace and escapes do not count. Numbers are compared
/// as they are written, so that no two large numbers fall together; what is no JSON, or names a member
/// twice, equals nothing but the same bytes.
pub(crate) fn same_value(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    match (serde_json::from_slice(a), serde_json::from_slice(b)) {
        (Ok(a), Ok(b)) => same(a, b),
        _ => false,
    }
}

fn same(a: &RawValue, b: &RawValue) -> bool {
    let (a, b) = (a.get(), b.get());
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => match (members(a), members(b)) {
            (Some(a), Some(b)) => {
                a.len() == b.len() && a.iter().zip(&b).all(|((ka, va), (kb, vb))| ka == kb && same(va, vb))
            }
            _ => false,
        },
        (Some(b'['), Some(b'[')) => {
            match (serde_json::from_str::<Vec<&RawValue>>(a), serde_json::from_str::<Vec<&RawValue>>(b)) {
                (Ok(a), Ok(b)) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same(a, b)),
                _ => false,
            }
        }
        (Some(b'"'), Some(b'"')) => {
            match (serde_json::from_str::<String>(a), serde_json::from_str::<String>(b)) {
                (Ok(a), Ok(b)) => a == b,
                _ => false,
            }
        }
        _ => a == b,
    }
}

/// The members of an object by name; `None` when a name stands twice.
fn members(object: &str) -> Option<BTreeMap<String, &RawValue>> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Option<BTreeMap<String, &'de RawValue>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = BTreeMap::new();
            let mut once = true;
            while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                once &= members.insert(name, value).is_none();
            }
            Ok(once.then_some(members))
        }
    }

    serde_json::Deserializer::from_str(object).deserialize_map(Members).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::same_value;

    #[test]
    fn spelling_does_not_count_values_do() {
        assert!(same_value(br#"{"a":1,"b":["x"]}"#, b"{ \"b\" : [\"\\u0078\"], \"a\" : 1 }"));
        assert!(!same_value(br#"{"a":1}"#, br#"{"a":2}"#));
        assert!(!same_value(br#"{"a":[1,2]}"#, br#"{"a":[2,1]}"#));
        assert!(!same_value(br#"{"a":1}"#, br#"{"a":1,"b":null}"#));
    }

    #[test]
    fn large_numbers_do_not_fall_together() {
        assert!(!same_value(br#"{"n":10000000000000000000001}"#, br#"{"n":10000000000000000000002}"#));
        assert!(!same_value(br#"{"n":1e400}"#, br#"{"n":1e401}"#));
    }

    #[test]
    fn a_name_that_stands_twice_hides_nothing() {
        assert!(!same_value(br#"{"a":1,"a":2}"#, br#"{"a":2}"#));
        assert!(!same_value(br#"{"a":1,"a":2}"#, br#"{"a":1,"a":2 }"#));
    }

    #[test]
    fn no_json_equals_only_itself() {
        assert!(same_value(b"\xff", b"\xff"));
        assert!(!same_value(b"\xff", b"\xfe"));
    }
}
