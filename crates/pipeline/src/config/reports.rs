//! `[reports]`: whether `keytrail run` writes reports.

use super::section::Section;

/// Its part of the template.
pub const TEMPLATE: &str = r#"
# Weekly reports, in reports/ of the data folder.
#
# write  `keytrail run` writes those of weeks that ended 36 hours ago, and amendments [default: true]
#[reports]
#write = true
"#;

/// Whether reports are written.
pub(super) fn write(top: &mut Section<'_, '_>) -> bool {
    top.section("reports", |section| section.flag("write")).unwrap_or(true)
}
