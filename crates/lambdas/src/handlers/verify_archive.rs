//! `verify-archive`: verifies a frozen week, and fixes what its report is a function of.

use keytrail_adapters::aws::Aws;
use keytrail_model::Fatal;
use keytrail_pipeline::report::steps;
use serde::{Deserialize, Serialize};

use super::weekly::{reporting, week};
use crate::trail::Locks;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct VerifyArchive {
    trail: TrailPorts,
}

/// What it is called with: what `freeze-week` answered.
#[derive(Debug, Deserialize)]
pub struct Frozen {
    week: String,
    size: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Answer {
    week: String,
    size: u64,
    /// Nothing but what sources sent, or what was decided.
    good: bool,
    findings: u64,
}

impl VerifyArchive {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        Ok(Self { trail: TrailPorts::of(environment, &aws, Locks::None) })
    }
}

impl Handler for VerifyArchive {
    type Event = Frozen;
    type Answer = Answer;

    fn handle(&self, frozen: Frozen, _: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let of = week(&frozen.week)?;
        let (good, findings) = reporting(&self.trail, |with, _| steps::verify(with, of))?;
        line.field("week", frozen.week.as_str());
        line.count("Findings", findings);
        Ok(Answer { week: frozen.week, size: frozen.size, good, findings })
    }
}
