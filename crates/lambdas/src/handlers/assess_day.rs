//! `assess-day`: folds a day of a week, so that its report finds it folded.

use keytrail_adapters::aws::Aws;
use keytrail_model::Fatal;
use keytrail_pipeline::report::steps;
use serde::{Deserialize, Serialize};

use super::weekly::reporting;
use crate::trail::Locks;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct AssessDay {
    trail: TrailPorts,
}

/// What it is called with.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    day: String,
}

/// What was folded.
#[derive(Debug, Serialize)]
pub struct Answer {
    day: String,
    rows: u64,
}

impl AssessDay {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        Ok(Self { trail: TrailPorts::of(environment, &aws, Locks::None) })
    }
}

impl Handler for AssessDay {
    type Event = Wanted;
    type Answer = Answer;

    fn handle(&self, wanted: Wanted, _: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let rows = reporting(&self.trail, |with, _| steps::assess(with, &wanted.day))?;
        line.field("day", wanted.day.as_str());
        line.count("RowsFolded", rows);
        Ok(Answer { day: wanted.day, rows })
    }
}
