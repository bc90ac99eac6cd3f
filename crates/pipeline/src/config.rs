//! `keytrail.toml`: what is expected to be heard, and how a service runs.
//!
//! What it is: text to a checked [`Config`], or every problem in it at once, each with its line, its key and
//! what was expected. What it is not: it opens no file but those that a location names, and only when asked.
//! In: the text of the file and the folder that it lies in. Out: [`Config`] or [`Problem`]s; [`template`].
//!
//! A part of the file is a module below this one. It has a struct of typed values, `read`, which asks a
//! [`Section`] for each of its keys, and `TEMPLATE`, its part of what `keytrail config init` writes. [`Config`]
//! has a field for it, `Config::read` a line, and [`template`] another one. What nobody asks for is an
//! unknown key.

pub mod alerts;
mod follow;
mod index;
pub mod location;
mod reports;
mod retention;
pub mod source;
mod tables;

use std::path::Path;
use std::sync::Arc;

pub use alerts::{DeclaredReceiver, Target};
pub use follow::{Following, Listen};
pub use index::DeclaredIndex;
pub use keytrail_ports::section::{Problem, Section, Text, duration, duration_text};
pub use location::Location;
pub use reports::Reports;
pub use source::{DeclaredSource, claim};
pub use tables::DeclaredTable;

use crate::alerts::Options;
use crate::expire::Rule;
use crate::holds::Hold;

/// The name of the file where none is given.
pub const FILE: &str = "keytrail.toml";

/// What `keytrail.toml` says; all defaults where there is none.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    /// `[[sources]]`: what is expected to be heard.
    pub sources: Vec<Arc<DeclaredSource>>,
    /// `[[tables]]`: what new events are enriched with.
    pub tables: Vec<DeclaredTable>,
    /// `[follow]`: how a service goes about it.
    pub follow: Following,
    /// `[metrics]`: where it serves them.
    pub metrics: Listen,
    /// `[alerts]`: what is alerted.
    pub alerts: Options,
    /// `[[notify]]`: who is told.
    pub notify: Vec<DeclaredReceiver>,
    /// `[[retention]]`: how long events are kept.
    pub retention: Vec<Rule>,
    /// `[[holds]]`: what is kept longer.
    pub holds: Vec<Hold>,
    /// `[reports]`: the weekly reports.
    pub reports: Reports,
    /// `[index]`: the search index that follows the archive.
    pub index: DeclaredIndex,
}

impl Config {
    /// Reads the text of a file in `folder`, to which its relative paths lead.
    ///
    /// # Errors
    /// All problems, in the order of their lines.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Problem>> {
        keytrail_ports::section::read(text, |top| Self::read(top, folder))
    }

    fn read(top: &mut Section<'_, '_>, folder: &Path) -> Self {
        Self {
            sources: source::read(top, folder),
            tables: tables::read(top, folder),
            follow: follow::following(top),
            metrics: follow::listen(top),
            alerts: alerts::options(top),
            notify: alerts::receivers(top, folder),
            retention: retention::rules(top),
            holds: retention::holds(top),
            reports: reports::read(top),
            index: index::read(top, folder),
        }
    }
}

/// A file with every key, commented out: `# ` before what is said, `#` before what can be used.
pub fn template() -> String {
    let parts = [
        source::TEMPLATE,
        tables::TEMPLATE,
        follow::TEMPLATE,
        alerts::TEMPLATE,
        retention::TEMPLATE,
        reports::TEMPLATE,
        index::TEMPLATE,
    ];
    HEAD.to_owned() + &parts.concat()
}

const HEAD: &str = "\
# keytrail.toml: what is expected to be heard, and how keytrail runs. Everything here can be left out;
# what is commented out shows a default, or an example where it says so. `keytrail config check` checks it.
# Relative paths lead from the folder of this file. Durations are numbers with ms, s, m, h or d, as in 15m.
";

#[cfg(test)]
mod tests;
