//! The Lambda function `sign-report`: see [`keytrail_lambdas::handlers::sign_report`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::sign_report::SignReport;

fn main() -> ExitCode {
    keytrail_lambdas::serve("sign-report", SignReport::of)
}
