//! The Lambda function `redrive-batches`: see [`keytrail_lambdas::handlers::redrive_batches`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::redrive_batches::RedriveBatches;

fn main() -> ExitCode {
    keytrail_lambdas::serve("redrive-batches", RedriveBatches::of)
}
