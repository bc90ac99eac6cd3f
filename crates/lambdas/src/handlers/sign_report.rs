//! `sign-report`: signs the hash of a report with the log's key.

use keytrail_adapters::aws::Aws;
use keytrail_model::Fatal;
use keytrail_pipeline::report::steps;

use super::render_report::Rendered;
use super::weekly::{reporting, week};
use crate::trail::Locks;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct SignReport {
    trail: TrailPorts,
}

impl SignReport {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        Ok(Self { trail: TrailPorts::of(environment, &aws, Locks::None) })
    }
}

impl Handler for SignReport {
    type Event = Rendered;
    type Answer = Rendered;

    fn handle(&self, rendered: Rendered, _: &Call, line: &mut Line) -> Result<Rendered, Fatal> {
        let of = week(&rendered.week)?;
        let signature = reporting(&self.trail, |with, trail| steps::sign(with, trail, of, &rendered.sha256))?;
        line.field("week", rendered.week.as_str());
        line.field("signature", signature.as_str());
        Ok(Rendered { signature: Some(signature), ..rendered })
    }
}
