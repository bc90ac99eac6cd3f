//! The Lambda function `assess-day`: see [`keytrail_lambdas::handlers::assess_day`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::assess_day::AssessDay;

fn main() -> ExitCode {
    keytrail_lambdas::serve("assess-day", AssessDay::of)
}
