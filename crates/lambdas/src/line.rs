//! The log line of an invocation: one JSON object, which CloudWatch reads as metrics too (embedded metric format).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::Call;

/// Namespace of all metrics.
const NAMESPACE: &str = "Keytrail";

/// Units of metrics, as CloudWatch has them.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// A number of something.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// What is said of an invocation.
#[derive(Default, Debug)]
pub struct Line {
    fields: Map<String, Value>,
    metrics: Vec<(&'static str, Unit, f64)>,
}

impl Line {
    /// A field that is no metric.
    pub fn field(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// A metric; its name is one of `infra/aws/README.md`.
    pub fn metric(&mut self, name: &'static str, unit: Unit, value: f64) {
        self.metrics.push((name, unit, value));
    }

    /// A metric that counts.
    pub fn count(&mut self, name: &'static str, value: u64) {
        self.metric(name, Unit::Count, value as f64);
    }

    /// How long ago a time was, microseconds since 1970.
    pub fn since(&mut self, name: &'static str, time: i64, now: i64) {
        self.metric(name, Unit::Seconds, (now.saturating_sub(time).max(0)) as f64 / 1e6);
    }

    /// The line.
    pub fn text(self, function: &str, environment: &str, call: &Call, error: Option<(&str, &str)>) -> String {
        let Self { fields, mut metrics } = self;
        if call.cold {
            metrics.push(("ColdStart", Unit::Count, 1.0));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let unit = |unit: Unit| format!("{unit:?}");
        let declared: Vec<Value> =
            metrics.iter().map(|(name, of, _)| json!({"Name": name, "Unit": unit(*of)})).collect();
        let mut all = Map::new();
        all.insert("level".into(), if error.is_some() { "error" } else { "info" }.into());
        all.insert("message".into(), "batch".into());
        all.insert("request_id".into(), call.request_id.as_str().into());
        all.insert("trace".into(), call.trace.as_deref().into());
        all.insert("cold_start".into(), call.cold.into());
        if let Some((code, why)) = error {
            all.insert("error".into(), code.into());
            all.insert("reason".into(), why.into());
        }
        all.extend(fields);
        all.insert("Function".into(), function.into());
        all.insert("Environment".into(), environment.into());
        if !declared.is_empty() {
            let directive = json!({
                "Namespace": NAMESPACE, "Dimensions": [["Function", "Environment"]], "Metrics": declared,
            });
            all.insert("_aws".into(), json!({"Timestamp": now, "CloudWatchMetrics": [directive]}));
            all.extend(metrics.into_iter().map(|(name, _, value)| (name.to_owned(), value.into())));
        }
        Value::Object(all).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_line_is_one_object_that_declares_its_metrics() {
        let mut line = Line::default();
        line.field("batch", "b\n1");
        line.count("RecordsAccepted", 3);
        line.since("SealLagSeconds", 0, 1_500_000);
        let call = Call { request_id: "r".into(), trace: None, deadline: Instant::now(), cold: true };
        let text = line.text("archive-events", "dev", &call, Some(("Retryable.Store", "down")));
        assert!(!text.contains('\n'));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["RecordsAccepted"], &value["SealLagSeconds"], &value["ColdStart"]),
            (&json!(3.0), &json!(1.5), &json!(1.0))
        );
        let directive = &value["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Dimensions"], json!([["Function", "Environment"]]));
        assert_eq!(directive["Metrics"][1], json!({"Name": "SealLagSeconds", "Unit": "Seconds"}));
        assert_eq!((&value["error"], &value["batch"]), (&json!("Retryable.Store"), &json!("b\n1")));
    }
}
