//! The Lambda function `publish-alerts`: see [`keytrail_lambdas::handlers::publish_alerts`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::publish_alerts::PublishAlerts;

fn main() -> ExitCode {
    keytrail_lambdas::serve("publish-alerts", PublishAlerts::of)
}
