//! The Lambda function `freeze-week`: see [`keytrail_lambdas::handlers::freeze_week`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::freeze_week::FreezeWeek;

fn main() -> ExitCode {
    keytrail_lambdas::serve("freeze-week", FreezeWeek::of)
}
