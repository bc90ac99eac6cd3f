//! How an index begins and ends.
//!
//! What it is: the body that makes an index, and the lifecycle policy that a server deletes it by. An index ages by
//! its events' own time, not by the day on which it was made: last year's log, loaded today, is a year old.

use std::time::Duration;

use serde_json::{Value, json};

use crate::layout::Layout;
use crate::mapping::Target;
use crate::name::{IndexName, Namespace};

const MILLISECONDS_A_DAY: i64 = 86_400_000;

/// The name of the lifecycle policy of a namespace's indices.
pub fn policy_name(namespace: &Namespace) -> String {
    format!("keytrail-{namespace}")
}

/// A lifecycle policy (ILM) that deletes an index once all of its events are older than `retention`.
pub fn policy(retention: Duration) -> Value {
    json!({"policy": {
        "phases": {
            "hot": {"min_age": "0ms", "actions": {}},
            "delete": {"min_age": format!("{}s", retention.as_secs()), "actions": {"delete": {}}},
        },
        "_meta": {"managed_by": "keytrail"},
    }})
}

/// The body that makes an index; what else it has comes from templates. Its age begins at the end of its time:
/// nothing in it is older. `policy` is the lifecycle policy that it has.
pub fn creation(name: &IndexName, layout: Layout, target: Target, policy: Option<&str>) -> Value {
    let mut index = json!({"number_of_shards": layout.shards});
    if let (Target::Elasticsearch, Some((_, days))) = (target, name.time()) {
        index["lifecycle"] = json!({"origination_date": days.end * MILLISECONDS_A_DAY});
        if let Some(policy) = policy {
            index["lifecycle"]["name"] = policy.into();
        }
    }
    json!({"settings": {"index": index}})
}

#[cfg(test)]
mod tests {
    use keytrail_model::Day;

    use super::*;
    use crate::name::Period;

    #[test]
    fn an_index_ages_from_the_end_of_its_time() {
        let day = Day::parse("2023-07-10").expect("a day");
        let name = |day| IndexName::of("vault.audit", &Namespace::default(), Period::Month, day);
        let layout = Layout { shards: 3, ..Layout::default() };
        let of =
            |day, target, policy| creation(&name(day), layout, target, policy)["settings"]["index"].clone();
        assert_eq!(
            of(day, Target::Elasticsearch, Some("keytrail-default")),
            // 2023-08-01T00:00:00Z
            json!({"number_of_shards": 3, "lifecycle": {"origination_date": 1_690_848_000_000_i64, "name": "keytrail-default"}})
        );
        let plain = json!({"number_of_shards": 3});
        assert_eq!(of(Day::Undated, Target::Elasticsearch, Some("keytrail-default")), plain);
        assert_eq!(of(day, Target::OpenSearch, None), plain, "it knows no such setting");
    }
}
