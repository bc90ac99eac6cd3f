//! The Lambda function `publish-report`: see [`keytrail_lambdas::handlers::publish_report`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::publish_report::PublishReport;

fn main() -> ExitCode {
    keytrail_lambdas::serve("publish-report", PublishReport::of)
}
