//! `render-report`: the report of a verified week, as JSON and as a page.

use keytrail_adapters::aws::Aws;
use keytrail_model::Fatal;
use keytrail_pipeline::report::{Made, Status, steps};
use serde::{Deserialize, Serialize};

use super::weekly::{reporting, week};
use crate::trail::Locks;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct RenderReport {
    trail: TrailPorts,
}

/// What it is called with.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    week: String,
}

/// A report that is there: its files are keys of the trail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rendered {
    /// ISO week.
    pub week: String,
    /// `final` or `amendment`.
    pub status: String,
    /// SHA-256 of `report.json`.
    pub sha256: String,
    /// `report.json`.
    pub json: String,
    /// The page.
    pub html: String,
    /// The signature, once it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Rendered {
    pub(super) fn of(made: &Made) -> Self {
        let status = match made.status {
            Status::Final => "final",
            Status::Amendment => "amendment",
            Status::Provisional => "provisional",
        };
        Self {
            week: made.report.week.clone(),
            status: status.to_owned(),
            sha256: made.report.sha256.clone(),
            json: made.place.file("json"),
            html: made.place.file("html"),
            signature: None,
        }
    }
}

impl RenderReport {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        Ok(Self { trail: TrailPorts::of(environment, &aws, Locks::Kept) })
    }
}

impl Handler for RenderReport {
    type Event = Wanted;
    type Answer = Rendered;

    fn handle(&self, wanted: Wanted, _: &Call, line: &mut Line) -> Result<Rendered, Fatal> {
        let of = week(&wanted.week)?;
        let made = reporting(&self.trail, |with, _| steps::render(with, of))?;
        line.field("week", wanted.week);
        line.field("sha256", made.report.sha256.as_str());
        Ok(Rendered::of(&made))
    }
}
