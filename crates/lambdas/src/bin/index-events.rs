//! The Lambda function `index-events`: see [`keytrail_lambdas::handlers::index_events`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::index_events::IndexEvents;

fn main() -> ExitCode {
    keytrail_lambdas::serve("index-events", IndexEvents::of)
}
