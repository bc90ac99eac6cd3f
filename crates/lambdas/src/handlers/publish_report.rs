//! `publish-report`: a report's files to the bucket of reports, and its digest to a topic of SNS.

use std::sync::Arc;

use keytrail_adapters::aws::{Aws, SnsTopic};
use keytrail_model::{Fatal, Hash};
use keytrail_pipeline::report::steps;
use keytrail_ports::BlobStore;
use serde::Serialize;

use super::render_report::Rendered;
use super::to_json;
use crate::{Call, Environment, Handler, Line};

/// The function.
pub struct PublishReport {
    trail: Arc<dyn BlobStore>,
    reports: Arc<dyn BlobStore>,
    /// Where reports are, for people.
    place: String,
    topic: SnsTopic,
}

/// What was published.
#[derive(Debug, Serialize)]
pub struct Answer {
    week: String,
    message_id: String,
    /// Files.
    copied: u64,
}

/// What the topic is told.
#[derive(Serialize)]
struct Digest<'a> {
    week: &'a str,
    status: &'a str,
    /// SHA-256 of `report.json`.
    sha256: &'a str,
    json: String,
    html: String,
    signature: Option<String>,
}

impl PublishReport {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        let (data, reports) = (environment.s3("KEYTRAIL_DATA"), environment.s3("KEYTRAIL_REPORTS"));
        let topic = environment.text("KEYTRAIL_REPORT_TOPIC", "the ARN of a topic");
        Ok(Self {
            trail: Arc::new(aws.store(&data.bucket, &data.key)),
            reports: Arc::new(aws.store(&reports.bucket, &reports.key)),
            place: format!("s3://{}/{}", reports.bucket, reports.below("")),
            topic: aws.topic(&topic),
        })
    }
}

impl Handler for PublishReport {
    type Event = Rendered;
    type Answer = Answer;

    fn handle(&self, report: Rendered, _: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let keys = [Some(&report.json), Some(&report.html), report.signature.as_ref()];
        let mut copied = 0;
        for key in keys.into_iter().flatten() {
            let bytes = self.trail.get(key)?;
            let bytes = bytes.ok_or_else(|| Fatal::new("Fatal.Reports", format!("`{key}` is not there")))?;
            if *key == report.json && Hash::of(&bytes).to_string() != report.sha256 {
                return Err(Fatal::new("Fatal.ReportDiffers", format!("`{key}` is not what was rendered")));
            }
            self.reports.replace(key, &bytes)?;
            copied += 1;
        }
        let at = |key: &str| format!("{}{key}", self.place);
        let digest = to_json(&Digest {
            week: &report.week,
            status: &report.status,
            sha256: &report.sha256,
            json: at(&report.json),
            html: at(&report.html),
            signature: report.signature.as_deref().map(at),
        })?;
        let subject = format!("keytrail report {} ({})", report.week, report.status);
        let message_id = self.topic.publish(&subject, &digest).map_err(|e| {
            Fatal::new(
                if e.code() == "Fatal.Store" { "Fatal.Store" } else { "Retryable.Notify" },
                e.to_string(),
            )
        })?;
        steps::published(&*self.trail, &report.json)?;
        line.field("week", report.week.as_str());
        line.field("message_id", message_id.as_str());
        Ok(Answer { week: report.week, message_id, copied })
    }
}
