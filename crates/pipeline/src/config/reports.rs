//! `[reports]`: whether `keytrail run` writes reports.

use keytrail_ports::section::Section;

/// Its part of the template.
pub const TEMPLATE: &str = r#"
# Weekly reports, in reports/ of the data folder.
#
# write  `keytrail run` writes those of weeks that ended 36 hours ago, and amendments [default: true]
#[reports]
#write = true
"#;

/// What is configured of reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reports {
    /// `run` writes those that are due.
    pub write: bool,
}

impl Default for Reports {
    fn default() -> Self {
        Self { write: true }
    }
}

/// Reads it.
pub(super) fn read(top: &mut Section<'_, '_>) -> Reports {
    let write = top.section("reports", |section| section.flag("write"));
    write.map_or_else(Reports::default, |write| Reports { write })
}
