//! The Lambda function `seal-archive`: see [`keytrail_lambdas::handlers::seal_archive`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::seal_archive::SealArchive;

fn main() -> ExitCode {
    keytrail_lambdas::serve("seal-archive", SealArchive::of)
}
