//! What a CloudTrail trail records after a call that configures it, as far as keys are concerned.
//!
//! In: `requestParameters` of the record. Out: [`Configured`]. Sources: "Logging management events" of the
//! CloudTrail user guide, and `EventSelector`, `AdvancedEventSelector`, `AdvancedFieldSelector` and
//! `UpdateTrail` of its API reference. Selectors are put as a whole: what none of them selects is not
//! recorded from then on.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Management events of AWS KMS.
const KMS: &str = "kms.amazonaws.com";

/// What is read of a record.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, rename = "requestParameters")]
    parameters: Option<&'a RawValue>,
}

/// Parameters of the calls that configure trails and event data stores.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Parameters {
    name: Option<String>,
    trail_name: Option<String>,
    #[serde(rename = "trailARN")]
    trail_arn: Option<String>,
    event_data_store: Option<String>,
    channel: Option<String>,
    event_selectors: Option<Vec<Basic>>,
    advanced_event_selectors: Option<Vec<Advanced>>,
    enable_log_file_validation: Option<bool>,
    is_multi_region_trail: Option<bool>,
    include_global_service_events: Option<bool>,
    is_organization_trail: Option<bool>,
    cloud_watch_logs_log_group_arn: Option<String>,
    #[serde(alias = "kMSKeyId")]
    kms_key_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Basic {
    include_management_events: Option<bool>,
    read_write_type: Option<String>,
    exclude_management_event_sources: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Advanced {
    #[serde(default)]
    field_selectors: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Field {
    field: String,
    equals: Option<Vec<String>>,
    not_equals: Option<Vec<String>>,
    starts_with: Option<Vec<String>>,
    not_starts_with: Option<Vec<String>>,
    ends_with: Option<Vec<String>>,
    not_ends_with: Option<Vec<String>>,
}

impl Field {
    /// Whether a value passes: some of the positive lists' values, none of the negative ones'.
    fn takes(&self, value: &str) -> bool {
        let some = |list: &Option<Vec<String>>, test: &dyn Fn(&str) -> bool| {
            list.as_ref().map(|values| values.iter().any(|v| test(v)))
        };
        let (equals, starts, ends) =
            (|v: &str| value == v, |v: &str| value.starts_with(v), |v: &str| value.ends_with(v));
        let positive =
            [some(&self.equals, &equals), some(&self.starts_with, &starts), some(&self.ends_with, &ends)];
        let negative = [
            some(&self.not_equals, &equals),
            some(&self.not_starts_with, &starts),
            some(&self.not_ends_with, &ends),
        ];
        positive.into_iter().flatten().all(|found| found)
            && !negative.into_iter().flatten().any(|found| found)
    }
}

/// Which management events of KMS are recorded. `some`: with conditions that are not about reads and writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Recorded {
    reads: bool,
    writes: bool,
    some: bool,
    /// Management events of other services are recorded.
    others: bool,
    /// Those of the RDS Data API are left out.
    without_rds_data: bool,
}

impl Recorded {
    fn basic(selectors: &[Basic]) -> Self {
        let mut recorded = Self::default();
        for s in selectors.iter().filter(|s| s.include_management_events.unwrap_or(true)) {
            recorded.others = true;
            let excludes = |source: &str| {
                s.exclude_management_event_sources.iter().flatten().any(|e| e.eq_ignore_ascii_case(source))
            };
            recorded.without_rds_data |= excludes("rdsdata.amazonaws.com");
            if excludes(KMS) {
                continue;
            }
            let kind = s.read_write_type.as_deref().unwrap_or("All");
            recorded.reads |= kind != "WriteOnly";
            recorded.writes |= kind != "ReadOnly";
        }
        recorded
    }

    fn advanced(selectors: &[Advanced]) -> Self {
        let mut recorded = Self::default();
        for s in selectors {
            let takes = |name: &str, value: &str| {
                s.field_selectors.iter().filter(|f| f.field == name).all(|f| f.takes(value))
            };
            if !takes("eventCategory", "Management") {
                continue;
            }
            recorded.others = true;
            recorded.without_rds_data |= !takes("eventSource", "rdsdata.amazonaws.com");
            if !takes("eventSource", KMS) {
                continue;
            }
            let known = ["eventCategory", "eventSource", "readOnly"];
            if s.field_selectors.iter().any(|f| !known.contains(&f.field.as_str())) {
                recorded.some = true;
                continue;
            }
            recorded.reads |= takes("readOnly", "true");
            recorded.writes |= takes("readOnly", "false");
        }
        recorded
    }
}

/// What a call made of a trail or event data store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Configured {
    /// Its name or ARN, as the call has it.
    pub name: Option<String>,
    /// Events of KMS that are not recorded, in words; `true` where changes of keys are among them.
    pub excluded: Option<(&'static str, bool)>,
    /// What else is recorded or proven less, in words.
    pub weakened: Vec<&'static str>,
}

/// Reads the call `action` of a record. What cannot be read counts as excluding: a call with so many
/// parameters that CloudTrail leaves them out must not go by unseen.
pub(super) fn configured(action: &str, original: Option<&[u8]>) -> Configured {
    let sets_selectors = matches!(action, "PutEventSelectors");
    let unread = Configured {
        excluded: sets_selectors.then_some(("what it selects cannot be read from the record", false)),
        ..Configured::default()
    };
    let parameters = original
        .and_then(|bytes| serde_json::from_slice::<Record<'_>>(bytes).ok())
        .and_then(|record| serde_json::from_str::<Parameters>(record.parameters?.get()).ok());
    let Some(p) = parameters else { return unread };
    let recorded = match (&p.event_selectors, &p.advanced_event_selectors) {
        (Some(basic), _) if !basic.is_empty() => Some(Recorded::basic(basic)),
        (_, Some(advanced)) => Some(Recorded::advanced(advanced)),
        (basic, None) => basic.as_ref().map(|_| Recorded::default()),
    };
    let mut out = Configured {
        name: [p.name, p.trail_name, p.trail_arn, p.event_data_store, p.channel].into_iter().flatten().next(),
        ..Configured::default()
    };
    match (action, recorded) {
        ("PutEventSelectors", None) => out.excluded = unread.excluded,
        ("PutEventSelectors", Some(recorded)) => {
            out.excluded = excluded(recorded);
            if out.excluded.is_none() && recorded.without_rds_data {
                out.weakened.push("events of the RDS Data API are excluded");
            }
        }
        // A store may be for data events alone, and has then never recorded what KMS does.
        ("UpdateEventDataStore", Some(recorded)) if recorded.others => out.excluded = excluded(recorded),
        ("UpdateTrail", _) => {
            let off = |flag: Option<bool>, what| (flag == Some(false)).then_some(what);
            let gone = |text: &Option<String>, what| text.as_ref().filter(|t| t.is_empty()).map(|_| what);
            out.weakened.extend(
                [
                    off(p.enable_log_file_validation, "log file validation is off"),
                    off(p.is_multi_region_trail, "other regions are not recorded"),
                    off(p.include_global_service_events, "global services are not recorded"),
                    off(p.is_organization_trail, "other accounts of the organization are not recorded"),
                    gone(&p.cloud_watch_logs_log_group_arn, "nothing goes to CloudWatch Logs any more"),
                    gone(&p.kms_key_id, "log files are no longer encrypted with a KMS key"),
                ]
                .into_iter()
                .flatten(),
            );
        }
        _ => {}
    }
    out
}

fn excluded(recorded: Recorded) -> Option<(&'static str, bool)> {
    match (recorded.reads, recorded.writes) {
        (true, true) => None,
        _ if !recorded.others => Some(("no management events are recorded", true)),
        (false, false) if recorded.some => Some(("only some management events of KMS are recorded", true)),
        (false, false) => Some(("no management events of KMS are recorded", true)),
        (true, false) => Some(("changes of keys are not recorded", true)),
        (false, true) => Some(("uses of keys are not recorded, only changes", false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(action: &str, parameters: &str) -> Configured {
        let record = format!(r#"{{"eventName":"{action}","requestParameters":{parameters}}}"#);
        configured(action, Some(record.as_bytes()))
    }

    fn put(selectors: &str) -> Option<(&'static str, bool)> {
        let found = of("PutEventSelectors", &format!(r#"{{"trailName":"t",{selectors}}}"#));
        assert_eq!(found.name.as_deref(), Some("t"));
        found.excluded
    }

    #[test]
    fn basic_selectors() {
        for (selectors, want) in [
            (r#"[{"readWriteType":"All","includeManagementEvents":true}]"#, None),
            (r#"[{"excludeManagementEventSources":[]}]"#, None),
            (
                r#"[{"excludeManagementEventSources":["kms.amazonaws.com"]}]"#,
                Some(("no management events of KMS are recorded", true)),
            ),
            (r#"[{"includeManagementEvents":false}]"#, Some(("no management events are recorded", true))),
            (r#"[]"#, Some(("no management events are recorded", true))),
            (
                r#"[{"readWriteType":"WriteOnly"}]"#,
                Some(("uses of keys are not recorded, only changes", false)),
            ),
            (r#"[{"readWriteType":"ReadOnly"}]"#, Some(("changes of keys are not recorded", true))),
            // Selectors add up.
            (r#"[{"readWriteType":"ReadOnly"},{"readWriteType":"WriteOnly"}]"#, None),
            (r#"[{"includeManagementEvents":false},{}]"#, None),
        ] {
            assert_eq!(put(&format!(r#""eventSelectors":{selectors}"#)), want, "{selectors}");
        }
        let rds = r#"{"trailName":"t","eventSelectors":[{"excludeManagementEventSources":["rdsdata.amazonaws.com"]}]}"#;
        let found = of("PutEventSelectors", rds);
        assert_eq!((found.excluded, found.weakened), (None, vec!["events of the RDS Data API are excluded"]));
    }

    #[test]
    fn advanced_selectors() {
        let management = r#"{"field":"eventCategory","equals":["Management"]}"#;
        for (fields, want) in [
            (String::new(), None),
            (r#",{"field":"eventSource","notEquals":["rdsdata.amazonaws.com"]}"#.into(), None),
            (
                r#",{"field":"eventSource","notEquals":["kms.amazonaws.com","rdsdata.amazonaws.com"]}"#
                    .into(),
                Some(("no management events of KMS are recorded", true)),
            ),
            (
                r#",{"field":"eventSource","equals":["s3.amazonaws.com"]}"#.into(),
                Some(("no management events of KMS are recorded", true)),
            ),
            (
                r#",{"field":"eventSource","notStartsWith":["kms"]}"#.into(),
                Some(("no management events of KMS are recorded", true)),
            ),
            (
                r#",{"field":"readOnly","equals":["false"]}"#.into(),
                Some(("uses of keys are not recorded, only changes", false)),
            ),
            (
                r#",{"field":"readOnly","equals":["true"]}"#.into(),
                Some(("changes of keys are not recorded", true)),
            ),
            (
                r#",{"field":"userIdentity.arn","notEquals":["arn:aws:iam::1:role/me"]}"#.into(),
                Some(("only some management events of KMS are recorded", true)),
            ),
        ] as [(String, _); 8]
        {
            let selectors = format!(
                r#""advancedEventSelectors":[{{"name":"n","fieldSelectors":[{management}{fields}]}}]"#
            );
            assert_eq!(put(&selectors), want, "{selectors}");
        }
        let data =
            r#""advancedEventSelectors":[{"fieldSelectors":[{"field":"eventCategory","equals":["Data"]}]}]"#;
        assert_eq!(put(data), Some(("no management events are recorded", true)));
        let store = |fields: &str| {
            of(
                "UpdateEventDataStore",
                &format!(
                    r#"{{"eventDataStore":"arn:eds","advancedEventSelectors":[{{"fieldSelectors":[{fields}]}}]}}"#
                ),
            )
        };
        assert_eq!(store(r#"{"field":"eventCategory","equals":["Data"]}"#).excluded, None);
        let without = format!(r#"{management},{{"field":"eventSource","notEquals":["kms.amazonaws.com"]}}"#);
        assert_eq!(store(&without).excluded, Some(("no management events of KMS are recorded", true)));
    }

    #[test]
    fn trails_can_be_weakened() {
        let found = of(
            "UpdateTrail",
            r#"{"name":"t","enableLogFileValidation":false,"isMultiRegionTrail":true,"kmsKeyId":""}"#,
        );
        assert_eq!(
            found.weakened,
            ["log file validation is off", "log files are no longer encrypted with a KMS key"]
        );
        assert_eq!(of("UpdateTrail", r#"{"name":"t","s3BucketName":"b"}"#).weakened, [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_does_not_go_by() {
        let unread = Some(("what it selects cannot be read from the record", false));
        assert_eq!(configured("PutEventSelectors", None).excluded, unread);
        assert_eq!(configured("PutEventSelectors", Some(b"\xff")).excluded, unread);
        for parameters in ["null", r#"{"omitted":true}"#, r#"{"eventSelectors":7}"#] {
            assert_eq!(of("PutEventSelectors", parameters).excluded, unread, "{parameters}");
        }
        assert_eq!(of("StopLogging", "null"), Configured::default());
    }
}
