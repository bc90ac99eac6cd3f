//! The Lambda function `archive-events`: see [`keytrail_lambdas::handlers::archive_events`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::archive_events::ArchiveEvents;

fn main() -> ExitCode {
    keytrail_lambdas::serve("archive-events", ArchiveEvents::of)
}
