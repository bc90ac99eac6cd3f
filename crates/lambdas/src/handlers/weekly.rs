//! What the steps of a weekly report share.

use keytrail_model::Fatal;
use keytrail_pipeline::report::{Folded, Reporting, Week};
use keytrail_pipeline::{Config, Trail};

use crate::TrailPorts;

struct Quiet;

impl Folded for Quiet {
    fn day(&self, _: &str, _: u64) {}
}

/// Calls `with` with what reports are made of, at the newest head.
pub fn reporting<T>(
    ports: &TrailPorts,
    with: impl FnOnce(&Reporting<'_>, &Trail<'_>) -> Result<T, Fatal>,
) -> Result<T, Fatal> {
    ports.with(|trail, config: &Config| {
        let keys = ports.log_keys(trail)?;
        let (checkpoint, note) = ports.head(&keys)?;
        let reporting = Reporting {
            store: trail.store,
            masker: Some(trail.masker),
            keys,
            checkpoint,
            note,
            sources: &config.sources,
            tables: trail.tables,
            verified: None,
            threads: ports.options().ingest.threads,
            now: trail.clock.now(),
            told: &Quiet,
        };
        with(&reporting, trail)
    })
}

/// Reads a week.
pub fn week(text: &str) -> Result<Week, Fatal> {
    Week::parse(text)
        .ok_or_else(|| Fatal::new("Fatal.Input", format!("`{text}` is no week, expected one as 2023-W28")))
}
