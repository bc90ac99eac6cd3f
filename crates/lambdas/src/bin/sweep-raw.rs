//! The Lambda function `sweep-raw`: see [`keytrail_lambdas::handlers::sweep_raw`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::sweep_raw::SweepRaw;

fn main() -> ExitCode {
    keytrail_lambdas::serve("sweep-raw", SweepRaw::of)
}
