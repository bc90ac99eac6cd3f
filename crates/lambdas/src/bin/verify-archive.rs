//! The Lambda function `verify-archive`: see [`keytrail_lambdas::handlers::verify_archive`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::verify_archive::VerifyArchive;

fn main() -> ExitCode {
    keytrail_lambdas::serve("verify-archive", VerifyArchive::of)
}
