//! `freeze-week`: fixes the head of the log that the next report is of.

use keytrail_adapters::aws::Aws;
use keytrail_model::Fatal;
use keytrail_pipeline::report::steps;
use serde::{Deserialize, Serialize};

use super::weekly::{reporting, week};
use crate::trail::Locks;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct FreezeWeek {
    trail: TrailPorts,
}

/// What it is called with.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// A week; without it the oldest that is due.
    #[serde(default)]
    week: Option<String>,
}

/// The week whose report is due; none: nothing is.
#[derive(Debug, Serialize)]
pub struct Answer {
    week: Option<String>,
    /// Entries of the log that the report is of.
    size: u64,
    /// Its days with events.
    days: Vec<String>,
}

impl FreezeWeek {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        Ok(Self { trail: TrailPorts::of(environment, &aws, Locks::Kept) })
    }
}

impl Handler for FreezeWeek {
    type Event = Wanted;
    type Answer = Answer;

    fn handle(&self, wanted: Wanted, _: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let wanted = wanted.week.as_deref().map(week).transpose()?;
        let frozen = reporting(&self.trail, |with, _| steps::freeze(with, wanted))?;
        let answer = match frozen {
            Some(frozen) => {
                Answer { week: Some(frozen.week.to_string()), size: frozen.size, days: frozen.days }
            }
            None => Answer { week: None, size: 0, days: Vec::new() },
        };
        line.field("week", answer.week.as_deref());
        Ok(answer)
    }
}
