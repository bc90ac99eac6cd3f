//! `publish-alerts`: what the rules of alerts find in what is sealed, and silent sources, to a topic of SNS.

use std::sync::Arc;
use std::time::Duration;

use keytrail_adapters::aws::Aws;
use keytrail_model::Fatal;
use keytrail_pipeline::alerts::{Engine, Place, Receiver, Severity};
use keytrail_pipeline::config::duration_text;
use keytrail_pipeline::sources::heard;
use keytrail_ports::Notifier;
use serde::Serialize;

use super::Nothing;
use crate::trail::Locks;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// How long is waited for SNS.
const WAIT: Duration = Duration::from_secs(20);

/// The function.
pub struct PublishAlerts {
    trail: TrailPorts,
    topic: String,
    notifier: Arc<dyn Notifier>,
}

/// What was told.
#[derive(Debug, Serialize)]
pub struct Told {
    /// Alerts that wait.
    waiting: u64,
}

impl PublishAlerts {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        let topic = environment.text("KEYTRAIL_TOPIC", "the ARN of a topic");
        let notifier = Arc::new(aws.topic(&topic));
        Ok(Self { trail: TrailPorts::of(environment, &aws, Locks::None), topic, notifier })
    }
}

impl Handler for PublishAlerts {
    type Event = Nothing;
    type Answer = Told;

    fn handle(&self, _: Nothing, _: &Call, line: &mut Line) -> Result<Told, Fatal> {
        self.trail.with(|trail, config| {
            let Some(head) = trail.log().published()? else { return Ok(Told { waiting: 0 }) };
            let place = Place { trail: trail.origin.to_owned(), data: self.trail.place.clone() };
            let notifier = Arc::clone(&self.notifier);
            let mut receivers = vec![Receiver::new(&self.topic, "topic of SNS", Severity::Low, notifier)];
            let mut engine = Engine::open(trail, config.alerts.clone(), place, &mut receivers, head.size)?;
            engine.sealed(trail, head.size)?;
            // To look for silence can take long: what is known is told first.
            engine.deliver(trail, WAIT)?;
            if config.sources.iter().any(|source| source.longest_silence.is_some()) {
                let now = trail.clock.now();
                for account in heard(trail, &config.sources)? {
                    if let Some(longest) = account.longest_silence.filter(|_| account.is_overdue(now)) {
                        let last = account.last_heard.map(|t| t.0);
                        engine.silent(trail, &account.name, last, &duration_text(longest))?;
                    }
                }
            }
            let undelivered = engine.deliver(trail, WAIT)?;
            let waiting = undelivered.iter().map(|u| u.alerts).sum();
            line.count("AlertsWaiting", waiting);
            match undelivered.into_iter().find(|u| !u.error.is_empty()) {
                Some(u) => Err(Fatal::new("Retryable.Notify", u.error)),
                None => Ok(Told { waiting }),
            }
        })
    }
}
